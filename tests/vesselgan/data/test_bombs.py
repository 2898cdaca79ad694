"""Small files that unfold to large ones: what they take is bounded by what their headers declare, and refused first."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from data_trees import AFFINE, SHAPE, label_of, nifti
from mutation import bounded

from vesselgan.data import load_volume, save_volume
from vesselgan.data.folders import read_arrays
from vesselgan.errors import InputError

GIB = 2**30


def header_of(shape: tuple[int, ...], dtype: type = np.uint8) -> bytes:
    """Of an npy of this shape, without its data."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb(path: Path, name: str, head: bytes, zeros: int) -> Path:
    """An npz whose array unfolds to so many bytes of zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        for start in range(0, zeros, 2**24):
            member.write(bytes(min(2**24, zeros - start)))
    return path


def test_an_npz_may_not_declare_more_than_its_bytes_can_hold(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.npz", "images", header_of((10**6, 10**3, 10**3)), 1000)
    with bounded(), pytest.raises(InputError, match=r"a\.npz: header declares 1000000000000 bytes of voxels, too many"):
        read_arrays(path)


def test_an_npz_that_needs_more_memory_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bomb(tmp_path / "a.npz", "images", header_of((300, 512, 512)), 300 * 512 * 512)
    assert path.stat().st_size < 10**6
    free = psutil.virtual_memory()._replace(available=50 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with (
        bounded(),
        pytest.raises(InputError, match=r"a\.npz: holds 0\.1 GiB of voxels, and 0\.0 GiB"),
    ):
        read_arrays(path)


def test_what_comes_behind_the_declared_array_is_not_unfolded(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.npz", "label", header_of(SHAPE), 2 * GIB)
    with bounded():
        assert read_arrays(path)["label"].shape == SHAPE


def test_a_nifti_file_unfolds_to_what_its_header_declares(tmp_path: Path) -> None:
    save_volume(tmp_path / "a.nii.gz", label_of(0), AFFINE)
    with gzip.open(tmp_path / "long.nii.gz", "wb", compresslevel=1) as file:
        file.write(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
        for _ in range(128):
            file.write(bytes(2**24))
    with bounded():
        np.testing.assert_array_equal(load_volume(tmp_path / "long.nii.gz").data, label_of(0))


def test_a_nifti_file_may_not_declare_more_than_its_bytes_can_hold(tmp_path: Path) -> None:
    content = bytearray(nifti(tmp_path / "a.nii", label_of(0)).read_bytes())
    content[42:48] = np.array([30000, 30000, 1000], "<i2").tobytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with bounded(), pytest.raises(InputError, match=r"b\.nii\.gz: header declares .* too many for a file"):
        load_volume(tmp_path / "b.nii.gz")
