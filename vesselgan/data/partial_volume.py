"""Tubes on a coarse grid: how much of each voxel they fill, counted on a grid that is finer along each axis."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import FIELD_OF_VIEW_MM
from vesselgan.data.vessel_tree import Branch

__all__ = ["fill_voxels"]

_FINER = 3  # parts of a voxel per axis
_CORE = 0.5  # of the cross-section, and of the squared radius
_STEP = 0.4  # of the radius: distance of neighbouring balls in a tube, which then narrows by 2 % between them
_PAIRS_AT_ONCE = 1_000_000  # of ball and part of a voxel: bounds memory


_Parts = tuple[NDArray[np.intp], NDArray[np.float64]]  # flat indices (k,) and the blood's signal there (k,)


def fill_voxels(
    branches: Sequence[Branch], signals: Sequence[NDArray[np.float64]], shape: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Voxels that blood fills at least in part.

    Args:
        branches: centrelines in the head's frame; where two overlap, the first one's blood counts.
        signals: of the blood at each centreline point, one array (n, 2) per branch: in the inner half of the
            cross-section, which counts before any outer half, and in the outer one.
        shape: of the grid, which shows the whole field of view.

    Returns:
        flat indices (k,); the share of each voxel that is blood (k,), above 0 and at most 1; the mean signal of that
        blood (k,).
    """
    fine_shape = np.array(shape) * _FINER
    part_mm = np.array(FIELD_OF_VIEW_MM) / fine_shape
    tubes = [_tube(branch, values, fine_shape, part_mm) for branch, values in zip(branches, signals, strict=True)]
    halves = [tube[half] for half in (0, 1) for tube in tubes]
    flat, first = np.unique(np.concatenate([parts for parts, _ in halves]), return_index=True)
    blood = np.concatenate([values for _, values in halves])[first]
    coarse = np.ravel_multi_index(tuple(i // _FINER for i in np.unravel_index(flat, fine_shape)), tuple(shape))
    voxels, owner = np.unique(coarse, return_inverse=True)
    count = np.bincount(owner)
    mean = np.bincount(owner, weights=blood) / count
    return voxels, (count / _FINER**3).astype(np.float32), mean.astype(np.float32)


def _tube(
    branch: Branch, signal: NDArray[np.float64], fine_shape: NDArray[np.int_], part_mm: NDArray[np.float64]
) -> list[_Parts]:
    """Parts of voxels inside the inner and the outer half of one tube."""
    centreline_step = (branch.distance_mm[-1] - branch.distance_mm[0]) / (len(branch.points_mm) - 1)
    every = max(1, int(_STEP * branch.radius_mm / max(centreline_step, 1e-9)))
    chosen = np.append(np.arange(0, len(branch.points_mm) - 1, every), len(branch.points_mm) - 1)
    origin_mm = np.array([-FIELD_OF_VIEW_MM[0] / 2, -FIELD_OF_VIEW_MM[1] / 2, 0])
    centres = (branch.points_mm[chosen] - origin_mm) / part_mm - 0.5
    nearest = np.rint(centres)
    reach = np.ceil(branch.radius_mm / part_mm + 0.5).astype(int)
    window = [np.arange(-n, n + 1) for n in reach]
    squares = [  # mm^2, per axis (balls, window): a sum over the axes tells which parts a ball holds
        (((window[axis] + (nearest - centres)[:, axis, None]) * part_mm[axis]) ** 2).astype(np.float32)
        for axis in range(3)
    ]
    strides = (int(fine_shape[1] * fine_shape[2]), int(fine_shape[2]), 1)
    offsets = window[0][:, None, None] * strides[0] + window[1][:, None] * strides[1] + window[2]
    middles = nearest.astype(np.intp)
    middles_flat = middles @ np.array(strides)
    all_within = not ((middles < reach) | (middles + reach >= fine_shape)).any()
    at_once = max(1, _PAIRS_AT_ONCE // offsets.size)
    halves: tuple[list[_Parts], list[_Parts]] = ([], [])
    for start in range(0, len(centres), at_once):
        x, y, z = (square[start : start + at_once] for square in squares)
        distance = x[:, :, None, None] + (y[:, :, None] + z[:, None, :])[:, None]
        hits = np.flatnonzero(distance <= np.float32(branch.radius_mm**2))
        outer = distance.reshape(-1)[hits] > np.float32(_CORE * branch.radius_mm**2)
        ball, offset = np.divmod(hits, offsets.size)
        flat = middles_flat[start + ball] + offsets.ravel()[offset]
        blood = signal[chosen[start + ball], outer.astype(np.intp)]
        if not all_within:
            place = np.stack(np.unravel_index(offset, offsets.shape), axis=1) - reach + middles[start + ball]
            within = ((place >= 0) & (place < fine_shape)).all(axis=1)
            flat, blood, outer = flat[within], blood[within], outer[within]
        halves[0].append((flat[~outer], blood[~outer]))
        halves[1].append((flat[outer], blood[outer]))
    return [_first_of_each(parts) for parts in halves]


def _first_of_each(found: Sequence[_Parts]) -> _Parts:
    flat, first = np.unique(np.concatenate([parts for parts, _ in found]), return_index=True)
    return flat, np.concatenate([blood for _, blood in found])[first]
