"""Layouts as files: every shipped one reads its miniature dataset, and what a YAML may say."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from data_trees import TREES, image_of, label_of, make_tree, nifti
from paths import ROOT

from benchmark.datasets.layouts import choose_layout, load_layout, packaged_layouts
from benchmark.datasets.source import Source, choose_source
from benchmark.protocol.schema import Patches, Phantom, Profile, Score, Split
from benchmark.stages import STAGES, Context
from vesselgan.data import VolumeStore, open_store
from vesselgan.data.layouts import BIDS
from vesselgan.errors import InputError

PROFILE = Profile(
    split=Split(train=2, validation=1, test=1),
    patch=(16, 16, 16),
    patches=Patches(grid=(1, 1, 1), vessel=2),
    phantom=Phantom(shape=(32, 32, 32)),
    score=Score(extractor="random_resnet10"),
)


def source_of(folder: Path, layout: str = "auto", **options: Any) -> Source:
    return choose_source("laptop", PROFILE, folder, layout, **options)


def prepared(source: Source, folder: Path) -> VolumeStore:
    """The store that a run would make of this source."""
    options = {
        "source": source.options,
        "recipe": {"pairing": "by_key"},
        "split": source.split,
        "patch": list(PROFILE.patch),
        "patches": PROFILE.patches.model_dump(mode="json"),
        "seed": 0,
    }
    folder.mkdir()
    STAGES["prepare"].run(Context(options, {}, {}, source.where, folder, lambda done, total, what: None))
    return open_store(folder / "store")


def refusals(action: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        action()
    return str(caught.value).splitlines()


def test_every_shipped_layout_has_a_miniature_dataset() -> None:
    assert packaged_layouts().keys() == TREES.keys()


@pytest.mark.parametrize("name", TREES)
def test_a_dataset_is_recognised_divided_and_stored_as_its_layout_says(name: str, tmp_path: Path) -> None:
    tree = make_tree(name, tmp_path / "data")
    assert choose_layout(tree.folder).name == name
    source = source_of(tree.folder)
    assert sorted(key for keys in source.split.values() for key in keys) == sorted(tree.labels)
    for split, keys in tree.splits.items():
        assert source.split[split] == keys
    assert (f"{tree.unlabelled} images without label" in source.description) == bool(tree.unlabelled)
    assert ("circle of Willis" in source.description) == (name == "topcow")
    store = prepared(source, tmp_path / "prepare")
    assert {subject.key for subject in store.subjects} == tree.labels.keys()
    for subject in store.subjects:
        np.testing.assert_array_equal(store.label(subject.key), tree.labels[subject.key])
        assert subject.has_mask == (name == "pegasus")
        spacing = (0.5, 0.5, 0.8) if name == "tubetk" else (0.5, 0.6, 0.7)
        assert subject.spacing_mm == pytest.approx(spacing, rel=1e-4)


@pytest.mark.parametrize("name", TREES)
def test_every_shipped_layout_states_its_licence_and_coverage(name: str) -> None:
    layout = load_layout(name)
    assert len(layout.licence) > 20
    assert layout.coverage in ("whole brain", "circle of Willis", "not stated")


def test_a_run_takes_the_splits_that_the_dataset_gives(tmp_path: Path) -> None:
    tree = make_tree("pegasus", tmp_path / "data")
    for seed in range(5):
        split = PROFILE.split.model_copy(update={"seed": seed})
        source = choose_source("laptop", PROFILE.model_copy(update={"split": split}), tree.folder)
        assert source.split == {"train": ["P1", "P2", "P5"], "validation": ["P3"], "test": ["P4"]}
    assert "as the dataset divides them" in source.description


def test_what_the_dataset_leaves_open_is_drawn_from_its_training_subjects(tmp_path: Path) -> None:
    tree = make_tree("costa", tmp_path / "data")
    validations = set()
    for seed in range(12):
        split = PROFILE.split.model_copy(update={"seed": seed})
        given = choose_source("laptop", PROFILE.model_copy(update={"split": split}), tree.folder).split
        assert given["test"] == ["LocH1_7"]
        validations.add(tuple(given["validation"]))
        scans = {"IXI012-HH", "IXI012-HH_2"}  # of one person
        assert any(scans <= set(keys) for keys in given.values())
    assert len(validations) > 1


def test_files_named_as_costas_are_not_costa_without_a_scan_of_its_own(tmp_path: Path) -> None:
    for number, key in enumerate(("IXI012-HH", "IXI013-HH", "IXI014-Guys")):
        nifti(tmp_path / f"imagesTr/{key}.nii.gz", image_of(number))
        nifti(tmp_path / f"labelsTr/{key}.nii.gz", label_of(number))
    chosen = choose_layout(tmp_path)
    assert (chosen.name, chosen.coverage) == ("msd", "not stated")


def test_scans_are_counted_apart_from_people(tmp_path: Path) -> None:
    assert "5 scans of 4 subjects" in source_of(make_tree("costa", tmp_path).folder).description


OWN = """\
layout: mine
title: A test
images: ["scans/{key}_tof.nii.gz"]
labels: ["vessels/{key}.nii.gz"]
licence: Mine.
"""


def own_dataset(folder: Path, values: tuple[int, ...] = (1,)) -> Path:
    for number in range(4):
        label = label_of(number).astype(np.uint8)
        label[label > 0] = np.resize(values, int(label.sum()))
        nifti(folder / f"data/scans/s{number}_tof.nii.gz", image_of(number))
        nifti(folder / f"data/vessels/s{number}.nii.gz", label)
    (folder / "mine.yaml").write_text(OWN)
    return folder / "data"


def test_a_layout_is_added_without_code(tmp_path: Path) -> None:
    data = own_dataset(tmp_path)
    source = source_of(data, str(tmp_path / "mine.yaml"))
    store = prepared(source, tmp_path / "prepare")
    np.testing.assert_array_equal(store.label("s2"), label_of(2))
    assert "(layout mine)" in source.description


def test_a_label_map_says_which_values_are_vessels(tmp_path: Path) -> None:
    data = own_dataset(tmp_path, (3, 5, 9))
    plain = source_of(data, str(tmp_path / "mine.yaml"))
    lines = refusals(lambda: prepared(plain, tmp_path / "plain"))
    assert len(lines) == 4
    assert "s0.nii.gz: values 0, 3, 5, 9; a mask holds exactly two" in lines[0]
    (tmp_path / "mine.yaml").write_text(OWN + "vessels: {3: artery, 9: vein}\nbackground: {0: none, 5: bone}\n")
    mapped = source_of(data, str(tmp_path / "mine.yaml"))
    store = prepared(mapped, tmp_path / "mapped")
    expected = np.asarray(nibabel.load(data / "vessels/s1.nii.gz").dataobj)
    np.testing.assert_array_equal(store.label("s1"), np.isin(expected, (3, 9)))
    assert plain.options != mapped.options, "another meaning of the labels is another stage"
    (tmp_path / "mine.yaml").write_text(OWN + "vessels: {3: artery, 9: vein}\n")
    unknown = source_of(data, str(tmp_path / "mine.yaml"))
    assert "label map has no 5" in refusals(lambda: prepared(unknown, tmp_path / "unknown"))[0]


def test_another_voxel_size_is_another_stage(tmp_path: Path) -> None:
    data = own_dataset(tmp_path)
    layout = str(tmp_path / "mine.yaml")
    plain, coarse = source_of(data, layout), source_of(data, layout, spacing_mm=(0.6, 0.6, 0.7))
    assert plain.options != coarse.options
    assert "resampled to 0.6 x 0.6 x 0.7 mm" in coarse.description
    store = prepared(coarse, tmp_path / "prepare")
    for subject in store.subjects:
        assert subject.spacing_mm == pytest.approx((0.6, 0.6, 0.7))
        assert subject.shape == (17, 22, 18)
    (tmp_path / "mine.yaml").write_text(OWN + "spacing_mm: [0.6, 0.6, 0.7]\n")
    assert source_of(data, layout).options == coarse.options, "the same, said in the layout"


def test_plain_data_keep_their_stage_key_whatever_the_layout_is_called(tmp_path: Path) -> None:
    data = own_dataset(tmp_path)
    source = source_of(data, str(tmp_path / "mine.yaml"))
    assert source.options.keys() == {"files"}
    (tmp_path / "mine.yaml").write_text(OWN.replace("mine", "other").replace("Mine.", "Theirs."))
    assert source_of(data, str(tmp_path / "mine.yaml")).options == source.options


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("licence:", "license: x\nlicence:", "5:1: license: unknown key, did you mean 'licence'?"),
        ("licence: Mine.", "", "1:1: licence: is required"),
        ("{key}_tof", "tof", "3:10: images.0: a pattern holds {key}"),
        ("{key}_tof", "{key}_{phase}", "3:10: images.0: a pattern holds {key}"),
        ("scans/", "/scans/", "3:10: images.0: a pattern is a path within the dataset"),
        ("scans/", "../scans/", "3:10: images.0: a pattern is a path within the dataset"),
        ("scans/", "**/", "3:10: images.0: a pattern is a path within the dataset"),
        ("_tof.nii.gz", "_tof.dcm", "3:10: images.0: a pattern ends in .nii, .nii.gz, .hdr, .mha, .mhd"),
        ("scans/", "{split}/", "3:10: images.0: has {split}, so 'splits' must say what its names mean"),
        ("licence", "splits: {dev: development}\nlicence", "5:10: splits.dev: input should be 'train', 'validation'"),
        ("licence", "vessels: {1.5: x}\nlicence", "5:1: vessels.1.5: input should be a valid integer"),
        ("licence", "vessels: {0: lumen}\nlicence", "background.0: is a vessel, too"),
        ("licence", "key: '['\nlicence", "5:1: key: is no regular expression"),
        ("licence", "coverage: brain\nlicence", "5:1: coverage: input should be 'whole brain', 'circle of Willis'"),
        ("licence", "spacing_mm: [0.5, 0, 1]\nlicence", "5:19: spacing_mm.1: input should be greater than 0"),
    ],
)
def test_a_layout_that_is_wrong_is_told_with_line_and_column(old: str, new: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.replace(old, new))
    (line,) = refusals(lambda: load_layout(str(path)))
    assert line.removeprefix(f"{path}:").startswith(expected) or expected in line


def test_an_unknown_layout_names_the_known_ones() -> None:
    (line,) = refusals(lambda: load_layout("dicom"))
    names = "auto, bids, costa, folders, ixi, msd, nnunet, pegasus, smile-uhura, topbrain, topcow, tubetk"
    assert f"{names}, or a YAML file" in line


def test_without_a_known_layout_all_that_were_tried_are_listed(tmp_path: Path) -> None:
    (line,) = refusals(lambda: choose_layout(tmp_path))
    for expected in ("nnunet: images{split}/{key}_0000.nii.gz", "pegasus: {key}/001_img_denoised.nii.gz"):
        assert expected in line


def test_files_of_two_layouts_are_not_guessed_at(tmp_path: Path) -> None:
    make_tree("nnunet", tmp_path)
    make_tree("pegasus", tmp_path)
    (line,) = refusals(lambda: choose_layout(tmp_path))
    assert "several layouts (nnunet, pegasus); name one with --layout" in line
    assert choose_layout(tmp_path, "nnunet").name == "nnunet"


def test_the_layout_that_says_more_of_the_same_files_is_taken(tmp_path: Path) -> None:
    """Equal names in images and labels fit `folders`, too."""
    for number, key in enumerate(("IXI001-HH-1-MRA", "IXI002-HH-2-MRA", "IXI003-HH-3-MRA")):
        nifti(tmp_path / f"images/{key}.nii.gz", image_of(number))
        nifti(tmp_path / f"labels/{key}.nii.gz", label_of(number))
    assert choose_layout(tmp_path).name == "ixi"
    nifti(tmp_path / "images/phantom.nii.gz", image_of(7))
    nifti(tmp_path / "labels/phantom.nii.gz", label_of(7))
    assert choose_layout(tmp_path).name == "folders", "which alone has every pair"


def test_the_readmes_example_is_a_layout(tmp_path: Path) -> None:
    readme = (ROOT / "docs/your-data.md").read_text(encoding="utf-8")
    (text,) = [block for block in readme.split("```yaml\n") if block.startswith("layout:")]
    path = tmp_path / "mine.yaml"
    path.write_text(text.partition("```")[0], encoding="utf-8")
    layout = load_layout(str(path)).layout
    assert layout.vessels == (3, 4, 5, 6)
    assert layout.splits == {"Tr": "train", "Ts": "test"}


def test_a_range_of_values_is_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN + "vessels: {1-3: artery, 7: vein}\nbackground: {0: none, 4-6: bone}\n")
    layout = load_layout(str(tmp_path / "mine.yaml")).layout
    assert (layout.vessels, layout.background) == ((1, 2, 3, 7), (0, 4, 5, 6))
    (tmp_path / "mine.yaml").write_text(OWN + "vessels: {1-3: artery, 2: vein}\n")
    assert "2 is named twice" in refusals(lambda: load_layout(str(tmp_path / "mine.yaml")))[0]
    (tmp_path / "mine.yaml").write_text(OWN + "vessels: {3-1: artery}\n")
    assert "from the lower value to the higher one" in refusals(lambda: load_layout(str(tmp_path / "mine.yaml")))[0]


def nnunet_of_classes(folder: Path, values: tuple[int, ...]) -> Path:
    for number in range(4):
        classes = np.zeros(label_of(number).shape, np.uint8)
        classes[label_of(number)] = np.resize(values, int(label_of(number).sum()))
        for channel in range(2):
            nifti(folder / f"imagesTr/c{number}_000{channel}.nii.gz", image_of(10 * channel + number))
        nifti(folder / f"labelsTr/c{number}.nii.gz", classes)
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "artery": 1, "vein": 2, "ignore": 3},
        {"0": "background", "1": "artery", "2": "vein"},
        {"background": 0, "vessel": [1, 2], "vein": 2},
    ],
)
def test_nnunets_description_says_which_values_are_vessels(labels: dict[str, Any], tmp_path: Path) -> None:
    folder = nnunet_of_classes(tmp_path / "data", (1, 2))
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "TOF", "1": "T1"}}))
    source = source_of(folder)
    assert "values 1, 2 of its labels are vessels, as its dataset.json says" in source.description
    np.testing.assert_array_equal(prepared(source, tmp_path / "prepare").label("c1"), label_of(1))


def test_classes_that_are_no_vessels_beside_vessels_are_asked_about(tmp_path: Path) -> None:
    folder = nnunet_of_classes(tmp_path / "data", (1, 2))
    labels = {"background": 0, "vessel": 1, "tumour": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "TOF"}}))
    (line,) = refusals(lambda: source_of(folder))
    assert "are 2: tumour vessels as 1: vessel is?" in line
    assert line.endswith("with vessels: {1: vessel} and background: {0: background, 2: tumour}")
    labels = {"background": 0, "BA": 1, "R-PCA": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "TOF"}}))
    assert "values 1, 2 of its labels are vessels" in source_of(folder).description


def test_voxels_to_ignore_are_refused(tmp_path: Path) -> None:
    folder = nnunet_of_classes(tmp_path / "data", (1, 2, 3))
    labels = {"background": 0, "artery": 1, "vein": 2, "ignore": 3}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "TOF"}}))
    lines = refusals(lambda: prepared(source_of(folder), tmp_path / "prepare"))
    assert "label map has no 3" in lines[0]


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_of_several_channels_the_angiography_is_the_image(key: str, tmp_path: Path) -> None:
    folder = nnunet_of_classes(tmp_path / "data", (1,))
    (folder / "dataset.json").write_text(json.dumps({key: {"0": "T1", "1": "TOF-MRA"}}))
    store = prepared(source_of(folder), tmp_path / "prepare")
    np.testing.assert_array_equal(store.image("c2"), image_of(12))
    (folder / "dataset.json").write_text(json.dumps({key: {"0": "T1", "1": "T2"}}))
    assert "name one of them TOF" in refusals(lambda: source_of(folder))[0]
    (folder / "dataset.json").write_text("[1, 2")
    assert "dataset.json: is no description of a dataset" in refusals(lambda: source_of(folder))[0]


def test_a_dataset_one_folder_deeper_is_pointed_to(tmp_path: Path) -> None:
    make_tree("nnunet", tmp_path / "Dataset001")
    (line,) = refusals(lambda: choose_layout(tmp_path))
    assert line == f"{tmp_path}: no dataset, but {tmp_path / 'Dataset001'} seems to be one; give that folder"


def test_folders_of_patches_and_of_scans_agree_on_what_bids_is() -> None:
    assert load_layout("bids").layout == BIDS


def test_several_scans_of_a_person_are_one_person_in_plan_and_store(tmp_path: Path) -> None:
    source = source_of(make_tree("bids", tmp_path / "data").folder)
    twice = {"sub-3_ses-a": "sub-3", "sub-3_ses-b_acq-tof_run-1": "sub-3"}
    assert source.options["persons"] == twice
    store = prepared(source, tmp_path / "prepare")
    numbers = {subject.key: number for number, subject in enumerate(store.subjects)}
    for key, number in numbers.items():
        assert store.people[number] == numbers["sub-3_ses-a" if key in twice else key]
    (split,) = {split for split, keys in source.split.items() if twice.keys() & set(keys)}
    assert sorted(key for scans in source.people(split) for key in scans) == source.split[split]
    assert list(twice) in source.people(split)
    assert "persons" not in source_of(make_tree("nnunet", tmp_path / "others").folder).options


def test_a_layout_says_what_nan_becomes(tmp_path: Path) -> None:
    data = own_dataset(tmp_path)
    for number in range(4):
        image = image_of(number).astype(np.float32)
        image[:3] = np.nan
        nifti(data / f"scans/s{number}_tof.nii.gz", image)
    refused = refusals(lambda: prepared(source_of(data, str(tmp_path / "mine.yaml")), tmp_path / "refused"))
    assert "or say what they become: nan: 0 in a layout" in refused[0]
    (tmp_path / "mine.yaml").write_text(OWN + "nan: -5\n")
    image = prepared(source_of(data, str(tmp_path / "mine.yaml")), tmp_path / "prepare").image("s1")
    assert (image[:3] == -5).all()
    np.testing.assert_array_equal(image[3:], image_of(1)[3:])


def test_nnunets_description_says_which_files_count(tmp_path: Path) -> None:
    folder = nnunet_of_classes(tmp_path / "data", (1,))
    for number in range(4):  # what a converter left beside the files
        nifti(folder / f"imagesTr/c{number}_0000.nii", image_of(30 + number))
        nifti(folder / f"labelsTr/c{number}.nii", label_of(0))
    assert "keep one of the two" in refusals(lambda: source_of(folder))[0]
    (folder / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    store = prepared(source_of(folder), tmp_path / "prepare")
    np.testing.assert_array_equal(store.image("c2"), image_of(2))
    (folder / "dataset.json").write_text(json.dumps({"file_ending": ".png"}))
    assert "file_ending '.png': is read in none of these files (.nii.gz," in refusals(lambda: source_of(folder))[0]
    (folder / "dataset.json").write_text(json.dumps({"file_ending": ".mha"}))
    assert "file_ending .mha, but no file of the images has it" in refusals(lambda: source_of(folder))[0]
