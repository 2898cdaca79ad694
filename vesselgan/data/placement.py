"""How a scan lies in its file, kept apart from its voxels, so that what is made of it can be stored in the same way."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.data.nifti import is_nifti, take_placement

__all__ = ["as_in_file", "placement_of"]

nib: Any = nibabel  # half of it carries no types

_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])
_HEADER_BYTES = 352  # of a NIfTI-1 file without extensions


def placement_of(path: Path, stored_affine: NDArray[np.float64]) -> bytes:
    """A NIfTI-1 header without voxels, names and comments: the scan's order of voxels, forms, codes and unit.

    `stored_affine` (4, 4) is that of the voxels as the file has them, in mm; both forms say so where the file is no
    NIfTI, which alone has forms.
    """
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), stored_affine)
    if is_nifti(path):
        theirs = nib.load(path).header
        header.header.set_data_shape(theirs.get_data_shape()[:3])  # without forms, it decides where the scan lies
        take_placement(header.header, theirs)
    else:
        header.set_qform(stored_affine, code="scanner")
        header.set_sform(stored_affine, code="scanner")
        header.header.set_xyzt_units("mm")
    content: bytes = header.header.binaryblock
    return content.ljust(_HEADER_BYTES, b"\0")


def as_in_file(stored_affine: NDArray[np.float64], canonical: NDArray[Any]) -> NDArray[Any]:
    """Data (X, Y, Z) in canonical (RAS) orientation, turned to that of a file whose voxels have this affine."""
    turn = nib.orientations.ornt_transform(_CANONICAL, nib.io_orientation(stored_affine))
    return np.ascontiguousarray(nib.apply_orientation(canonical, turn))
