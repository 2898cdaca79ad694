"""Dataset folders of labelled patches: their conventions, their headers, and what interruptions leave."""

import json
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bids_validator import BIDSValidator

from benchmark.datasets.layouts import choose_layout
from vesselgan.data import find_subjects, load_mask, load_subject, load_volume
from vesselgan.data.patch_folder import open_patches
from vesselgan.errors import InputError
from vesselgan.export import (
    About,
    BidsLayout,
    Intensities,
    Layout,
    NnunetLayout,
    NpzLayout,
    Pairs,
    PairSource,
    VolumeEncoder,
    write_dataset,
)

SHAPE, SPACING = (16, 12, 8), (0.5, 0.6, 0.8)
SCALE = Intensities(10, 410)
ABOUT = About("Made up", "Patches of a test", "CC0", "nobody 2022", "0.1")
COUNT, BATCH = 11, 4
SHEET = {"pairs": COUNT, "seed": 0, "nested": {"spacing": [0.5, 0.6, 0.8]}}


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush waits for all that the machine is writing, which is nothing of these tests."""
    monkeypatch.setattr("os.sync", lambda: None)


def layout(name: str) -> Layout:
    if name == "npz":
        return NpzLayout(ABOUT, SHAPE, SCALE.dtype)
    volumes = VolumeEncoder(SHAPE, SCALE.dtype, SPACING, "synthetic, of a test")
    return NnunetLayout(ABOUT, volumes) if name == "nnunet" else BidsLayout(ABOUT, volumes)


def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(index)
    label = np.zeros(SHAPE, dtype=bool)
    label[2 + index % 5, 3:9, 4] = True
    return SCALE.stored(rng.uniform(-1, 1, SHAPE).astype(np.float32)), label


def make(pairs: range) -> Pairs:
    assert pairs.start % BATCH == 0
    images, labels = zip(*map(pair, pairs), strict=True)
    return np.stack(images), np.stack(labels)


def write(folder: Path, name: str, making: Callable[[range], Pairs] = make, **more: Any) -> int:
    options = {"sheet": SHEET, "count": COUNT, "batch": BATCH, "workers": 2, "extra": {"datasheet.md": b"# Made up\n"}}
    options |= more
    source = PairSource(making, *(options.pop(key) for key in ("count", "batch", "workers")))
    return write_dataset(folder, layout(name), source, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LAYOUTS = pytest.mark.parametrize("name", ["nnunet", "bids", "npz"])


@LAYOUTS
def test_checksums_are_those_of_coreutils_and_cover_every_file(tmp_path: Path, name: str) -> None:
    assert write(tmp_path, name) == COUNT
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    listed = [line.split("  ")[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    assert sorted(listed) == sorted(contents(tmp_path).keys() - {"SHA256SUMS"})
    assert not (tmp_path / "UNFINISHED").exists()


@LAYOUTS
def test_an_interrupted_call_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, name: str) -> None:
    write(tmp_path / "whole", name, count=150)

    def breaks(pairs: range) -> Pairs:
        if 140 in pairs:
            raise KeyboardInterrupt
        return make(pairs)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "broken", name, breaks, count=150)
    there = contents(tmp_path / "broken")
    assert not {"SHA256SUMS", "dataset.json", "dataset_description.json", "datasheet.json"} & there.keys()
    assert "UNFINISHED/datasheet.json" in there
    written = write(tmp_path / "broken", name, count=150)
    assert 0 < written < 150  # so something was kept
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert write(tmp_path / "broken", name, count=150) == 0


@LAYOUTS
def test_a_finished_dataset_grows_to_the_bytes_that_it_would_have_had(tmp_path: Path, name: str) -> None:
    """Also where the call that lets it grow is stopped."""
    sheet = {count: SHEET | {"pairs": count} for count in (COUNT, 150)}
    write(tmp_path / "whole", name, sheet=sheet[150], count=150)
    write(tmp_path / "grown", name, sheet=sheet[COUNT])

    def breaks(pairs: range) -> Pairs:
        assert pairs.start >= COUNT - COUNT % BATCH or name == "npz", "what is whole is not made again"
        if 140 in pairs:
            raise KeyboardInterrupt
        return make(pairs)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "grown", name, breaks, sheet=sheet[150], count=150)
    assert not (tmp_path / "grown/SHA256SUMS").exists()
    write(tmp_path / "grown", name, sheet=sheet[150], count=150)
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    with pytest.raises(InputError, match=f"pairs is 150 there, not {COUNT}"):
        write(tmp_path / "grown", name, sheet=sheet[COUNT])


def test_a_file_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    def breaks(pairs: range) -> Pairs:
        if pairs.start == 8:
            raise KeyboardInterrupt
        return make(pairs)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", "nnunet", breaks)
    victim = tmp_path / "cut/labelsTr/syn_00006.nii.gz"
    victim.write_bytes(victim.read_bytes()[:20])
    (tmp_path / "cut/UNFINISHED/part--left behind").write_bytes(b"half")
    assert write(tmp_path / "cut", "nnunet") == COUNT - BATCH
    write(tmp_path / "whole", "nnunet")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_another_generators_folder_is_refused_for_that_and_not_for_its_number(tmp_path: Path) -> None:
    write(tmp_path, "nnunet", sheet={"pairs": COUNT, "generator": {"name": "a"}})
    with pytest.raises(InputError, match=r'generator\.name is "a" there, not "b"'):
        write(tmp_path, "nnunet", sheet={"pairs": 150, "generator": {"name": "b"}}, count=150)


@pytest.mark.parametrize("finished", [True, False])
def test_another_dataset_is_refused_by_the_value_that_differs(tmp_path: Path, finished: bool) -> None:
    def stops(pairs: range) -> Pairs:
        raise KeyboardInterrupt

    if finished:
        write(tmp_path, "nnunet")
    else:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, "nnunet", stops)
    before = contents(tmp_path)
    other = {**SHEET, "nested": {"spacing": [1, 1, 1]}}
    with pytest.raises(InputError, match=r"nested.spacing is \[0.5, 0.6, 0.8\] there, not \[1, 1, 1\]"):
        write(tmp_path, "nnunet", sheet=other)
    assert contents(tmp_path) == before


def test_a_folder_of_other_files_and_one_that_is_being_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        write(tmp_path / "other", "npz")
    with pytest.raises(InputError, match=r"thesis\.tex: is a file"):
        write(tmp_path / "other/thesis.tex", "npz")

    def meanwhile(pairs: range) -> Pairs:
        with pytest.raises(InputError, match="another process is writing there"):
            write(tmp_path / "mine", "npz")
        return make(pairs)

    write(tmp_path / "mine", "npz", meanwhile)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"batch": 0}, {"workers": 0}])
def test_nothing_to_do_is_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        write(tmp_path / "new", "npz", **wrong)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The kernel lets no file grow beyond 1500 bytes, as on a disk that is full."""
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_takes_no_more_is_told_in_one_line_and_nothing_half_counts(
    tmp_path: Path, small_files_only: None
) -> None:
    with pytest.raises(InputError, match=r"_0000\.nii\.gz: File too large; once that is mended") as caught:
        write(tmp_path / "full", "nnunet")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "full/imagesTr").glob("*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert write(tmp_path / "full", "nnunet") == COUNT


@LAYOUTS
def test_few_pairs_are_in_memory_at_a_time(tmp_path: Path, name: str) -> None:
    """Steps are asked for only as earlier ones are written."""
    asked: list[int] = []
    seen: list[int] = []

    def watched(pairs: range) -> Pairs:
        asked.append(pairs.stop)
        return make(pairs)

    def progress(done: int) -> None:
        seen.append(max(asked, default=0) - done)

    write(tmp_path, name, watched, count=1000, progress=progress)
    assert max(seen) <= 5 * layout(name).pairs_at_once(BATCH)


# Headers ---------------------------------------------------------------------------------------------------------


def test_headers_say_where_the_voxels_are_and_that_they_are_synthetic(tmp_path: Path) -> None:
    write(tmp_path, "nnunet")
    for part, name, dtype in (("imagesTr", "syn_00003_0000", np.int16), ("labelsTr", "syn_00003", np.uint8)):
        image = nib.load(tmp_path / part / f"{name}.nii.gz")
        header = image.header
        assert header["descrip"].item().startswith(b"synthetic")
        assert header.get_data_dtype() == dtype
        assert header.get_slope_inter() == (1.0, 0.0) or header.get_slope_inter() == (None, None)
        assert header.get_xyzt_units() == ("mm", "unknown")
        assert header.get_zooms() == pytest.approx(SPACING)
        qform, sform = image.get_qform(coded=True), image.get_sform(coded=True)
        assert qform[1] == sform[1] == 1
        np.testing.assert_allclose(qform[0], sform[0], atol=1e-6)
        middle = image.affine @ [*(np.array(SHAPE) - 1) / 2, 1]
        np.testing.assert_allclose(middle, [0, 0, 0, 1], atol=1e-6)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    image, label = pair(2)
    np.testing.assert_array_equal(load_volume(tmp_path / "imagesTr/syn_00003_0000.nii.gz").data, image)
    np.testing.assert_array_equal(load_mask(tmp_path / "labelsTr/syn_00003.nii.gz").data, label)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, 1), (1, 1, float("nan")), (400, 400, 800)])
