"""Finding, checking and splitting the subjects of a dataset, on generated miniature trees."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from vesselgan.data import Layout, find_subjects, load_subject, save_volume, split_subjects
from vesselgan.errors import InputError

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
    subjects = find_subjects(nnunet_tree(tmp_path))
    assert [subject.key for subject in subjects] == ["a", "b"]
    assert subjects[0].image == tmp_path / "imagesTr/a_0000.nii.gz"
    assert subjects[0].label == tmp_path / "labelsTr/a.nii.gz"
    assert subjects[0].mask is None


def test_nnunet_brain_masks_are_optional_for_each_subject(tmp_path):
    mask_at(nnunet_tree(tmp_path) / "masksTr/b.nii.gz")
    first, second = find_subjects(tmp_path, "nnunet")
    assert first.mask is None
    assert second.mask == tmp_path / "masksTr/b.nii.gz"
    assert load_subject(second).mask.sum() == 8


@pytest.mark.parametrize("split", ["", "train/"])
def test_pegasus_subjects_are_found_with_and_without_a_split_folder(tmp_path, split):
    for key in ("P02", "P01"):
        image_at(tmp_path / f"{split}{key}/001_img_denoised.nii.gz")
        mask_at(tmp_path / f"{key}/001_Vessel-Manual-Gold-int.nii.gz")
        mask_at(tmp_path / f"{key}/001_BET-fsl.mask.nii.gz")
    subjects = find_subjects(tmp_path)
    assert [subject.key for subject in subjects] == ["P01", "P02"]
    loaded = load_subject(subjects[0])
    assert loaded.image.dtype == np.float32
    assert loaded.label.dtype == loaded.mask.dtype == np.bool_
    assert loaded.spacing_mm == pytest.approx((0.5, 0.5, 0.7))


def test_a_layout_can_be_added_without_code(tmp_path):
    image_at(tmp_path / "scans/x.nii.gz")
    mask_at(tmp_path / "vessels/x.nii.gz")
    pairs = Layout("pairs", images=("scans/{key}.nii.gz",), labels=("vessels/{key}.nii.gz",))
    assert [subject.key for subject in find_subjects(tmp_path, pairs)] == ["x"]


def test_what_file_managers_leave_behind_is_no_subject(tmp_path):
    nnunet_tree(tmp_path)
    (tmp_path / "imagesTr/._a_0000.nii.gz").write_bytes(b"")
    assert len(find_subjects(tmp_path)) == 2


def test_a_missing_folder_says_how_to_point_to_data(tmp_path):
    message = refused(lambda: find_subjects(tmp_path / "absent"))
    assert str(tmp_path / "absent") in message
    assert "--data DIR" in message


def test_without_a_known_layout_all_that_were_tried_are_listed(tmp_path):
    message = refused(lambda: find_subjects(tmp_path))
    for expected in ("nnunet: imagesTr/{key}_0000.nii.gz", "pegasus: {key}/001_img_denoised.nii.gz"):
        assert expected in message


def test_an_unknown_layout_names_the_known_ones(tmp_path):
    assert "auto, nnunet, pegasus" in refused(lambda: find_subjects(tmp_path, "bids"))


def test_files_of_two_layouts_are_not_guessed_at(tmp_path):
    image_at(nnunet_tree(tmp_path) / "P01/001_img_denoised.nii.gz")
    assert "several layouts" in refused(lambda: find_subjects(tmp_path))


def test_an_image_without_label_is_named_with_its_subject(tmp_path):
    image = image_at(nnunet_tree(tmp_path) / "imagesTr/c_0000.nii.gz")
    message = refused(lambda: find_subjects(tmp_path))
    assert str(image) in message
    assert "no label of subject 'c'" in message


@pytest.mark.parametrize("folder", ["labelsTr", "masksTr"])
def test_a_label_or_mask_without_image_is_named_with_its_subject(tmp_path, folder):
    mask = mask_at(nnunet_tree(tmp_path) / folder / "c.nii.gz")
    message = refused(lambda: find_subjects(tmp_path))
    assert str(mask) in message
    assert "no image of subject 'c'" in message


def test_a_subject_in_two_splits_is_refused_with_both_files(tmp_path):
    for split in ("train", "test"):
        image_at(tmp_path / split / "P01/001_img_denoised.nii.gz")
    message = refused(lambda: find_subjects(tmp_path))
    assert str(tmp_path / "train/P01") in message
    assert str(tmp_path / "test/P01") in message


def test_a_constant_image_is_refused(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    save_volume(tmp_path / "imagesTr/a_0000.nii.gz", np.full(SHAPE, 7, np.int16), AFFINE)
    assert "every voxel is 7" in refused(lambda: load_subject(find_subjects(tmp_path)[0]))


@pytest.mark.parametrize("folder", ["labelsTr", "masksTr"])
def test_a_label_or_mask_of_another_shape_is_refused(tmp_path, folder):
    mask_at(nnunet_tree(tmp_path, keys=("a",)) / folder / "a.nii.gz", shape=(6, 7, 9))
    message = refused(lambda: load_subject(find_subjects(tmp_path)[0]))
    assert "shape (6, 7, 9)" in message
    assert str(SHAPE) in message
    assert f"{folder}/a.nii.gz" in message


def test_a_label_of_another_position_is_refused_but_not_for_rounding(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.01
    mask_at(tmp_path / "labelsTr/a.nii.gz", affine=shifted)
    assert load_subject(find_subjects(tmp_path)[0]).label.any()
    shifted[0, 3] += 1
    mask_at(tmp_path / "labelsTr/a.nii.gz", affine=shifted)
    assert "by up to 1.01 mm" in refused(lambda: load_subject(find_subjects(tmp_path)[0]))


def test_a_label_stored_in_another_orientation_still_fits(tmp_path):
    nnunet_tree(tmp_path, keys=("a",))
    expected = load_subject(find_subjects(tmp_path)[0])
    flipped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    save_volume(tmp_path / "labelsTr/a.nii.gz", expected.label[::-1], flipped)
    np.testing.assert_array_equal(load_subject(find_subjects(tmp_path)[0]).label, expected.label)


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
