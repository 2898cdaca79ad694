"""Many NIfTI files of one shape, spacing and description: their headers are made once."""

import gzip
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError

__all__ = ["VolumeEncoder", "centred_affine"]

nib: Any = nibabel  # half of it carries no types

_VOXELS_FROM = 352  # where they begin in a NIfTI-1 file without extensions
_SENSIBLE_SPACING_MM = (0.01, 20.0)  # what `load_volume` takes
_GZIP_LEVEL = 1  # noise does not compress: level 6 takes three times as long and saves 2 % of an image


class VolumeEncoder:
    """(X, Y, Z) images of one dtype, or labels -> the bytes of a ``.nii.gz``, equal for equal input.

    qform and sform both say `centred_affine`; ``descrip`` holds the description. Raises InputError for a spacing that
    is not positive, or not in mm.
    """

    def __init__(
        self, shape: Sequence[int], dtype: np.dtype[Any], spacing_mm: Sequence[float], description: str
    ) -> None:
        self._shape = tuple(shape)
        affine = centred_affine(shape, spacing_mm)
        self._headers = {
            np.dtype(kind): _header(self._shape, np.dtype(kind), affine, description) for kind in (dtype, np.uint8)
        }

    def __call__(self, data: NDArray[Any]) -> bytes:
        """The file's bytes. Booleans become uint8."""
        stored = data.view(np.uint8) if data.dtype == np.bool_ else data
        if stored.shape != self._shape or stored.dtype not in self._headers:
            raise ValueError(f"data {stored.shape} {stored.dtype}, but the header is for {self._shape}")
        # mtime 0: a time would differ between two equal files.
        return gzip.compress(self._headers[stored.dtype] + stored.tobytes("F"), _GZIP_LEVEL, mtime=0)


def centred_affine(shape: Sequence[int], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """(4, 4), voxel index -> mm: axes to the right, front and top (RAS), the patch's middle at the origin."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    least, most = _SENSIBLE_SPACING_MM
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or spacing.min() < least or spacing.max() > most:
        told = ",".join(f"{mm:g}" for mm in spacing.ravel())
        raise InputError(f"voxel size {told} mm: give three numbers between {least:g} and {most:g}")
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.asarray(shape) - 1) / 2
    return affine


def _header(shape: tuple[int, ...], dtype: np.dtype[Any], affine: NDArray[np.float64], description: str) -> bytes:
    image = nib.Nifti1Image(np.zeros(shape, dtype), affine)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    header: bytes = image.to_bytes()[:_VOXELS_FROM]
    return header