def test_an_absurd_voxel_size_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="voxel size"):
        VolumeEncoder(SHAPE, np.dtype(np.int16), spacing, "")


def test_intensities_are_whole_numbers_where_these_are_fine_enough() -> None:
    images = np.array([-1, 0, 0.5, 1], dtype=np.float32)
    assert Intensities(2, 402).stored(images).tolist() == [2, 202, 302, 402]
    assert Intensities(2, 402).dtype == np.int16
    for fine in (Intensities(0, 1), Intensities(0, 40_000)):
        assert fine.dtype == np.float32
        np.testing.assert_allclose(fine.stored(images), np.array([0, 0.5, 0.75, 1]) * fine.white)
    for black, white in ((1, 1), (2, 1), (0, float("inf"))):
        with pytest.raises(InputError, match="black below white"):
            Intensities(black, white)


# Conventions -----------------------------------------------------------------------------------------------------


def test_nnunet_folders_keep_its_rules(tmp_path: Path) -> None:
    """What nnU-Net v2's documentation and its integrity check ask of a raw dataset."""
    write(tmp_path, "nnunet")
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "TOF-MRA"}
    assert described["labels"] == {"background": 0, "vessel": 1}
    assert described["file_ending"] == ".nii.gz"
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (tmp_path / "labelsTr").iterdir())
    assert described["numTraining"] == len(cases) == COUNT
    images = sorted(path.name for path in (tmp_path / "imagesTr").iterdir())
    assert images == [f"{case}_0000.nii.gz" for case in cases]
    for case in cases:
        image, label = (
            nib.load(tmp_path / f"imagesTr/{case}_0000.nii.gz"),
            nib.load(tmp_path / f"labelsTr/{case}.nii.gz"),
        )
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert set(np.unique(np.asarray(label.dataobj))) <= set(described["labels"].values())


