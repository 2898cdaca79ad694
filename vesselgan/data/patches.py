"""Which patches are cut out of a volume, and how their intensities are scaled.

The paper cuts 50 patches of 128 x 128 x 64 from a volume of 312 x 384 x 127: 18 on a grid of 3 x 3 x 2 that covers it,
and 32 centred on a random vessel voxel.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError

__all__ = [
    "apply_range",
    "cut",
    "cut_into",
    "grid_corners",
    "minmax_scale",
    "patch_corners",
    "robust_range",
    "to_unit",
    "vessel_corners",
]

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


def cut(volume: NDArray[T], corner: Sequence[int], patch_size: Sequence[int], fill: float = 0) -> NDArray[T]:
    """Copy the patch at *corner* out of (X, Y, Z); what overhangs the border is *fill* (the paper: zero)."""
    patch = np.empty(tuple(patch_size), dtype=volume.dtype)
    cut_into(patch, volume, corner, fill)
    return patch


def cut_into(patch: NDArray[Any], volume: NDArray[Any], corner: Sequence[int], fill: float = 0) -> None:
    """The same into a given array, whose shape and type are those of the patch."""
    source, target, overhangs = [], [], False
    for low, size, wanted in zip(corner, volume.shape, patch.shape, strict=True):
        first = max(low, 0)
        last = max(min(low + wanted, size), first)
        source.append(slice(first, last))
        target.append(slice(first - low, last - low))
        overhangs = overhangs or last - first < wanted
    if overhangs:
        patch[...] = fill
        patch[tuple(target)] = volume[tuple(source)]
    else:
        patch[...] = volume[tuple(source)]


def minmax_scale(patch: NDArray[Any]) -> NDArray[np.float32]:
    """Map each patch by itself to [-1, 1], as the paper's code does; a constant patch becomes -1.

    The same tissue then has another value in each patch: see `robust_range` for the alternative.
    """
    values = patch.astype(np.float32)
    to_unit(values, float(values.min()), float(values.max()))
    return values


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
    values = patch.astype(np.float32)
    to_unit(values, low, high, clip=True)
    return values


def to_unit(values: NDArray[np.float32], low: float, high: float, *, clip: bool = False) -> None:
    """Map low..high to [-1, 1] in place; -1 everywhere when the two are equal."""
    lowest, highest = np.float32(low), np.float32(high)
    if highest <= lowest:
        values[...] = -1
        return
    # Dividing first, rather than scaling by 2 / (high - low), makes the ends exactly -1 and 1.
    values -= lowest
    values /= highest - lowest
    values *= np.float32(2)
    values -= np.float32(1)
    if clip:
        np.maximum(values, np.float32(-1), out=values)
        np.minimum(values, np.float32(1), out=values)
