"""Finding, checking and splitting the subjects of a dataset, on generated miniature trees."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from vesselgan.data import Layout, Subject, complete_split, find_subjects, load_subject, save_volume, split_subjects
from vesselgan.errors import InputError

NNUNET = Layout(
    "nnunet",
    ("images{split}/{key}_0000.nii.gz", "images{split}/{key}_0000.nii"),
    ("labels{split}/{key}.nii.gz",),
    ("masks{split}/{key}.nii.gz",),
    splits={"Tr": "train", "Ts": "test"},
)
BY_PATIENT = Layout(
    "by patient",
    ("{key}/image.nii.gz", "{split}/{key}/image.nii.gz"),
    ("{key}/label.nii.gz", "{split}/{key}/label.nii.gz"),
    splits={"train": "train", "val": "validation", "test": "test"},
)
AFFINE = np.diag([0.5, 0.5, 0.7, 1.0])
SHAPE = (6, 7, 8)


def image_at(path: Path, shape=SHAPE, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(path, np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine)
    return path


def mask_at(path: Path, shape=SHAPE, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(shape, bool)
    mask[2:4, 3, 1:5] = True
    save_volume(path.with_name(path.name.removesuffix(".gz") + ".gz"), mask, affine)
    return path


def nnunet_tree(folder: Path, keys=("b", "a")) -> Path:
    for key in keys:
        image_at(folder / f"imagesTr/{key}_0000.nii.gz")
        mask_at(folder / f"labelsTr/{key}.nii.gz")
    (folder / "dataset.json").write_text("{}")
    return folder


def refused(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nnunet_subjects_are_found_in_order_of_their_keys(tmp_path):
    subjects = find_subjects(nnunet_tree(tmp_path), NNUNET)
    assert [subject.key for subject in subjects] == ["a", "b"]
    assert subjects[0].image == tmp_path / "imagesTr/a_0000.nii.gz"
    assert subjects[0].label == tmp_path / "labelsTr/a.nii.gz"
    assert subjects[0].mask is None


def test_nnunet_brain_masks_are_optional_for_each_subject(tmp_path):
    mask_at(nnunet_tree(tmp_path) / "masksTr/b.nii.gz")
    first, second = find_subjects(tmp_path, NNUNET)
    assert first.mask is None
    assert second.mask == tmp_path / "masksTr/b.nii.gz"
    assert load_subject(second).mask.sum() == 8


def test_what_file_managers_leave_behind_is_no_subject(tmp_path):
    nnunet_tree(tmp_path)
    (tmp_path / "imagesTr/._a_0000.nii.gz").write_bytes(b"")
    assert len(find_subjects(tmp_path, NNUNET)) == 2


def test_a_missing_folder_says_how_to_point_to_data(tmp_path):
    message = refused(lambda: find_subjects(tmp_path / "absent", NNUNET))
    assert str(tmp_path / "absent") in message
    assert "give the path of a folder of labelled scans" in message


def test_a_folder_without_such_files_names_the_layout(tmp_path):
    assert "no files in the layout nnunet (images{split}/{key}_0000.nii.gz with" in refused(
        lambda: find_subjects(tmp_path, NNUNET)
    )


def test_an_image_without_label_is_named_with_its_subject(tmp_path):
    image = image_at(nnunet_tree(tmp_path) / "imagesTr/c_0000.nii.gz")
    message = refused(lambda: find_subjects(tmp_path, NNUNET))
    assert str(image) in message
    assert "no label of subject 'c'" in message


@pytest.mark.parametrize("folder", ["labelsTr", "masksTr"])
def test_a_label_or_mask_without_image_is_named_with_its_subject(tmp_path, folder):
    mask = mask_at(nnunet_tree(tmp_path) / folder / "c.nii.gz")
    message = refused(lambda: find_subjects(tmp_path, NNUNET))
    assert str(mask) in message
    assert "no image of subject 'c'" in message


@pytest.mark.parametrize("split", ["", "train/"])
def test_subjects_are_found_with_and_without_a_split_folder(tmp_path, split):
    for key in ("P02", "P01"):
        image_at(tmp_path / f"{split}{key}/image.nii.gz")
        mask_at(tmp_path / f"{key}/label.nii.gz")
    subjects = find_subjects(tmp_path, BY_PATIENT)
    assert [subject.key for subject in subjects] == ["P01", "P02"]
    assert [subject.split for subject in subjects] == ([None] * 2 if not split else ["train"] * 2)


def test_a_subject_in_two_splits_is_refused_with_both_files(tmp_path):
    for split in ("train", "test"):
        image_at(tmp_path / split / "P01/image.nii.gz")
    mask_at(tmp_path / "train/P01/label.nii.gz")
    message = refused(lambda: find_subjects(tmp_path, BY_PATIENT))
    assert "is in two splits" in message
    assert str(tmp_path / "train/P01") in message
    assert str(tmp_path / "test/P01") in message


def test_scans_of_one_person_in_two_splits_are_refused(tmp_path):
    layout = Layout(
        "ixi",
        ("{split}/{key}_image.nii.gz",),
        ("{split}/{key}_label.nii.gz",),
        subject=r"IXI\d+",
        splits={"train": "train", "test": "test"},
    )
    for split, key in (("train", "IXI001_first"), ("test", "IXI001_second"), ("test", "IXI002_first")):
        image_at(tmp_path / split / f"{key}_image.nii.gz")
        mask_at(tmp_path / split / f"{key}_label.nii.gz")
    message = refused(lambda: find_subjects(tmp_path, layout))
    assert "subject 'IXI001' is in two splits, test here and train in" in message


def test_a_folder_that_is_no_split_is_refused(tmp_path):
    image_at(tmp_path / "fold1/P01/image.nii.gz")
    mask_at(tmp_path / "train/P01/label.nii.gz")
    with pytest.raises(InputError, match=r"'fold1' is no split of the layout by patient \(train, val, test\)"):
        find_subjects(tmp_path, BY_PATIENT)


def test_images_of_a_test_set_without_any_label_are_passed_over(tmp_path):
    image_at(nnunet_tree(tmp_path) / "imagesTs/c_0000.nii.gz")
    assert [subject.key for subject in find_subjects(tmp_path, NNUNET)] == ["a", "b"]
    mask_at(tmp_path / "labelsTs/d.nii.gz")
    image_at(tmp_path / "imagesTs/d_0000.nii.gz")
    assert "no label of subject 'c'" in refused(lambda: find_subjects(tmp_path, NNUNET))


def test_every_problem_of_names_is_told_at_once(tmp_path):
    nnunet_tree(tmp_path)
    image_at(tmp_path / "imagesTr/c_0000.nii.gz")
    mask_at(tmp_path / "labelsTr/d.nii.gz")
    with pytest.raises(InputError) as caught:
        find_subjects(tmp_path, NNUNET)
    assert len(str(caught.value).splitlines()) == 2


def test_links_that_lead_in_circles_end(tmp_path):
    nnunet_tree(tmp_path)
    (tmp_path / "imagesTr/again").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_subjects(tmp_path, NNUNET)) == 2
    (tmp_path / "imagesTr/c_0000.nii.gz").symlink_to(tmp_path / "imagesTr/c_0000.nii.gz")
    mask_at(tmp_path / "labelsTr/c.nii.gz")
    subject = find_subjects(tmp_path, NNUNET)[2]
    assert "the link leads to itself or nowhere" in refused(lambda: load_subject(subject))
    by_patient = tmp_path / "patients"
    image_at(by_patient / "P01/image.nii.gz")
    mask_at(by_patient / "P01/label.nii.gz")
    (by_patient / "train").symlink_to(by_patient, target_is_directory=True)
    with pytest.raises(InputError, match=r"train/P01/image.nii.gz: subject 'P01' has .*P01/image.nii.gz already"):
        find_subjects(by_patient, BY_PATIENT)


def test_every_bad_file_of_a_subject_is_told(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    (tmp_path / "imagesTr/a_0000.nii.gz").write_text("hello")
    (tmp_path / "labelsTr/a.nii.gz").write_text("hello")
    with pytest.raises(InputError) as caught:
        load_subject(find_subjects(tmp_path, NNUNET)[0])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / "imagesTr/a_0000.nii.gz"),
        str(tmp_path / "labelsTr/a.nii.gz"),
    ]


def test_a_constant_image_is_refused(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    save_volume(tmp_path / "imagesTr/a_0000.nii.gz", np.full(SHAPE, 7, np.int16), AFFINE)
    assert "every voxel is 7" in refused(lambda: load_subject(find_subjects(tmp_path, NNUNET)[0]))


@pytest.mark.parametrize("folder", ["labelsTr", "masksTr"])
def test_a_label_or_mask_of_another_shape_is_refused(tmp_path, folder):
    mask_at(nnunet_tree(tmp_path, keys=("a",)) / folder / "a.nii.gz", shape=(6, 7, 9))
    message = refused(lambda: load_subject(find_subjects(tmp_path, NNUNET)[0]))
    assert "shape (6, 7, 9)" in message
    assert str(SHAPE) in message
    assert f"{folder}/a.nii.gz" in message


def test_a_label_of_another_position_is_refused_but_not_for_rounding(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.01
    mask_at(tmp_path / "labelsTr/a.nii.gz", affine=shifted)
    assert load_subject(find_subjects(tmp_path, NNUNET)[0]).label.any()
    shifted[0, 3] += 1
    mask_at(tmp_path / "labelsTr/a.nii.gz", affine=shifted)
    assert "by up to 1.01 mm" in refused(lambda: load_subject(find_subjects(tmp_path, NNUNET)[0]))


def test_a_label_stored_in_another_orientation_still_fits(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    expected = load_subject(find_subjects(tmp_path, NNUNET)[0])
    flipped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    save_volume(tmp_path / "labelsTr/a.nii.gz", expected.label[::-1], flipped)
    np.testing.assert_array_equal(load_subject(find_subjects(tmp_path, NNUNET)[0]).label, expected.label)


KEYS = [f"s{index:02d}" for index in range(20)]


def test_counts_split_subjects_without_overlap():
    split = split_subjects(KEYS, train=10, validation=3, test=5, seed=1)
    assert [len(split[name]) for name in ("train", "validation", "test")] == [10, 3, 5]
    assert len(set(chain(*split.values()))) == 18


def test_fractions_use_every_subject_and_leave_no_split_empty():
    for count in range(3, 21):
        split = split_subjects(KEYS[:count], train=0.8, validation=0.1, test=0.1, seed=1)
        assert sorted(chain(*split.values())) == KEYS[:count]
        assert min(map(len, split.values())) >= 1
    assert len(split_subjects(KEYS, train=0.65, validation=0.17, test=0.18, seed=1)["train"]) == 13


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_keys():
    sizes = {"train": 10, "validation": 3, "test": 5}
    first = split_subjects(KEYS, **sizes, seed=1)
    assert first == split_subjects(KEYS[::-1], **sizes, seed=1)
    assert first != split_subjects(KEYS, **sizes, seed=2)


def test_test_subjects_stay_when_training_grows():
    small = split_subjects(KEYS, train=4, validation=3, test=5, seed=1)
    large = split_subjects(KEYS, train=12, validation=3, test=5, seed=1)
    assert small["test"] == large["test"]
    assert set(small["train"]) < set(large["train"])


@pytest.mark.parametrize("sizes", [(10, 5, 6), (0.5, 0.25, 0.25)])
def test_too_few_subjects_are_counted_in_the_message(sizes):
    keys = KEYS if sizes[0] == 10 else KEYS[:2]
    train, validation, test = sizes
    message = refused(lambda: split_subjects(keys, train=train, validation=validation, test=test, seed=0))
    assert message.startswith(f"{len(keys)} subjects, too few for ")
    assert " train" in message


@pytest.mark.parametrize("sizes", [(0, 1, 1), (0.5, 0.5, 0.5), (10, 0.5, 1)])
def test_sizes_that_mean_nothing_are_refused(sizes):
    train, validation, test = sizes
    assert "split sizes" in refused(lambda: split_subjects(KEYS, train=train, validation=validation, test=test, seed=0))


def test_a_key_given_twice_is_refused():
    assert "'s00' is listed twice" in refused(
        lambda: split_subjects([*KEYS, "s00"], train=1, validation=1, test=1, seed=0)
    )


def scans(given: dict[str, str | None]) -> list[Subject]:
    """Scans "person-number" with the split that a dataset gives them."""
    return [Subject(key, Path("i"), Path("l"), None, key[0], split) for key, split in given.items()]


def test_a_split_that_the_dataset_gives_is_kept_and_the_rest_drawn():
    given = {f"{person}-1": None for person in "abcdefgh"} | {"t-1": "test", "u-1": "test"}
    split = complete_split(scans(given), train=6, validation=2, test=4, seed=3)
    assert split["test"] == ["t-1", "u-1"]
    assert len(split["validation"]) == 2
    assert len(split["train"]) == 6
    assert split != complete_split(scans(given), train=6, validation=2, test=4, seed=4)


def test_without_a_given_split_subjects_are_divided_as_before():
    keys = [f"{person}-1" for person in "abcdefghij"]
    drawn = complete_split(scans(dict.fromkeys(keys)), train=6, validation=2, test=2, seed=1)
    assert drawn == split_subjects(keys, train=0.6, validation=0.2, test=0.2, seed=1)


def test_a_person_is_never_divided():
    given = {f"{person}-{number}": None for person in "abcdef" for number in (1, 2, 3)}
    for seed in range(10):
        split = complete_split(scans(given), train=3, validation=2, test=1, seed=seed)
        assert sorted(chain(*split.values())) == sorted(given)
        people = [{key[0] for key in keys} for keys in split.values()]
        assert sum(map(len, people)) == 6


def test_nobody_to_train_on_is_refused():
    message = refused(lambda: complete_split(scans({"a-1": "test"}), train=1, validation=1, test=1, seed=0))
    assert "no subjects to train on" in message