def test_our_own_reader_takes_an_nnunet_folder(tmp_path: Path) -> None:
    write(tmp_path, "nnunet")
    found = choose_layout(tmp_path)
    assert found.name == "nnunet"
    subjects = [load_subject(subject) for subject in find_subjects(tmp_path, found.layout)]
    assert len(subjects) == COUNT
    for index, subject in enumerate(subjects):
        np.testing.assert_array_equal(subject.image, pair(index)[0])
        np.testing.assert_array_equal(subject.label, pair(index)[1])
        assert subject.spacing_mm == pytest.approx(SPACING)


def test_our_own_reader_takes_shards(tmp_path: Path) -> None:
    write(tmp_path, "npz", count=150)
    assert [path.name for path in sorted(tmp_path.glob("*.npz"))] == [
        "pairs_00001.npz",
        "pairs_00065.npz",
        "pairs_00129.npz",
    ]
    patches = open_patches(tmp_path, "--generated", intensity_range=(SCALE.black, SCALE.white), labelled=True)
    assert (patches.count, patches.shape, patches.subjects) == (150, SHAPE, None)
    index = 0
    for batch in patches.batches(16):
        for image, label in zip(batch.images, batch.labels, strict=True):
            stored, expected = pair(index)
            np.testing.assert_array_equal(SCALE.stored(image), stored)
            np.testing.assert_array_equal(label, expected)
            index += 1
    assert np.load(tmp_path / "pairs_00065.npz")["index"].tolist() == list(range(64, 128))


