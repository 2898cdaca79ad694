"""Volumes of any format in one orientation, one dtype, and one clear line for each way in which a file can be wrong."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.data.headers import by, check_is_file
from vesselgan.data.metaimage import check_metaimage, is_metaimage, metaimage_files, read_metaimage
from vesselgan.data.nifti import NIFTI_ENDINGS, check_nifti, nifti_files, read_nifti
from vesselgan.data.nrrd import check_nrrd, is_nrrd, nrrd_files, read_nrrd
from vesselgan.errors import InputError

__all__ = [
    "VOLUME_ENDINGS",
    "Volume",
    "check_header",
    "check_same_grid",
    "checked_finite",
    "is_volume",
    "load_mask",
    "load_volume",
    "marked_voxels",
    "read_stored",
    "spacing_of",
    "volume_files",
]

nib: Any = nibabel  # half of it carries no types

VOLUME_ENDINGS = (*NIFTI_ENDINGS, ".mha", ".mhd", ".nrrd", ".nhdr")  # in small letters
_SENSIBLE_SPACING_MM = (0.01, 20.0)
_LARGEST_SHIFT_VOXELS = 0.1  # between two grids that count as the same: other tools round affines


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image in canonical (RAS) orientation."""

    data: NDArray[Any]  # (X, Y, Z): left to right, posterior to anterior, inferior to superior
    affine: NDArray[np.float64]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]
    stored_affine: NDArray[np.float64] | None = None  # (4, 4), of the voxels in the order in which the file has them


def load_volume(path: Path | str, *, nan: float | None = None, is_label: bool = False) -> Volume:
    """Read one 3-D scan as float32 in canonical (RAS) orientation: NIfTI, NRRD, or MetaImage where SimpleITK is there.

    Axes of one voxel behind the third are dropped; metres and microns, where the header says so, become millimetres.

    With `nan`, NaN voxels become that value; of a label they never do, which `is_label` has the message say.
    Memory is bounded by the size that the header declares, and that by what a compressed file of this size can hold.

    Raises:
        InputError: missing, unreadable or truncated file, unknown format, not 3-D, non-numeric, NaN or infinite
            voxels, voxel size zero, absurd or at odds with the affine. A constant image is left to the caller.
    """
    path = Path(path)
    data, affine, spacing = read_stored(path)
    data = checked_finite(path, data, nan, is_label=is_label)
    _check_spacing(path, spacing, affine)

    orientation = nib.io_orientation(affine)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    data = np.ascontiguousarray(nib.apply_orientation(data, orientation))
    return Volume(data, turned, spacing_of(turned), affine)


def checked_finite(
    path: Path, data: NDArray[np.float32], nan: float | None, *, is_label: bool = False
) -> NDArray[np.float32]:
    """The values with `nan`, if that is given, in place of NaN. Raises InputError for NaN otherwise, and infinity."""
    if nan is not None:
        data = np.where(np.isnan(data), np.float32(nan), data)
    if np.isfinite(data).all():
        return data
    bad = int(data.size - np.isfinite(data).sum())
    remedy = ", or say what they become: nan: 0 in a layout or a protocol's include, --nan 0 of segment and score"
    told = "" if is_label or np.isinf(data).any() else remedy
    raise InputError(f"{path}: {bad} of {data.size} voxels are NaN or infinite; replace them with numbers{told}")


