"""NIfTI files in and out, with one clear line for each way in which a file can be wrong."""

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.data.headers import (
    check_declared_size,
    check_is_file,
    check_shape_and_spacing,
    one_line,
    what_else,
    without_single_axes,
)
from vesselgan.errors import InputError
from vesselgan.files import atomic_path

__all__ = ["NIFTI_ENDINGS", "check_nifti", "is_nifti", "nifti_files", "read_nifti", "save_volume", "take_placement"]

nib: Any = nibabel  # half of it carries no types

_HEADER_BYTES = {1: 348, 2: 540}  # of NIfTI-1 and NIfTI-2
_MAGIC_AT = {1: (344, b"n+1\0"), 2: (4, b"n+2\0")}  # "+": header and voxels in one file
_PAIR_MAGIC_AT = {1: (344, b"ni1\0"), 2: (4, b"ni2\0")}  # voxels in an .img beside
_MM_OF_UNIT = {1: 1000.0, 3: 0.001}  # metre and micron; millimetre, and units that nobody wrote, are millimetres
NIFTI_ENDINGS = (".nii.gz", ".nii", ".hdr")
_HeaderDataError = nib.spatialimages.HeaderDataError
_DAMAGED = (EOFError, OSError, ValueError, zlib.error, _HeaderDataError, nib.filebasedimages.ImageFileError)


def read_nifti(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Voxels as float32 (X, Y, Z) as they are stored, affine (4, 4) to mm in RAS, and the header's voxel size (3,).

    Raises InputError as `load_volume`, but for what depends on the values and on the agreement of size and affine.
    """
    check_nifti(path)
    try:
        image = nib.load(path, mmap=False)
        mm = _MM_OF_UNIT.get(int(image.header["xyzt_units"]) & 7, 1.0)
        affine = np.diag([mm, mm, mm, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is found as inf later
            data = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except _DAMAGED as error:
        raise InputError(f"{path}: truncated or damaged ({one_line(error)}); copy or download it again") from error
    data = data.reshape(without_single_axes(data.shape))
    return data, affine, mm * np.asarray(image.header.get_zooms()[:3], dtype=np.float64)


def is_nifti(path: Path) -> bool:
    """By its ending."""
    return path.name.lower().endswith(NIFTI_ENDINGS)


def nifti_files(path: Path) -> tuple[Path, ...]:
    """The files that one image consists of: an ``.hdr`` keeps its voxels in an ``.img``."""
    return (path, _voxels_of(path)) if _is_pair(path) else (path,)


def check_nifti(path: Path) -> None:
    """Raise InputError for a header that is none, or not of a volume that can be read."""
    header = _read_header(path)
    try:
        shape, dtype = without_single_axes(header.get_data_shape()), header.get_data_dtype()
    except (_HeaderDataError, ValueError, KeyError) as error:
        raise InputError(f"{path}: broken NIfTI header ({one_line(error)}); write the file again") from error
    check_shape_and_spacing(path, shape, header["pixdim"][1:4], "pixdim")
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: voxels of type {dtype}; needs one real number per voxel, so convert it")
    voxels = _voxels_of(path) if _is_pair(path) else path
    check_is_file(voxels)
    check_declared_size(path, shape, dtype.itemsize, voxels.stat().st_size, compressed=_is_packed(voxels))


def save_volume(
    path: Path | str,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    description: str = "",
    *,
    placed_as: Path | None = None,
) -> None:
    """Write (X, Y, Z) data as ``.nii.gz``, in one atomic step and with the same bytes for the same input.

    Booleans become uint8 and float64 float32; both qform and sform say *affine* (voxel index -> mm, "scanner"). With
    `placed_as`, a NIfTI file of the same voxels, they say what they say there, with its codes and its unit: readers
    that prefer one form, or go by neither, then see both files in one place.

    Raises:
        ValueError: for another file ending, or data that are not 3-D: mistakes of the calling code.
    """
    path = Path(path)
    if not path.name.endswith(".nii.gz") or data.ndim != 3:
        raise ValueError(f"{path}: needs a name ending in .nii.gz and 3-D data, not {data.ndim}-D")
    stored: Any = {"b": np.uint8, "f": np.float32}.get(data.dtype.kind, data.dtype)
    image = nib.Nifti1Image(np.asarray(data, dtype=stored), affine)
    if placed_as is None:
        image.set_qform(affine, code="scanner")
        image.set_sform(affine, code="scanner")
        image.header.set_xyzt_units("mm")
    else:
        theirs = nib.load(placed_as).header
        image = nib.Nifti1Image(np.asarray(data, dtype=stored), theirs.get_best_affine())
        take_placement(image.header, theirs)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]

    # No time and no name inside the gzip header: they would differ between two equal files.
    with (
        atomic_path(path) as unfinished,
        unfinished.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


def take_placement(header: Any, theirs: Any) -> None:
    """Let a header say of place and unit what another one says."""
    # A form of code 0 says nothing, but some readers look at its numbers.
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"):
        header[name] = theirs[name]
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[name] = theirs[name]
    header["pixdim"][:4] = theirs["pixdim"][:4]


def _read_header(path: Path) -> Any:
    """The header as it stands in the file, before nibabel mends it (it turns a voxel size of 0 into 1)."""
    check_is_file(path)
    try:
        with _open(path) as file:
            head = file.read(_HEADER_BYTES[2])
    except gzip.BadGzipFile as error:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES[2])
        raise InputError(f"{path}: {what_else(head, packed=True)}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged gzip; copy or download it again") from error
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}); check its type and permissions") from error
    for version, (at, magic) in (_PAIR_MAGIC_AT if _is_pair(path) else _MAGIC_AT).items():
        if len(head) >= _HEADER_BYTES[version] and head[at : at + len(magic)] == magic:
            kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
            return kind.from_fileobj(io.BytesIO(head[: _HEADER_BYTES[version]]), check=False)
    if _is_pair(path):
        raise InputError(f"{path}: an Analyze header, which says not how the scan lies; convert it to .nii or .nii.gz")
    raise InputError(f"{path}: {what_else(head)}")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if _is_packed(path) else path.open("rb")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _is_pair(path: Path) -> bool:
    return path.suffix.lower() == ".hdr"


def _voxels_of(header: Path) -> Path:
    """The file beside an ``.hdr``; packed where there is no plain one."""
    capitals = header.suffix.isupper()
    endings = (".IMG", ".IMG.GZ") if capitals else (".img", ".img.gz")
    files = [header.with_suffix(ending) for ending in endings]
    return next((file for file in files if file.exists()), files[0])