def test_shards_of_large_patches_hold_fewer() -> None:
    assert NpzLayout(ABOUT, (128, 128, 64), np.dtype(np.int16)).pairs_at_once(4) == 8
    assert NpzLayout(ABOUT, (128, 128, 64), np.dtype(np.int16)).pairs_at_once(100) == 100
    assert NpzLayout(ABOUT, (32, 32, 16), np.dtype(np.int16)).pairs_at_once(24) == 48


RAW_NAME = re.compile(r"(sub-[0-9a-zA-Z]+)/anat/\1_angio\.(nii\.gz|json)")
MASK_NAME = re.compile(r"derivatives/labels/(sub-[0-9a-zA-Z]+)/anat/\1_desc-[0-9a-zA-Z]+_mask\.(nii\.gz|json)")


def test_bids_folders_keep_its_rules(tmp_path: Path) -> None:
    """The specification's rules on names, sidecars, participants and descriptions."""
    write(tmp_path, "bids")
    found = contents(tmp_path)
    raw = [path for path in found if RAW_NAME.fullmatch(path)]
    masks = [path for path in found if MASK_NAME.fullmatch(path)]
    assert len(raw) == len(masks) == 2 * COUNT
    top = {".bidsignore", "README.md", "SHA256SUMS", "dataset_description.json", "datasheet.json", "datasheet.md"}
    top |= {"participants.json", "participants.tsv"}
    inside = {"derivatives/labels/README.md", "derivatives/labels/dataset_description.json"}
    assert found.keys() - {*raw, *masks} == top | inside

    described = json.loads(found["dataset_description.json"])
    assert described["DatasetType"] == "raw"
    labels = json.loads(found["derivatives/labels/dataset_description.json"])
    assert labels["DatasetType"] == "derivative"
    assert labels["GeneratedBy"][0]["Name"] == "vesselgan-benchmark"  # required of derivatives
    for description in (described, labels):
        assert description["Name"]
        assert re.fullmatch(r"1\.\d+\.\d+", description["BIDSVersion"])
        assert description["License"] == "CC0"
    header, *rows = found["participants.tsv"].decode().splitlines()
    assert header.split("\t") == list(json.loads(found["participants.json"]))
    assert [row.split("\t")[0] for row in rows] == sorted({path.split("/")[0] for path in raw})
    for path in masks:
        if path.endswith(".json"):
            sidecar = json.loads(found[path])
            kind, name, source = sidecar["Sources"][0].split(":")
            assert (kind, source) == ("bids", f"{path.split('/')[2]}/anat/{path.split('/')[2]}_angio.nii.gz")
            assert (tmp_path / "derivatives/labels" / labels["DatasetLinks"][name] / source).is_file()
            assert sidecar["Type"] == "ROI"


def test_bids_own_validator_takes_every_name(tmp_path: Path) -> None:
    validator = BIDSValidator()
    write(tmp_path, "bids")
    names = [path for path in contents(tmp_path) if not path.startswith((".", "datasheet", "SHA256SUMS"))]
    assert [name for name in names if not validator.is_bids(f"/{name}")] == []
