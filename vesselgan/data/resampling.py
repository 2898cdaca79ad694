"""Another voxel size for an image and its masks.

One linear operator per axis serves all: each new voxel is a mean of old ones, weighted by a triangle as wide as the
larger of the two voxels. That is linear interpolation towards smaller voxels, and a mean without aliasing towards
larger ones. A mask is resampled as the share of vessel in a voxel and marked from one half on: the nearest voxel's
value would move every border by up to half a voxel and make thin vessels come and go with the grid. Vessels much
thinner than the new voxels vanish; nothing could keep them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError

__all__ = ["resample", "resample_mask", "resampled_grid"]

_SAME = 1e-3  # relative difference of voxel sizes that is not worth an interpolation


def resampled_grid(
    shape: Sequence[int], affine: NDArray[np.float64], spacing_mm: Sequence[float]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape (3,) and affine (4, 4) of the grid with these voxels over the same field of view, about the same centre.

    The spacing comes out as asked for; the field of view is rounded to whole voxels.

    Raises InputError for a spacing that leaves no voxel, or too many for the memory.
    """
    old_mm = np.linalg.norm(affine[:3, :3], axis=0)
    factors = _factors(old_mm, spacing_mm)
    new_shape = tuple(max(1, round(n / factor)) for n, factor in zip(shape, factors, strict=True))
    if np.prod(new_shape, dtype=object) > 1024**3:
        raise InputError(f"spacing {tuple(spacing_mm)} mm makes {new_shape} voxels, more than fit; choose a larger one")
    step = np.eye(4)
    step[:3, :3] = np.diag(factors)
    step[:3, 3] = (np.array(shape) - 1) / 2 - factors * (np.array(new_shape) - 1) / 2
    return new_shape, affine @ step


def resample(data: NDArray[Any], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """An image (X, Y, Z) on the grid of `resampled_grid`, as float32."""
    result = np.asarray(data, dtype=np.float32)
    for axis, factor in enumerate(_factors(spacing_mm, new_spacing_mm)):
        if factor != 1:
            weights = _weights(result.shape[axis], float(factor))
            result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def resample_mask(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) on the same grid: the voxels of which at least half is marked."""
    return resample(mask, spacing_mm, new_spacing_mm) > 0.5 - 1e-5  # float32 sums of weights stray from one


def _factors(old_mm: Sequence[float] | NDArray[np.float64], new_mm: Sequence[float]) -> NDArray[np.float64]:
    factors = np.asarray(new_mm, dtype=np.float64) / np.asarray(old_mm, dtype=np.float64)
    return np.where(np.abs(factors - 1) < _SAME, 1.0, factors)


def _weights(size: int, factor: float) -> NDArray[np.float32]:
    """(new, old) with rows that add up to one."""
    new = max(1, round(size / factor))
    centres = (np.arange(new) - (new - 1) / 2) * factor + (size - 1) / 2
    distance = np.abs(centres[:, None] - np.arange(size))
    weights = np.maximum(0, 1 - distance / max(1.0, factor))
    # Beyond the last voxel's centre there is nothing to interpolate with: its own value.
    empty = weights.sum(axis=1) == 0
    weights[empty, distance[empty].argmin(axis=1)] = 1
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
