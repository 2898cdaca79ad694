"""NIfTI files: orientation, one clear line for each defect, and reproducible atomic writing."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from vesselgan.data import load_mask, load_volume, save_volume
from vesselgan.errors import InputError

AFFINE = np.diag([0.5, 0.6, 0.7, 1.0])


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, size=(6, 7, 8)).astype(np.int16)


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def patch_header(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite bytes of an uncompressed file's header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def refused(path: Path, read=load_volume) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_is_read_as_float32_with_affine_and_spacing(tmp_path, image, ending):
    volume = load_volume(write(tmp_path / f"a{ending}", image))
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, image)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.6, 0.7), rtol=1e-6)


def test_other_orientations_are_turned_to_right_anterior_superior(tmp_path, image):
    straight = load_volume(write(tmp_path / "ras.nii", image))
    for codes in ("LPS", "PIR", "SAL"):
        target = nibabel.orientations.axcodes2ornt(tuple(codes))
        turned = nibabel.Nifti1Image(image, AFFINE).as_reoriented(
            nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt(tuple("RAS")), target)
        )
        assert "".join(nibabel.aff2axcodes(turned.affine)) == codes
        nibabel.save(turned, tmp_path / "turned.nii")
        volume = load_volume(tmp_path / "turned.nii")
        np.testing.assert_array_equal(volume.data, straight.data)
        np.testing.assert_allclose(volume.affine, straight.affine, atol=1e-5)
        np.testing.assert_allclose(volume.spacing_mm, straight.spacing_mm, rtol=1e-5)


def test_intensity_slope_and_intercept_are_applied(tmp_path, image):
    scaled = nibabel.Nifti1Image(image, AFFINE)
    scaled.header.set_slope_inter(2.0, -3.0)
    nibabel.save(scaled, tmp_path / "a.nii")
    assert load_volume(tmp_path / "a.nii").data.max() > image.max()


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.nii.gz")


def test_a_folder_is_not_a_file(tmp_path):
    assert "unreadable" in refused(tmp_path)


@pytest.mark.parametrize("name", ["a.nii", "a.txt"])
def test_other_content_is_not_nifti(tmp_path, name):
    path = tmp_path / name
    path.write_text("patient,age\n" * 100)
    assert "not a single-file NIfTI" in refused(path)


def test_a_file_that_only_claims_to_be_gzip_is_told_apart(tmp_path, image):
    path = write(tmp_path / "a.nii", image).rename(tmp_path / "a.nii.gz")
    assert "not gzip" in refused(path)


@pytest.mark.parametrize("kept", [20, 0.5, 0.95])
def test_a_truncated_gzip_is_refused(tmp_path, image, kept):
    path = write(tmp_path / "a.nii.gz", image)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept > 1 else int(len(content) * kept)])
    assert "truncated" in refused(path)


def test_a_truncated_plain_file_is_refused(tmp_path, image):
    path = write(tmp_path / "a.nii", image)
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path, image, value):
    data = image.astype(np.float32)
    data[1, 2, 3] = value
    assert f"1 of {data.size} voxels" in refused(write(tmp_path / "a.nii", data))


def test_values_beyond_float32_count_as_infinite(tmp_path, image):
    data = image.astype(np.float64)
    data[0, 0, 0] = 1e300
    assert "NaN or infinite" in refused(write(tmp_path / "a.nii", data))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2)])
def test_only_three_dimensions_are_accepted(tmp_path, shape):
    assert f"{len(shape)}-D" in refused(write(tmp_path / "a.nii", np.ones(shape, np.float32)))


def test_colours_are_not_intensities(tmp_path):
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "one real number per voxel" in refused(write(tmp_path / "a.nii", colours))


def test_a_voxel_size_of_zero_is_not_silently_one(tmp_path, image):
    path = patch_header(write(tmp_path / "a.nii", image), 80, "<f", 0.0)  # pixdim[1]
    assert "voxel size 0 x 0.6 x 0.7 mm" in refused(path)


def test_a_voxel_size_must_agree_with_the_affine(tmp_path, image):
    path = patch_header(write(tmp_path / "a.nii", image), 80, "<f", 1.0)
    assert "by its affine" in refused(path)


def test_a_singular_affine_is_refused(tmp_path, image):
    path = patch_header(write(tmp_path / "a.nii", image), 280, "<4f", 0, 0, 0, 0)  # srow_x
    assert "singular" in refused(path)


def test_a_voxel_size_in_metres_is_questioned(tmp_path, image):
    assert "is the unit mm?" in refused(write(tmp_path / "a.nii", image, np.diag([0.0005, 0.0006, 0.0007, 1])))


def test_a_small_file_cannot_claim_gigabytes(tmp_path, image):
    plain = patch_header(write(tmp_path / "a.nii", image), 40, "<4h", 3, 2000, 2000, 2000)  # dim
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert "header declares" in refused(packed)


def test_what_follows_the_declared_voxels_is_never_unpacked(tmp_path, image):
    plain = write(tmp_path / "a.nii", image).read_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(plain + bytes(50_000_000), 1)[:-1000])  # and would fail if it were
    np.testing.assert_array_equal(load_volume(path).data, image)


@pytest.mark.parametrize("marked", [1, 255, -1])
def test_a_mask_holds_zero_and_one_other_value(tmp_path, marked):
    data = np.zeros((4, 5, 6), np.int16)
    data[1:3, 2, 3] = marked
    mask = load_mask(write(tmp_path / "a.nii.gz", data))
    assert mask.data.dtype == np.bool_
    assert mask.data.sum() == 2


def test_other_values_in_a_mask_are_listed(tmp_path):
    data = np.zeros((4, 5, 6), np.int16)
    data[0, 0, :3] = 1, 2, 13
    assert "values 0, 1, 2, 13;" in refused(write(tmp_path / "a.nii", data), load_mask)
    data = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    assert "values 0, 1, 2, 3, 4, 5, ...;" in refused(write(tmp_path / "b.nii", data), load_mask)


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_of_one_value_is_accepted_only_on_request(tmp_path, value):
    path = write(tmp_path / "a.nii", np.full((4, 5, 6), value, np.uint8))
    assert f"values {value};" in refused(path, load_mask)
    assert load_mask(path, allow_uniform=True).data.all() == bool(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8, np.bool_])
def test_saving_and_loading_returns_the_same_volume(tmp_path, image, dtype):
    data = image.astype(dtype)
    save_volume(tmp_path / "a.nii.gz", data, AFFINE, "synthetic")
    volume = load_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)


def test_a_saved_header_says_where_it_lies_and_in_which_unit(tmp_path, image):
    save_volume(tmp_path / "a.nii.gz", image, AFFINE, "synthetic, not a patient" + 100 * "!")
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 1
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-6)
    assert header.get_xyzt_units()[0] == "mm"
    assert bytes(header["descrip"].item()).startswith(b"synthetic, not a patient")


def test_equal_volumes_become_equal_bytes_whatever_their_name(tmp_path, image):
    save_volume(tmp_path / "a.nii.gz", image, AFFINE)
    save_volume(tmp_path / "b.nii.gz", image.copy(), AFFINE.copy())
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert content[4:8] == bytes(4)  # the time in the gzip header


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, image, monkeypatch):
    path = tmp_path / "a.nii.gz"
    save_volume(path, image, AFFINE)
    before = path.read_bytes()
    monkeypatch.setattr(gzip.GzipFile, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_volume(path, image + 1, AFFINE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii.gz"]


def test_saving_under_another_ending_is_a_mistake_of_the_caller(tmp_path, image):
    with pytest.raises(ValueError, match="ending in"):
        save_volume(tmp_path / "a.mha", image, AFFINE)
