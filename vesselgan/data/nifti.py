"""NIfTI files in and out: one orientation, one dtype, and one clear line for each way in which a file can be wrong."""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError
from vesselgan.files import atomic_path

__all__ = ["Volume", "check_same_grid", "load_mask", "load_volume", "save_volume"]

nib: Any = nibabel  # half of it carries no types

_HEADER_BYTES = {1: 348, 2: 540}  # of NIfTI-1 and NIfTI-2
_MAGIC_AT = {1: (344, b"n+1\0"), 2: (4, b"n+2\0")}  # "+": header and voxels in one file
_LARGEST_DEFLATE_RATIO = 1032  # 258 bytes from 2 bits; more cannot come out of a gzip stream
_MOST_VOXELS = 1024**3
_SENSIBLE_SPACING_MM = (0.01, 20.0)
_LARGEST_SHIFT_VOXELS = 0.1  # between two grids that count as the same: other tools round affines
_HeaderDataError = nib.spatialimages.HeaderDataError
_DAMAGED = (EOFError, OSError, ValueError, zlib.error, _HeaderDataError, nib.filebasedimages.ImageFileError)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image in canonical (RAS) orientation."""

    data: NDArray[Any]  # (X, Y, Z): left to right, posterior to anterior, inferior to superior
    affine: NDArray[np.float64]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]


def load_volume(path: Path | str) -> Volume:
    """Read one 3-D scan as float32 in canonical (RAS) orientation.

    Memory is bounded by the size that the header declares, and that by what a gzip file of this size can hold.

    Raises:
        InputError: missing, unreadable or truncated file, not single-file NIfTI, not 3-D, non-numeric, NaN or infinite
            voxels, voxel size zero, absurd or at odds with the affine. A constant image is left to the caller.
    """
    path = Path(path)
    _check_header(path, _read_header(path))
    try:
        image = nib.load(path, mmap=False)
        affine = np.asarray(image.affine, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is found as inf below
            data = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except _DAMAGED as error:
        raise InputError(f"{path}: truncated or damaged ({_one_line(error)}); copy or download it again") from error
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise InputError(f"{path}: {bad} of {data.size} voxels are NaN or infinite; replace them with numbers")
    _check_spacing(path, np.asarray(image.header.get_zooms(), dtype=np.float64), affine)

    orientation = nib.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    data = np.ascontiguousarray(nib.apply_orientation(data, orientation))
    return Volume(data, affine, _column_lengths(affine))


def load_mask(path: Path | str, *, allow_uniform: bool = False) -> Volume:
    """Read a binary mask or label as bool (X, Y, Z) in canonical (RAS) orientation.

    Args:
        path: a NIfTI file with exactly two values, 0 and one other.
        allow_uniform: accept one value as well, for predictions that may be empty.

    Raises:
        InputError: as `load_volume`, and for other values.
    """
    volume = load_volume(path)
    mask = volume.data != 0
    marked = volume.data[mask]
    uniform = marked.size in (0, mask.size)
    if (uniform and not allow_uniform) or (marked[1:] != marked[:1]).any():
        values = np.unique(volume.data)
        listed = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        raise InputError(f"{path}: values {listed}; a mask holds exactly two, 0 and one other: binarise it")
    return Volume(mask, volume.affine, volume.spacing_mm)


def check_same_grid(
    path: Path,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    other: Path,
    other_shape: tuple[int, ...],
    other_affine: NDArray[np.float64],
) -> None:
    """Raise InputError where the voxels of `path` are not those of the `other` file that it belongs to."""
    if shape != other_shape:
        raise InputError(f"{path}: shape {shape}, but {other} has {other_shape}; resample it")
    shift_mm = (np.abs(affine - other_affine)[:3] @ [*shape, 1]).max()  # no voxel moves further
    if shift_mm > _LARGEST_SHIFT_VOXELS * min(_column_lengths(other_affine)):
        raise InputError(
            f"{path}: affine differs from that of {other} by up to {shift_mm:.3g} mm; "
            "resample it to the image, or copy the affine if the voxels do match"
        )


def save_volume(path: Path | str, data: NDArray[Any], affine: NDArray[np.float64], description: str = "") -> None:
    """Write (X, Y, Z) data as ``.nii.gz``, in one atomic step and with the same bytes for the same input.

    Booleans become uint8 and float64 float32; both qform and sform say *affine* (voxel index -> mm, "scanner").

    Raises:
        ValueError: for another file ending, or data that are not 3-D: mistakes of the calling code.
    """
    path = Path(path)
    if not path.name.endswith(".nii.gz") or data.ndim != 3:
        raise ValueError(f"{path}: needs a name ending in .nii.gz and 3-D data, not {data.ndim}-D")
    stored: Any = {"b": np.uint8, "f": np.float32}.get(data.dtype.kind, data.dtype)
    image = nib.Nifti1Image(np.asarray(data, dtype=stored), affine)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]

    # No time and no name inside the gzip header: they would differ between two equal files.
    with (
        atomic_path(path) as unfinished,
        unfinished.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


def _read_header(path: Path) -> Any:
    """The header as it stands in the file, before nibabel mends it (it turns a voxel size of 0 into 1)."""
    try:
        with _open(path) as file:
            head = file.read(_HEADER_BYTES[2])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except gzip.BadGzipFile as error:
        raise InputError(f"{path}: not gzip, though its name ends in .gz; rename or compress it") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged gzip; copy or download it again") from error
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}); check its type and permissions") from error
    for version, (at, magic) in _MAGIC_AT.items():
        if len(head) >= _HEADER_BYTES[version] and head[at : at + len(magic)] == magic:
            kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
            return kind.from_fileobj(io.BytesIO(head[: _HEADER_BYTES[version]]), check=False)
    raise InputError(f"{path}: not a single-file NIfTI image; convert it to .nii or .nii.gz")


def _check_header(path: Path, header: Any) -> None:
    try:
        shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    except (_HeaderDataError, ValueError, KeyError) as error:
        raise InputError(f"{path}: broken NIfTI header ({_one_line(error)}); write the file again") from error
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path}: {len(shape)}-D with shape {shape}; needs one 3-D volume, so extract it")
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: voxels of type {dtype}; needs one real number per voxel, so convert it")
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InputError(f"{path}: voxel size {_by(spacing)} mm; correct pixdim in the header")
    voxels = int(np.prod(shape, dtype=object))
    declared_bytes = voxels * dtype.itemsize
    packed_bytes = path.stat().st_size
    ratio = _LARGEST_DEFLATE_RATIO if path.suffix == ".gz" else 1
    if declared_bytes > ratio * packed_bytes:
        raise InputError(
            f"{path}: header declares {declared_bytes} bytes of voxels, too many for a file of {packed_bytes} bytes; "
            "it is truncated or damaged: copy or download it again"
        )
    if voxels > _MOST_VOXELS:
        raise InputError(f"{path}: {voxels} voxels, more than {_MOST_VOXELS}; crop or resample it")


def _check_spacing(path: Path, spacing: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
    by_affine = np.array(_column_lengths(affine))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * by_affine.prod():
        raise InputError(f"{path}: affine is singular or not finite; correct sform and qform in the header")
    if not np.allclose(spacing, by_affine, rtol=0.01):
        raise InputError(f"{path}: voxel size {_by(spacing)} mm, but {_by(by_affine)} mm by its affine; correct one")
    least, most = _SENSIBLE_SPACING_MM
    if spacing.min() < least or spacing.max() > most:
        raise InputError(f"{path}: voxel size {_by(spacing)} mm, outside {least:g} to {most:g}; is the unit mm?")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _column_lengths(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def _by(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in spacing)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
