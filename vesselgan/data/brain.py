"""A brain mask out of the intensities of a TOF-MRA, for datasets that come without one.

A simple method, stated so that it can be judged: on a coarse grid, keep what is about as bright as the tissue around it
(fluid and bone are darker, fat under the skin and vessels brighter), break thin bridges, keep the largest piece, close
its gaps and fill its holes. Tissue is first what is about as bright as the middle of the volume, then what is about as
bright as the mean of the tissue within a few centimetres, since coils see the rim of a head better than its middle. It
needs no training; it does not know the skull base.

On the phantom its DSC with the true mask is 0.93 on average and at least 0.92 at 96 x 96 x 48 voxels, 0.94 and at least
0.87 at 70 x 62 x 34 (subjects 0 to 7); 0.93 and 0.94 at 312 x 384 x 127 (subjects 2 and 3), where 97 and 99.7 % of the
brain are in the mask and 10 and 11 % of the mask are no brain.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["compute_brain_mask"]

_GRID_MM = 3.0
_SMOOTHING_MM = 1.5
_DARKEST, _BRIGHTEST = 0.65, 1.35  # of the typical brightness
_AROUND_MM, _ROUNDS = 12.0, 12  # where the typical brightness is taken, and how often with the tissue found so far
_WEIGHT = 1e-3  # of the whole volume's typical brightness: it counts only where there is next to no tissue
_BRIDGE_MM = 5.0  # half the width of the thickest bridge that is broken
_GAP_MM = 8.0  # half the width of the widest gap that is closed: vessels, fissures


def compute_brain_mask(image: NDArray[np.float32], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Mask (X, Y, Z) of the brain in the image (X, Y, Z); where the field of view cuts the brain, up to the border.

    All False if nothing in the volume looks like a brain.
    """
    # Ends are exact: the last block may be smaller.
    voxels = [max(1, round(_GRID_MM / mm)) for mm in spacing_mm]
    coarse = image
    for axis, (size, block) in enumerate(zip(image.shape, voxels, strict=True)):
        starts = np.arange(0, size, block)
        coarse = np.add.reduceat(coarse, starts, axis=axis, dtype=np.float32)
        counts = np.diff(np.append(starts, size)).astype(np.float32)
        coarse /= counts.reshape([-1 if other == axis else 1 for other in range(3)])
    grid_mm = np.array(spacing_mm) * voxels
    coarse = scipy.ndimage.gaussian_filter(coarse, _SMOOTHING_MM / grid_mm)
    middle = np.median(coarse[tuple(slice(size // 4, size - size // 4) for size in coarse.shape)])
    tissue = _about_as_bright(coarse, middle)
    for _ in range(_ROUNDS):
        around = scipy.ndimage.gaussian_filter(np.where(tissue, coarse, 0), _AROUND_MM / grid_mm, mode="nearest")
        share = scipy.ndimage.gaussian_filter(tissue.astype(np.float32), _AROUND_MM / grid_mm, mode="nearest")
        tissue = _about_as_bright(coarse, (around + _WEIGHT * middle) / (share + _WEIGHT))

    margin = [int(np.ceil((_BRIDGE_MM + _GAP_MM) / mm)) + 1 for mm in grid_mm]
    tissue = np.pad(tissue, [(n, n) for n in margin], mode="edge")  # the head goes on beyond the field of view
    pieces, _ = scipy.ndimage.label(_distance_mm(tissue, grid_mm) > _BRIDGE_MM)
    sizes = np.bincount(pieces.ravel())[1:]
    if not sizes.size:
        return np.zeros(image.shape, dtype=bool)
    largest = pieces == 1 + int(sizes.argmax())
    widened = _distance_mm(~largest, grid_mm) <= _BRIDGE_MM + _GAP_MM
    mask = scipy.ndimage.binary_fill_holes(_distance_mm(widened, grid_mm) > _GAP_MM)
    mask = mask[tuple(slice(n, -n) for n in margin)]
    for axis, block in enumerate(voxels):
        mask = np.repeat(mask, block, axis=axis)
    x, y, z = image.shape
    return np.ascontiguousarray(mask[:x, :y, :z])


def _about_as_bright(image: NDArray[np.float32], typical: NDArray[np.float32] | np.floating) -> NDArray[np.bool_]:
    return (image > _DARKEST * typical) & (image < _BRIGHTEST * typical)


def _distance_mm(mask: NDArray[np.bool_], grid_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each voxel inside the mask from the outside; infinite where there is no outside."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    distance: NDArray[np.float64] = scipy.ndimage.distance_transform_edt(mask, sampling=grid_mm)
    return distance
