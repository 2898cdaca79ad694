"""Folders of patches and masks from anywhere: what is found in them, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vesselgan.data import save_volume
from vesselgan.data.folders import array_files, read_mask
from vesselgan.data.patch_folder import open_patches, patch_files
from vesselgan.errors import InputError

SHAPE = (8, 6, 4)


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 100, (count, *SHAPE)).astype(np.float32)


def write_nifti(path: Path, data: NDArray[Any], shift_mm: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[:3, 3] = shift_mm
    save_volume(path, data, affine)


def write_all_ways(root: Path, stack: NDArray[np.float32], labels: NDArray[np.bool_]) -> dict[str, Path]:
    """The same labelled patches in every way that is understood."""
    places = {name: root / name for name in ("npz", "npz stack", "npy stacks", "nifti pairs", "nnU-Net", "subjects")}
    for place in places.values():
        place.mkdir(parents=True)
    np.savez(places["npz stack"] / "all.npz", images=stack, labels=labels)
    np.save(places["npy stacks"] / "images.npy", stack)
    np.save(places["npy stacks"] / "labels.npy", labels)
    for index, (image, label) in enumerate(zip(stack, labels, strict=True)):
        name = f"p{index}"
        np.savez(places["npz"] / f"{name}.npz", image=image, label=label)
        write_nifti(places["nifti pairs"] / f"{name}_image.nii.gz", image)
        write_nifti(places["nifti pairs"] / f"{name}_label.nii.gz", label)
        write_nifti(places["nnU-Net"] / f"imagesTr/{name}_0000.nii.gz", image)
        write_nifti(places["nnU-Net"] / f"labelsTr/{name}.nii.gz", label)
        write_nifti(places["subjects"] / f"s{index // 2}/{name}_image.nii.gz", image)
        write_nifti(places["subjects"] / f"s{index // 2}/{name}_label.nii.gz", label)
    return places


def test_every_layout_gives_the_same_patches(tmp_path: Path) -> None:
    stack, labels = images(5), images(5, seed=1) > 60
    for name, place in write_all_ways(tmp_path, stack, labels).items():
        folder = open_patches(place, "--real", intensity_range=(0, 100))
        assert (folder.count, folder.shape, folder.has_labels) == (5, SHAPE, True), name
        batches = list(folder.batches(2))
        assert [len(batch.images) for batch in batches] == [2, 2, 1], name
        np.testing.assert_allclose(np.concatenate([b.images for b in batches]), stack / 50 - 1, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(np.concatenate([b.labels for b in batches if b.labels is not None]), labels)
        assert folder.subjects == (("s0", "s0", "s1", "s1", "s2") if name == "subjects" else None)


def test_the_unit_of_intensities_does_not_matter(tmp_path: Path) -> None:
    for name, scale in (("one", 1), ("thousand", 1000)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", images(3) * scale)
    one, thousand = (next(open_patches(tmp_path / name, "--real").batches(3)).images for name in ("one", "thousand"))
    np.testing.assert_allclose(one, thousand, atol=1e-4)
    assert (one.min(), one.max()) == (-1, 1)


def test_an_npz_may_name_the_subject_of_each_patch(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", images=images(3), subjects=np.array(["a", "b", "b"]))
    assert open_patches(tmp_path, "--real").subjects == ("a", "b", "b")


def test_labels_may_be_empty_and_any_value_marks_them(tmp_path: Path) -> None:
    labels = np.zeros((2, *SHAPE), np.uint8)
    labels[1, 0] = 255
    np.savez(tmp_path / "all.npz", images=images(2), labels=labels)
    (batch,) = open_patches(tmp_path, "--real").batches(8)
    assert batch.labels is not None
    assert batch.labels.sum(axis=(1, 2, 3)).tolist() == [0, 24]


def test_a_large_stack_is_never_wholly_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    stack = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.int16, (4000, 16, 16, 16))
    stack[::7] = np.random.default_rng(0).integers(0, 1000, (16, 16, 16))
    stack.flush()
    del stack
    tracemalloc.start()
    try:
        folder = open_patches(tmp_path, "--real", intensity_range=(0, 1000))
        assert sum(len(batch.images) for batch in folder.batches(16)) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000 * 16**3 * 4 / 2, "half of the patches as float32"


@pytest.mark.parametrize(
    "save", [write_nifti, lambda path, data: np.save(path.with_suffix("").with_suffix(".npy"), data)]
)
def test_nan_becomes_what_is_asked_for(save: Any, tmp_path: Path) -> None:
    """Of a background that was cut out; the mask of a label is no image."""
    stack = images(2)
    for index, image in enumerate(stack):
        save(tmp_path / f"p{index}.nii.gz", np.where(image > 60, image, np.nan))
    (batch,) = open_patches(tmp_path, "--real", nan=20, intensity_range=(0, 100)).batches(2)
    np.testing.assert_allclose(batch.images, np.where(stack > 60, stack, 20) / 50 - 1, atol=1e-5)
    with pytest.raises(InputError, match=r"p0.*voxels are NaN or infinite; .*--nan 0 of segment and score"):
        open_patches(tmp_path, "--real")


def test_nan_in_a_label_is_nothing_that_an_option_mends(tmp_path: Path) -> None:
    write_nifti(tmp_path / "p_image.nii.gz", images(1)[0])
    write_nifti(tmp_path / "p_label.nii.gz", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(
        InputError, match=r"p_label.nii.gz: 192 of 192 voxels are NaN or infinite; replace them with numbers$"
    ):
        open_patches(tmp_path, "--real", nan=0)


def write_case(folder: Path, case: str) -> None:
    """A folder of three good pairs, damaged."""
    stack, labels = images(3), images(3, seed=1) > 60
    for index in range(3):
        write_nifti(folder / f"p{index}_image.nii.gz", stack[index])
        write_nifti(folder / f"p{index}_label.nii.gz", labels[index])
    image, label = folder / "p1_image.nii.gz", folder / "p1_label.nii.gz"
    if case == "no label":
        label.unlink()
    elif case == "no image":
        image.unlink()
    elif case == "shape":
        write_nifti(image, stack[1, :4])
        write_nifti(label, labels[1, :4])
    elif case == "label shape":
        write_nifti(label, labels[1, :4])
    elif case == "affine":
        write_nifti(label, labels[1], shift_mm=3)
    elif case == "values":
        write_nifti(label, stack[1].astype(np.int16) % 3)
    elif case == "NaN":
        write_nifti(image, np.where(stack[1] > 99, np.nan, stack[1]))
    elif case == "no nifti":
        image.write_text("hello")
    elif case == "directory link":
        (folder / "again").symlink_to(folder)
    elif case == "file link":
        (folder / "p9_image.nii.gz").symlink_to(folder / "p9_image.nii.gz")
    elif case == "twice":
        np.savez(folder / "p1_image.npz", image=stack[1])
    elif case == "object":
        np.save(folder / "p3.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    elif case == "flat":
        np.save(folder / "p3.npy", stack[0, 0])
    elif case == "text":
        np.save(folder / "p3.npy", np.full(SHAPE, "a"))
    elif case == "truncated":
        np.savez(folder / "p3.npz", image=stack[0])
        (folder / "p3.npz").write_bytes((folder / "p3.npz").read_bytes()[:200])
    elif case == "names":
        np.savez(folder / "p3.npz", picture=stack[0])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no label", r"p1_image.nii.gz: has no label; add it"),
        ("no image", r"p1_label.nii.gz: a label without image 'p1'"),
        ("shape", r"p1_image.nii.gz: patches of \(4, 6, 4\), but .*p0_image.nii.gz has \(8, 6, 4\)"),
        ("label shape", r"p1_label.nii.gz: shape \(4, 6, 4\), but .*p1_image.nii.gz has"),
        ("affine", r"p1_label.nii.gz: affine differs from that of .*p1_image.nii.gz by up to 3 mm"),
        ("values", r"p1_label.nii.gz: values 0, 1, 2; a mask holds exactly two"),
        ("NaN", r"p1_image.nii.gz: \d+ of 192 voxels are NaN or infinite"),
        ("no nifti", r"p1_image.nii.gz: "),
        ("directory link", r"again: a link back to the folder that holds it"),
        ("file link", r"p9_image.nii.gz: is no file \(a broken link"),
        ("twice", r"p1_image.npz: has the name of p1_image.nii.gz"),
        ("object", r"p3.npy: cannot be read \(Array can"),
        ("flat", r"p3.npy: shape \(6, 4\); needs a patch"),
        ("text", r"p3.npy: values of type <U1"),
        ("truncated", r"p3.npz: cannot be read \("),
        ("names", r"p3.npz: has no array 'image' or 'images'"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told_in_one_line(case: str, message: str, tmp_path: Path) -> None:
    write_case(tmp_path, case)
    with pytest.raises(InputError) as caught:
        open_patches(tmp_path, "--real", labelled=case not in ("flat", "text", "truncated", "object"))
    lines = str(caught.value).splitlines()
    assert re.search(message, lines[0]), lines
    assert len(lines) == 1 or case in ("names", "object", "flat", "text", "truncated")


def test_all_bad_files_of_a_folder_are_told_at_once(tmp_path: Path) -> None:
    write_case(tmp_path, "NaN")
    (tmp_path / "p2_image.nii.gz").write_text("hello")
    with pytest.raises(InputError) as caught:
        open_patches(tmp_path, "--real")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_patches_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/readme.txt").write_text("")
    with pytest.raises(InputError, match=r"no such folder; point to one with --real DIR|no patches; --real wants"):
        open_patches(tmp_path / name, "--real")


def test_a_constant_folder_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, *SHAPE)))
    with pytest.raises(InputError, match="every voxel of every image is 1"):
        open_patches(tmp_path, "--real")


def test_the_files_of_a_folder_are_listed_without_reading_them(tmp_path: Path) -> None:
    write_case(tmp_path, "no nifti")
    assert [path.name for path in patch_files(tmp_path, "external:")] == sorted(
        f"p{index}_{role}.nii.gz" for index in range(3) for role in ("image", "label")
    )


def test_a_mask_is_read_from_an_array_under_any_one_name(tmp_path: Path) -> None:
    mask = images(1)[0] > 50
    np.save(tmp_path / "a.npy", mask.astype(np.uint8))
    np.savez(tmp_path / "b.npz", anything=mask)
    np.savez(tmp_path / "c.npz", image=mask * 2.5, label=mask)
    for path in array_files(tmp_path, "--truth").values():
        np.testing.assert_array_equal(read_mask(path).data, mask)
        assert read_mask(path).spacing_mm is None
    np.savez(tmp_path / "d.npz", one=mask, two=mask)
    with pytest.raises(InputError, match=r"d.npz: arrays one, two; give the mask the name 'label'"):
        read_mask(tmp_path / "d.npz")


@pytest.mark.parametrize("values", [(-1, 1), (-1, -1)])
def test_a_label_of_minus_one_is_no_vessel(values: tuple[int, int], tmp_path: Path) -> None:
    mask = np.full(SHAPE, values[0], np.int16)
    mask[2:4] = values[1]
    np.save(tmp_path / "a.npy", mask)
    write_nifti(tmp_path / "a.nii.gz", mask)
    for name in ("a.npy", "a.nii.gz"):
        with pytest.raises(InputError, match=r"values -1.*; a mask holds exactly two, 0 and one other: binarise it"):
            read_mask(tmp_path / name)


def test_bytes_that_are_viewed_as_bool_count_where_they_are_not_zero(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1], mask[2] = 255, 7
    np.save(tmp_path / "a.npy", mask.view(np.bool_))
    for labels in (None, "nonzero", frozenset({1})):
        np.testing.assert_array_equal(read_mask(tmp_path / "a.npy", labels).data, mask > 0)
