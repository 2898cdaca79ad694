"""Scans in the formats and with the headers that people have: the same voxels in the same place."""

import gzip
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from data_trees import image_of, label_of, metaimage, nifti
from numpy.typing import NDArray

from vesselgan.data import load_volume, save_volume
from vesselgan.data.folders import array_files, read_arrays, read_mask
from vesselgan.data.patch_folder import open_patches
from vesselgan.errors import InputError

nib: Any = nibabel
sitk: Any = import_module("SimpleITK")
AFFINE = np.array([[-0.4, 0, 0, 7], [0, 0.48, -0.14, -5], [0, 0.14, 0.48, 3], [0, 0, 0, 1]])


def assert_same(path: Path, expected: Path) -> None:
    volume, wanted = load_volume(path), load_volume(expected)
    np.testing.assert_array_equal(volume.data, wanted.data)
    np.testing.assert_allclose(volume.affine, wanted.affine, atol=1e-4)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    save_volume(tmp_path / "plain.nii.gz", image_of(0), AFFINE)
    return tmp_path / "plain.nii.gz"


@pytest.mark.parametrize("axes", [(1,), (1, 1), (1, 1, 1)])
def test_axes_of_one_moment_or_channel_are_dropped(axes: tuple[int, ...], plain: Path) -> None:
    data = image_of(0).reshape(*image_of(0).shape, *axes)
    nib.save(nib.Nifti1Image(data, AFFINE), plain.with_name("a.nii.gz"))
    assert_same(plain.with_name("a.nii.gz"), plain)


def test_two_moments_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"4-D with shape \(4, 4, 4, 2\); needs one 3-D volume"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(("unit", "in_mm"), [("meter", 1000), ("micron", 0.001)])
def test_metres_and_microns_become_millimetres(unit: str, in_mm: float, plain: Path) -> None:
    image = nib.Nifti1Image(image_of(0), np.diag([1 / in_mm, 1 / in_mm, 1 / in_mm, 1]) @ AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, plain.with_name("a.nii"))
    assert_same(plain.with_name("a.nii"), plain)


@pytest.mark.parametrize("name", ["A.NII.GZ", "A.NII"])
def test_endings_in_capitals_are_read(name: str, plain: Path) -> None:
    content = plain.read_bytes() if name.endswith("GZ") else gzip.decompress(plain.read_bytes())
    plain.with_name(name).write_bytes(content)
    assert_same(plain.with_name(name), plain)
    assert set(array_files(plain.parent, "--truth")) == {"A", "plain"}


def test_a_header_with_its_voxels_beside_it_is_one_image(plain: Path) -> None:
    nib.save(nib.Nifti1Pair(image_of(0), AFFINE), plain.with_name("a.img"))
    assert_same(plain.with_name("a.hdr"), plain)
    assert set(array_files(plain.parent, "--truth")) == {"a", "plain"}
    plain.with_name("a.img").unlink()
    with pytest.raises(InputError, match=r"a.img: no such file"):
        load_volume(plain.with_name("a.hdr"))


