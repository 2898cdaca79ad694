"""Tubes on a coarse grid: how much of each voxel they fill, counted on a grid that is finer along each axis."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import FIELD_OF_VIEW_MM
from vesselgan.data.vessel_tree import Branch

__all__ = ["fill_voxels"]

_FINER = 3  # parts of a voxel per axis
_STEP = 0.4  # of the radius: distance of neighbouring balls in a tube, which then narrows by 2 % between them
_PAIRS_AT_ONCE = 1_000_000  # of ball and part of a voxel: bounds memory


def fill_voxels(
    branches: Sequence[Branch], signals: Sequence[NDArray[np.float64]], shape: Sequence[int]
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Voxels that blood fills at least in part.

    Args:
        branches: centrelines in the head's frame; where two overlap, the first one's blood counts.
        signals: of the blood at each centreline point, one array (n,) per branch.
        shape: of the grid, which shows the whole field of view.

    Returns:
        flat indices (k,), the share of each voxel that is blood (k,), above 0 and at most 1, and the blood's mean signal
        in that share (k,).
    """
    fine_shape = np.array(shape) * _FINER
    part_mm = np.array(FIELD_OF_VIEW_MM) / fine_shape
    parts, signal = zip(
        *(_tube(branch, values, fine_shape, part_mm) for branch, values in zip(branches, signals, strict=True)),
        strict=True,
    )
    flat, first = np.unique(np.concatenate(parts), return_index=True)
    blood = np.concatenate(signal)[first]
    coarse = np.ravel_multi_index(tuple(i // _FINER for i in np.unravel_index(flat, fine_shape)), tuple(shape))
    voxels, owner = np.unique(coarse, return_inverse=True)
    count = np.bincount(owner)
    mean = np.bincount(owner, weights=blood) / count
    return voxels, (count / _FINER**3).astype(np.float32), mean.astype(np.float32)


def _tube(
    branch: Branch, signal: NDArray[np.float64], fine_shape: NDArray[np.int_], part_mm: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Parts of voxels inside one tube, as flat indices (k,), and the blood's signal there (k,)."""
    centreline_step = (branch.distance_mm[-1] - branch.distance_mm[0]) / (len(branch.points_mm) - 1)
    every = max(1, int(_STEP * branch.radius_mm / max(centreline_step, 1e-9)))
    chosen = np.append(np.arange(0, len(branch.points_mm) - 1, every), len(branch.points_mm) - 1)
    origin_mm = np.array([-FIELD_OF_VIEW_MM[0] / 2, -FIELD_OF_VIEW_MM[1] / 2, 0])
    centres = (branch.points_mm[chosen] - origin_mm) / part_mm - 0.5
    reach = np.ceil(branch.radius_mm / part_mm + 0.5).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    at_once = max(1, _PAIRS_AT_ONCE // len(offsets))
    found, values = [], []
    for start in range(0, len(centres), at_once):
        part = centres[start : start + at_once, None]
        nearest = np.rint(part)
        gap = ((offsets + (nearest - part)) * part_mm).astype(np.float32)  # mm, (balls, offsets, 3)
        inside = np.einsum("bok,bok->bo", gap, gap) <= np.float32(branch.radius_mm**2)
        ball, offset = np.nonzero(inside)
        indices = nearest[ball, 0].astype(np.intp) + offsets[offset]
        within = ((indices >= 0) & (indices < fine_shape)).all(axis=1)
        found.append(np.ravel_multi_index(tuple(indices[within].T), tuple(fine_shape)))
        values.append(signal[chosen[start : start + at_once]][ball[within]])
    flat, first = np.unique(np.concatenate(found), return_index=True)
    return flat, np.concatenate(values)[first]
