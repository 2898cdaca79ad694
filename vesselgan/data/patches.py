"""Which patches are cut out of a volume, and how their intensities are scaled.

The paper cuts 50 patches of 128 x 128 x 64 from a volume of 312 x 384 x 127: 18 on a grid of 3 x 3 x 2 that covers it,
and 32 centred on a random vessel voxel.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesselgan.errors import InputError

__all__ = ["apply_range", "cut", "grid_corners", "minmax_scale", "patch_corners", "robust_range", "vessel_corners"]

T = TypeVar("T", bound=np.generic)

_ROBUST_PERCENTILES = (0.5, 99.9)


def patch_corners(
    label: NDArray[np.bool_],
    patch_size: Sequence[int],
    *,
    grid: Sequence[int] | None,
    vessel: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Lowest-index corners (N, 3) in voxels: first the regular grid, then *vessel* patches centred on vessel voxels.

    Args:
        label: (X, Y, Z), vessels.
        patch_size: voxels per axis.
        grid: patches per axis, or None for the fewest that cover the volume.
        vessel: how many patches to centre on vessels; they may overhang the border, as in the paper.
        rng: draws the vessel voxels.

    Raises:
        InputError: vessel patches wanted from a label without vessels.
    """
    regular = grid_corners(label.shape, patch_size, grid)
    return np.concatenate([regular, vessel_corners(label, patch_size, vessel, rng)])


def grid_corners(
    shape: Sequence[int], patch_size: Sequence[int], grid: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Corners (N, 3) evenly spaced from border to border; *grid* patches per axis, by default the fewest without gaps.

    Positions that round to the same voxel are kept once. On an axis shorter than the patch the one patch is centred.
    """
    counts = grid if grid is not None else [-(-size // patch) for size, patch in zip(shape, patch_size, strict=True)]
    axes = []
    for size, patch, count in zip(shape, patch_size, counts, strict=True):
        spare = size - patch
        middle = spare // 2
        positions = np.linspace(0, spare, count).round() if spare > 0 and count > 1 else [middle]
        axes.append(np.unique(positions).astype(np.int64))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def vessel_corners(
    label: NDArray[np.bool_], patch_size: Sequence[int], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Corners (count, 3) of patches whose central voxel (index size // 2) is a vessel voxel, all equally likely."""
    vessels = np.flatnonzero(label)
    if count and not vessels.size:
        raise InputError("label without vessels: cannot centre patches on them; ask for 0 such patches")
    drawn = rng.choice(vessels, size=count, replace=count > vessels.size) if count else vessels[:0]
    centres = np.stack(np.unravel_index(drawn, label.shape), axis=-1)
    corners: NDArray[np.int64] = centres.astype(np.int64) - np.asarray(patch_size) // 2
    return corners


def cut(volume: NDArray[T], corner: ArrayLike, patch_size: Sequence[int], fill: float = 0) -> NDArray[T]:
    """Copy the patch at *corner* out of (X, Y, Z); what overhangs the border is *fill* (the paper: zero)."""
    start = np.asarray(corner)
    stop = start + patch_size
    inside_start = np.maximum(start, 0)
    inside_stop = np.maximum(np.minimum(stop, volume.shape), inside_start)
    source = tuple(slice(low, high) for low, high in zip(inside_start, inside_stop, strict=True))
    target = tuple(slice(low, high) for low, high in zip(inside_start - start, inside_stop - start, strict=True))
    patch = np.full(tuple(patch_size), fill, dtype=volume.dtype)
    patch[target] = volume[source]
    return patch


def minmax_scale(patch: NDArray[Any]) -> NDArray[np.float32]:
    """Map each patch by itself to [-1, 1], as the paper's code does; a constant patch becomes -1.

    The same tissue then has another value in each patch: see `robust_range` for the alternative.
    """
    values = patch.astype(np.float32)
    return _to_unit(values, float(values.min()), float(values.max()))


def robust_range(volume: NDArray[Any]) -> tuple[float, float]:
    """The intensities (low, high) that one scaling for the whole volume maps to -1 and 1.

    Percentiles 0.5 and 99.9: vessels are the brightest 0.5 to 3 % of a TOF-MRA, so the upper one lies among them and
    saturates only their brightest part (at most a fifth), yet ignores spikes; the lower one is the noise floor. Where
    the two coincide (nearly all voxels equal) the full range is used.
    """
    low, high = (float(value) for value in np.percentile(volume, _ROBUST_PERCENTILES))
    return (low, high) if high > low else (float(volume.min()), float(volume.max()))


def apply_range(patch: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Map low..high to [-1, 1] and clip to it; -1 everywhere when the two are equal."""
    return np.clip(_to_unit(patch.astype(np.float32), low, high), -1, 1)


def _to_unit(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    lowest, highest = np.float32(low), np.float32(high)
    if highest <= lowest:
        return np.full_like(values, -1)
    # Dividing first, rather than scaling by 2 / (high - low), makes the ends exactly -1 and 1.
    return np.asarray((values - lowest) / (highest - lowest) * np.float32(2) - np.float32(1), dtype=np.float32)
