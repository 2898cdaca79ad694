"""Folders of patches as people have them: images and labels told apart, and nothing taken for what it is not."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from vesselgan.data import save_volume
from vesselgan.data.patch_folder import PatchFolder, open_patches
from vesselgan.errors import InputError

SHAPE = (8, 6, 4)
COUNT = 4
Save = Callable[[Path, NDArray[Any]], None]


def save_nifti(path: Path, data: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(path.with_name(path.name + ".nii.gz"), data, np.eye(4))


def save_npy(path: Path, data: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_name(path.name + ".npy"), data)


def save_npy_gz(path: Path, data: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path.with_name(path.name + ".npy.gz"), "w") as file:
        np.save(file, data)


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def pairs() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    images = np.random.default_rng(0).uniform(0, 100, (COUNT, *SHAPE)).astype(np.float32)
    return images, (images > 60).astype(np.uint8)


def write(folder: Path, image: str, label: str, save: Save = save_nifti) -> Path:
    """Pairs under names in which {} is the number of the patch."""
    for index, (patch, mask) in enumerate(zip(*pairs(), strict=True)):
        save(folder / image.format(index), patch)
        save(folder / label.format(index), mask)
    return folder


def assert_pairs(folder: PatchFolder) -> None:
    images, labels = pairs()
    assert (folder.count, folder.shape, folder.has_labels) == (COUNT, SHAPE, True)
    (batch,) = folder.batches(COUNT)
    np.testing.assert_allclose(batch.images, images / 50 - 1, atol=1e-5)
    assert batch.labels is not None
    np.testing.assert_array_equal(batch.labels, labels != 0)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("case{}_img", "case{}_seg"),
        ("case{}_img", "case{}_label"),
        ("case{}", "case{}_mask"),
        ("case{}", "case{}_vessels"),
        ("case{}_img", "case{}_gt"),
        ("img_{}", "label_{}"),
        ("Image-{}", "Label-{}"),
        ("case_000{}_image", "case_000{}_label"),
        ("imagesTr/case{}_0000", "labelsTr/case{}"),
        ("imagesTs/case{}_0000", "labelsTs/case{}"),
        ("imagesTr/p_000{}", "labelsTr/p_000{}"),
        ("image/{}", "label/{}"),
        ("Images/{}", "Masks/{}"),
        ("imgs/{}", "masks/{}_mask"),
        ("images/im_{}", "segmentations/seg_im_{}"),
        ("sub-{}_angio", "sub-{}_desc-vessel_mask"),
        ("sub-{}_ses-1_TOF", "sub-{}_ses-1_dseg"),
        ("sub-{}_angio", "sub-{}_label-vessels_dseg"),
    ],
)
def test_images_and_labels_are_told_apart_in_the_conventions_of_others(image: str, label: str, tmp_path: Path) -> None:
    assert_pairs(open_patches(write(tmp_path, image, label), "--real", intensity_range=(0, 100)))


@pytest.mark.parametrize(
    ("image", "label", "save"),
    [
        ("patches/epoch_9_sample_{}_patch", "seg_labels/epoch_9_sample_{}_label", save_npy_gz),
        ("epoch_9_sample_{}_patch", "epoch_9_sample_{}_label", save_nifti),
        ("PEG1_img_systematic_{}", "seg_labels/PEG1_label_systematic_{}", save_npy),
        ("PEG1_img_systematic_{}", "seg_labels/PEG1_label_systematic_{}", save_npy_gz),
    ],
)
def test_what_the_papers_own_code_writes_is_read(image: str, label: str, save: Save, tmp_path: Path) -> None:
    assert_pairs(open_patches(write(tmp_path, image, label, save), "--real", intensity_range=(0, 100)))


def test_masks_of_the_brain_beside_labels_are_no_labels(tmp_path: Path) -> None:
    write(tmp_path, "images/{}", "labels/{}")
    for index in range(COUNT):
        save_nifti(tmp_path / f"masks/{index}", np.ones(SHAPE, np.uint8))
    assert_pairs(open_patches(tmp_path, "--real", intensity_range=(0, 100)))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("session", ["", "ses-a"])
def test_bids_is_read_with_and_without_labels(session: str, labelled: bool, tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    place = f"sub-{{}}/{session}/anat/sub-{{}}{session and '_' + session}"
    for index, (patch, mask) in enumerate(zip(*pairs(), strict=True)):
        save_nifti(tmp_path / f"{place.format(index, index)}_angio", patch)
        save_nifti(tmp_path / f"{place.format(index, index)}_T1w", patch + 1)
        if labelled:
            save_nifti(tmp_path / f"derivatives/labels/{place.format(index, index)}_desc-vessel_mask", mask)
    folder = open_patches(tmp_path, "--real", intensity_range=(0, 100))
    assert folder.subjects == tuple(f"sub-{index}" for index in range(COUNT))
    if labelled:
        assert_pairs(folder)
        (tmp_path / f"{place.format(2, 2)}_angio.nii.gz").unlink()
        with pytest.raises(InputError, match="no image of subject 'sub-2"):
            open_patches(tmp_path, "--real")
        for path in tmp_path.rglob("sub-2*_mask.nii.gz"):
            path.unlink()
        save_nifti(tmp_path / f"{place.format(2, 2)}_angio", pairs()[0][2])
        with pytest.raises(InputError, match="no label of subject 'sub-2"):
            open_patches(tmp_path, "--real")
    assert (folder.count, folder.has_labels) == (COUNT, labelled)


def test_bids_without_angiography_has_no_patches(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    save_nifti(tmp_path / "sub-1/anat/sub-1_T1w", pairs()[0][0])
    with pytest.raises(InputError, match=r"no files in the layout bids \(sub-\*/anat/"):
        open_patches(tmp_path, "--real")


def test_what_is_no_vessel_by_its_name_is_no_label_of_bids(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    for index, (patch, mask) in enumerate(zip(*pairs(), strict=True)):
        nibabel.save(nibabel.Nifti1Image(patch, np.eye(4)), made(tmp_path / f"sub-{index}/anat/sub-{index}_angio.nii"))
        for word, marked in (("nonvessel", 1 - mask), ("vessels", mask)):
            place = made(tmp_path / f"derivatives/x/sub-{index}/anat/sub-{index}_desc-{word}_dseg.nii")
            nibabel.save(nibabel.Nifti1Image(marked, np.eye(4)), place)
    assert_pairs(open_patches(tmp_path, "--real", intensity_range=(0, 100)))


@pytest.mark.parametrize("labelled", [True, False])
def test_further_channels_of_nnunet_are_no_patches(labelled: bool, tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/case{}_0000", "labelsTr/case{}" if labelled else "elsewhere/case{}/x")
    for index in range(COUNT):
        save_nifti(tmp_path / f"imagesTr/case{index}_0001", pairs()[0][index] + 1000)
    if not labelled:
        import shutil

        shutil.rmtree(tmp_path / "elsewhere")
    folder = open_patches(tmp_path, "--real", intensity_range=(0, 100))
    assert folder.count == COUNT
    assert [path.name for path in folder.further_channels] == [f"case{index}_0001.nii.gz" for index in range(COUNT)]


def test_numbered_patches_are_no_channels(tmp_path: Path) -> None:
    for index in range(COUNT):
        save_npy(tmp_path / f"imagesTr/sample_000{index}", pairs()[0][index])
    assert open_patches(tmp_path, "--real").count == COUNT


def test_numbers_that_every_name_has_are_asked_about(tmp_path: Path) -> None:
    for index in range(COUNT):
        for channel in range(2):
            save_npy(tmp_path / f"case{index}_000{channel}", pairs()[0][index] + channel)
    with pytest.raises(InputError, match=r"each of 4 names has 2 files, case0_0000.npy first: patches, or channels"):
        open_patches(tmp_path, "--real")
    (tmp_path / "case0_0001.npy").rename(tmp_path / "case0_0002.npy")
    assert open_patches(tmp_path, "--real").count == 2 * COUNT


@pytest.mark.parametrize(("image", "label"), [("a{}_foo", "a{}_bar"), ("x/foo_{}", "y/bar_{}")])
def test_labels_under_names_that_say_nothing_are_seen_by_their_values(image: str, label: str, tmp_path: Path) -> None:
    write(tmp_path, image, label)
    with pytest.raises(InputError, match=r"4 of 8 images hold two values only, as labels do, \S*bar"):
        open_patches(tmp_path, "--real")


def test_masks_alone_are_no_images(tmp_path: Path) -> None:
    write(tmp_path, "a{}", "labels/a{}")
    with pytest.raises(InputError, match="4 of 4 images hold two values only"):
        open_patches(tmp_path / "labels", "--real")


def test_maps_of_several_classes_are_seen_where_names_pair_up(tmp_path: Path) -> None:
    for index, image in enumerate(pairs()[0]):
        save_nifti(tmp_path / f"a{index}_foo", np.repeat(image, 4, axis=0))
        save_nifti(tmp_path / f"a{index}_bar", np.repeat(image // 30, 4, axis=0).astype(np.int16))
    with pytest.raises(InputError, match=r"names come in pairs such as a0_foo.nii.gz and a0_bar.nii.gz"):
        open_patches(tmp_path, "--real")


def test_two_labels_or_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "labels", "a{}_img", "a{}_seg")
    save_nifti(tmp_path / "labels/a2_gt", pairs()[1][2])
    with pytest.raises(InputError, match=r"a2_seg.nii.gz: a second label beside \S*a2_gt.nii.gz"):
        open_patches(tmp_path / "labels", "--real")
    write(tmp_path / "images", "a{}_img", "a{}_seg")
    save_nifti(tmp_path / "images/a2_patch", pairs()[0][2])
    with pytest.raises(InputError, match=r"a2_patch.nii.gz: \S*a2_seg.nii.gz may be the label of it or of \S*a2_img"):
        open_patches(tmp_path / "images", "--real")


def test_a_folder_of_several_sets_is_refused(tmp_path: Path) -> None:
    for part in ("Tr", "Ts"):
        write(tmp_path, f"images{part}/case{{}}_0000", f"labels{part}/case{{}}")
    with pytest.raises(
        InputError, match=r"several sets of images \(imagesTr, imagesTs\); give a folder that holds one"
    ):
        open_patches(tmp_path, "--real")


CHANNELS = np.stack([np.arange(192.0).reshape(SHAPE), np.arange(192).reshape(SHAPE) > 99])


@pytest.mark.parametrize(
    ("name", "array", "count"),
    [
        ("image", CHANNELS[0][..., None], 1),
        ("image", CHANNELS[0][..., None, None], 1),
        ("image", CHANNELS[0][None], 1),
        ("image", CHANNELS[0][None, None], 1),
        ("images", np.stack([CHANNELS[0]] * 3)[..., None], 3),
        ("images", np.stack([CHANNELS[0]] * 3)[:, None], 3),
        ("", CHANNELS[0][..., None], 1),
        ("", np.stack([CHANNELS[0]] * 3), 3),
    ],
)
def test_an_axis_of_one_channel_is_dropped(name: str, array: NDArray[Any], count: int, tmp_path: Path) -> None:
    if name:
        np.savez(tmp_path / "a.npz", **{name: array})
    else:
        np.save(tmp_path / "a.npy", array)
    folder = open_patches(tmp_path, "--real", intensity_range=(0, 191))
    assert (folder.count, folder.shape) == (count, SHAPE)
    (batch,) = folder.batches(8)
    np.testing.assert_allclose(batch.images[-1], CHANNELS[0] / 95.5 - 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("image", CHANNELS, r"shape \(2, 8, 6, 4\) under the name 'image', which is one patch"),
        ("image", np.moveaxis(CHANNELS, 0, -1), r"shape \(8, 6, 4, 2\) under the name 'image'"),
        ("images", np.moveaxis(CHANNELS, 0, -1), r"patches of \(6, 4, 2\), which have fewer than 4 voxels on an axis"),
        ("images", np.zeros((20, 16, 16, 1)), r"patches of \(16, 16, 1\), which have fewer than 4"),
        ("images", CHANNELS[None], r"shape \(1, 2, 8, 6, 4\); needs a patch"),
    ],
)
def test_channels_and_slices_are_no_patches(name: str, array: NDArray[Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: array})
    with pytest.raises(InputError, match=message):
        open_patches(tmp_path, "--real")


def test_two_channels_in_every_npy_are_asked_about(tmp_path: Path) -> None:
    soft = np.random.default_rng(0).random((2, *SHAPE))
    for index in range(3):
        np.save(tmp_path / f"sample{index}.npy", soft)
    with pytest.raises(InputError, match=r"sample0.npy: 2 arrays, as in every file of .*: patches, or the channels"):
        open_patches(tmp_path, "--real")
    for index in range(3):
        (tmp_path / f"sample{index}.npy").rename(tmp_path / f"s{index}_patches.npy")
    assert open_patches(tmp_path, "--real").count == 6


def test_a_channel_that_is_a_label_in_every_npy_is_told_as_a_channel(tmp_path: Path) -> None:
    for index, (patch, mask) in enumerate(zip(*pairs(), strict=True)):
        save_npy(tmp_path / f"sample{index}", np.stack([patch, mask]))
    with pytest.raises(InputError, match=r"2 arrays, as in every file of .*: patches, or the channels of one"):
        open_patches(tmp_path, "--real")


def test_a_label_of_minus_one_in_a_scan_is_refused_without_a_word_of_layouts(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a_image", pairs()[0][0])
    save_nifti(tmp_path / "a_label", np.full(SHAPE, -1, np.int16))
    with pytest.raises(InputError, match=r"a_label.nii.gz: values -1; a mask holds .* other: binarise it$"):
        open_patches(tmp_path, "--real")


def test_a_packed_array_that_claims_more_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    with gzip.GzipFile(tmp_path / "a.npy.gz", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1024, 1024, 512)})
    with pytest.raises(InputError, match=r"a.npy.gz: header declares \d+ bytes of voxels, too many"):
        open_patches(tmp_path, "--real")
