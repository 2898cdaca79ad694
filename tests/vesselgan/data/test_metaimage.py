"""MetaImage: read as SimpleITK reads it, its header checked first, and a clear line without SimpleITK."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from data_trees import AFFINE, image_of, metaimage

from vesselgan.data import load_volume, metaimage_files
from vesselgan.errors import InputError


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or "raw" in message
    return message


def changed(path: Path, old: str, new: str) -> Path:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    return path


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_a_metaimage_is_turned_to_ras(tmp_path: Path, ending: str, signs: tuple[int, ...]) -> None:
    data = image_of(0)
    affine = AFFINE @ np.diag([*signs, 1])
    volume = load_volume(metaimage(tmp_path / f"a{ending}", data, affine))
    np.testing.assert_array_equal(volume.data, data[tuple(slice(None, None, sign) for sign in signs)])
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.6, 0.7), rtol=1e-6)
    first = [0 if sign > 0 else n - 1 for sign, n in zip(signs, data.shape, strict=True)]
    np.testing.assert_allclose(volume.affine[:3, 3], (affine @ [*first, 1])[:3], atol=1e-5)


def test_it_is_the_nifti_that_simpleitk_would_write(tmp_path: Path) -> None:
    """The same voxels in the same place, packed and oblique."""
    image = sitk.GetImageFromArray(image_of(3).transpose())
    image.SetSpacing((0.4, 0.5, 0.9))
    image.SetOrigin((-33.0, 12.0, 7.0))
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([1, -1, 1])
    image.SetDirection(turn.ravel())
    for name in ("a.mha", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name), True)
    meta, nifti = load_volume(tmp_path / "a.mha"), load_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(meta.data, nifti.data)
    np.testing.assert_allclose(meta.affine, nifti.affine, atol=1e-5)


def test_without_simpleitk_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str) -> object:
        if name == "SimpleITK":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr("vesselgan.data.metaimage.import_module", missing)
    message = refused(metaimage(tmp_path / "a.mha", image_of(0)))
    assert "pip install 'SimpleITK>=2.4,<3' (the extra [metaimage]), or convert it to .nii.gz" in message


def test_an_mhd_consists_of_two_files(tmp_path: Path) -> None:
    path = metaimage(tmp_path / "a.mhd", image_of(0))
    assert metaimage_files(path) == (path, tmp_path / "a.raw")
    assert metaimage_files(metaimage(tmp_path / "b.mha", image_of(0))) == (tmp_path / "b.mha",)
    (tmp_path / "a.raw").unlink()
    assert "a.raw: no such file" in refused(path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("DimSize = 20 22 18", "DimSize = 20 22 18 2", "no voxel size of 4 numbers"),
        ("DimSize = 20 22 18", "DimSize = 20 22", "no voxel size of 2 numbers"),
        ("DimSize = 20 22 18", "DimSize = 4000 4000 4000", "header declares 128000000000 bytes of voxels"),
        ("DimSize = 20 22 18", "DimSize = twenty", "broken MetaImage header"),
        ("ElementSpacing = 0.5", "ElementSpacing = 0", "voxel size 0 x 0.6 x 0.7 mm; correct ElementSpacing"),
        ("ElementSpacing = 0.5 0.6", "ElementSpacing = 500 600", "is the unit mm?"),
        ("ElementSpacing = 0.5", "ElementSpacing = nan", "no voxel size"),
        ("MET_SHORT", "MET_STRING", "voxels of type 1 x MET_STRING"),
        ("MET_SHORT", "MET_SHORT\nElementNumberOfChannels = 3", "voxels of type 3 x MET_SHORT"),
        ("ElementDataFile = LOCAL", "ElementDataFile = LIST", "in a list of files"),
        ("ElementDataFile", "Data", "not a MetaImage"),
    ],
)
def test_a_bad_header_is_told_in_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in refused(changed(metaimage(tmp_path / "a.mha", image_of(0)), old, new))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = metaimage(tmp_path / "a.mha", image_of(0))
    path.write_bytes(path.read_bytes()[:-2000])
    assert "too many for a file of" in refused(path)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(image_of(0)), str(path), True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    assert "damaged" in refused(path)