def read_stored(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Voxels as they are stored, affine (4, 4) to mm in RAS, voxel size (3,). Raises InputError as `load_volume`."""
    if is_metaimage(path):
        return read_metaimage(path)
    return read_nrrd(path) if is_nrrd(path) else read_nifti(path)


def is_volume(path: Path) -> bool:
    """Whether a file has a header that says where its voxels lie, by its ending in whatever case."""
    return path.name.lower().endswith(VOLUME_ENDINGS)


def volume_files(path: Path) -> tuple[Path, ...]:
    """The files that one image consists of. Raises InputError for a header that cannot be read."""
    if is_metaimage(path):
        return metaimage_files(path)
    return nrrd_files(path) if is_nrrd(path) else nifti_files(path)


def check_header(path: Path) -> None:
    """Raise InputError for what `load_volume` would refuse before it reads a voxel. Tubes have no header."""
    if is_metaimage(path):
        check_metaimage(path)
    elif is_nrrd(path):
        check_nrrd(path)
    elif path.suffix == ".tre":
        check_is_file(path)
    else:
        check_nifti(path)


def load_mask(
    path: Path | str,
    *,
    allow_uniform: bool = False,
    vessels: Collection[int] | None = None,
    background: Collection[int] = (0,),
) -> Volume:
    """Read a binary mask or label as bool (X, Y, Z) in canonical (RAS) orientation.

    Args:
        path: an image with exactly two values, 0 and one other; or with the values of a label map.
        allow_uniform: accept one value as well, for predictions that may be empty.
        vessels: the values of a label map that are vessels; None for a binary mask.
        background: the other values of that map.

    Raises:
        InputError: as `load_volume`, and for other values.
    """
    volume = load_volume(path, is_label=True)
    mask = marked_voxels(Path(path), volume.data, allow_uniform, vessels, background)
    return Volume(mask, volume.affine, volume.spacing_mm)


def marked_voxels(
    path: Path,
    data: NDArray[np.float32],
    allow_uniform: bool = False,
    vessels: Collection[int] | None = None,
    background: Collection[int] = (0,),
) -> NDArray[np.bool_]:
    """The checks of `load_mask` on values that are read already; `path` is for the message."""
    if vessels is None:
        mask = np.asarray(data != 0)
        marked = data[mask]
        # Where every voxel is -1, it is the background of labels of -1 and 1.
        mixed = (marked[1:] != marked[:1]).any() or (mask.all() and (marked[:1] < 0).any())
    else:
        mask = np.isin(data, np.array(sorted(vessels), dtype=data.dtype))
        mixed = not (mask | np.isin(data, np.array(sorted(background), dtype=data.dtype))).all()
    uniform = mask.all() or not mask.any()
    if mixed or (uniform and not allow_uniform):
        values = np.unique(data)
        listed = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        if vessels is None and not mixed:
            what = "every voxel is marked" if mask.all() else "no voxel is marked: label it, or leave the scan out"
        elif vessels is None:
            what = "a mask holds exactly two, 0 and one other: binarise it, or name its vessels in a layout"
        elif mixed:
            strange = next(value for value in values if value not in vessels and value not in background)
            what = f"the layout's label map has no {strange:g}: add it to vessels or background, or correct the label"
        else:
            what = "the layout's label map finds " + ("nothing but vessels" if mask.any() else "no vessels") + " in it"
        raise InputError(f"{path}: values {listed}; {what}")
    return mask


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
    if shift_mm > _LARGEST_SHIFT_VOXELS * min(spacing_of(other_affine)):
        raise InputError(
            f"{path}: affine differs from that of {other} by up to {shift_mm:.3g} mm; "
            "resample it to the image, or copy the affine if the voxels do match"
        )


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel size in mm: the lengths of the affine's columns."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def _check_spacing(path: Path, spacing: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
    by_affine = np.array(spacing_of(affine))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * by_affine.prod():
        raise InputError(f"{path}: affine is singular or not finite; correct sform and qform in the header")
    if not np.allclose(spacing, by_affine, rtol=0.01):
        raise InputError(f"{path}: voxel size {by(spacing)} mm, but {by(by_affine)} mm by its affine; correct one")
    least, most = _SENSIBLE_SPACING_MM
    if spacing.min() < least or spacing.max() > most:
        raise InputError(f"{path}: voxel size {by(spacing)} mm, outside {least:g} to {most:g}; is the unit mm?")