def test_an_analyze_header_says_not_how_the_scan_lies(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(image_of(0), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(InputError, match=r"a.hdr: an Analyze header, which says not how the scan lies; convert"):
        load_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ending", [".nrrd", ".nhdr"])
def test_an_nrrd_is_the_nifti_that_simpleitk_would_write(ending: str, packed: bool, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(image_of(3).transpose())
    image.SetSpacing((0.4, 0.5, 0.9))
    image.SetOrigin((-33.0, 12.0, 7.0))
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([1, -1, 1])
    image.SetDirection(turn.ravel())
    for name in (f"a{ending}", "b.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name), packed)
    assert_same(tmp_path / f"a{ending}", tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("NRRD0004", "TEXT0004", "not an NRRD file"),
        ("type: short", "type: block", "type block, encoding raw"),
        ("encoding: raw", "encoding: hex", "type short, encoding hex"),
        ("sizes: 20 22 18", "sizes: 20 22", "says not how its axes lie"),
        ("sizes: 20 22 18", "sizes: 2000 2200 1800", "header declares"),
        ("sizes: 20 22 18", "sizes: 20 twenty 18", "broken NRRD header"),
        ("space: left-posterior-superior", "space: scanner-xyz", "is no RAS, LAS or LPS"),
        ("sizes: 20 22 18", "sizes: 20 22 17", "truncated or damaged"),
    ],
)
def test_a_bad_nrrd_header_is_told_in_one_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(image_of(0).transpose()), str(tmp_path / "a.nrrd"), False)
    content = (tmp_path / "a.nrrd").read_bytes()
    assert old.encode() in content
    (tmp_path / "a.nrrd").write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(InputError) as caught:
        load_volume(tmp_path / "a.nrrd")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_and_patches_come_in_every_format(tmp_path: Path) -> None:
    metaimage(tmp_path / "a/p_image.mha", image_of(0))
    metaimage(tmp_path / "a/p_label.mha", label_of(0).astype(np.int16))
    nifti(tmp_path / "b/p_image.nii.gz", image_of(0))
    nifti(tmp_path / "b/p_label.nii.gz", label_of(0))
    first, second = (next(open_patches(tmp_path / name, "--real").batches(2)) for name in "ab")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.labels is not None
    np.testing.assert_array_equal(first.labels, second.labels)
    read_mask(tmp_path / "a/p_label.mha").check_grid(read_mask(tmp_path / "b/p_label.nii.gz"))


def test_probabilities_of_nnunet_beside_its_masks_are_passed_over(tmp_path: Path) -> None:
    nifti(tmp_path / "case.nii.gz", label_of(0))
    np.savez(tmp_path / "case.npz", probabilities=np.zeros((2, 3, 4, 5), np.float16))
    (tmp_path / "case.pkl").write_bytes(b"")
    assert array_files(tmp_path, "--prediction") == {"case": tmp_path / "case.nii.gz"}
    np.savez(tmp_path / "case.npz", label=label_of(0))
    with pytest.raises(InputError, match="has the name of"):
        array_files(tmp_path, "--prediction")


def headers() -> dict[str, NDArray[np.float64]]:
    oblique = AFFINE.copy()
    return {"oblique": oblique, "left": np.diag([-0.5, 0.6, 0.7, 1.0]), "turned": AFFINE[:, [2, 0, 1, 3]]}


@pytest.mark.parametrize("codes", [(1, 1), (0, 0), (2, 0), (0, 3), (4, 1)])
@pytest.mark.parametrize("name", ["oblique", "left", "turned"])
def test_what_is_placed_as_a_scan_has_its_forms_and_codes(name: str, codes: tuple[int, int], tmp_path: Path) -> None:
    affine = headers()[name]
    scan = nib.Nifti1Image(image_of(0), affine)
    scan.set_qform(affine, code=codes[0])
    other = affine.copy()
    other[0, 3] += 3  # the forms may disagree
    scan.set_sform(other, code=codes[1])
    scan.header.set_xyzt_units("mm")
    nib.save(scan, tmp_path / "scan.nii.gz")
    save_volume(tmp_path / "mask.nii.gz", label_of(0), affine, placed_as=tmp_path / "scan.nii.gz")
    scan, mask = (nib.load(tmp_path / f"{kind}.nii.gz") for kind in ("scan", "mask"))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), label_of(0))
    np.testing.assert_array_equal(mask.affine, scan.affine)
    for form in ("get_qform", "get_sform"):
        (ours, our_code), (theirs, their_code) = (getattr(image, form)(coded=True) for image in (mask, scan))
        assert our_code == their_code
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_array_equal(ours, theirs)
    by_itk = [sitk.ReadImage(str(tmp_path / f"{kind}.nii.gz")) for kind in ("scan", "mask")]
    for what in ("GetOrigin", "GetDirection", "GetSpacing"):
        assert getattr(by_itk[0], what)() == getattr(by_itk[1], what)()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        ("a.nii", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
        ("a.nii.gz", b"<!DOCTYPE html><html>", "is a web page"),
        ("a.nii", b"", r"is empty \(0 bytes\)"),
        ("a.nii.gz", b"", r"is empty \(0 bytes\)"),
        ("a.nii", gzip.compress(bytes(400), mtime=0), r"is packed with gzip, though its name does not end in .gz"),
        ("a.nii.gz", bytes(344) + b"n+1\0" + bytes(100), "not gzip, though its name ends in .gz; rename it to .nii"),
        ("a.nii.gz", b"hello", "no NIfTI image either"),
    ],
)
def test_what_a_file_is_instead_is_told_with_what_helps(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.npy", "a.npz", "a.npy.gz"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<html><body>Log in</body>", "is a web page"),
        (b"", r"is empty \(0 bytes\)"),
    ],
)
def test_so_it_is_in_every_format(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_volume(tmp_path / name) if name in ("a.nrrd", "a.mha") else read_arrays(tmp_path / name)
