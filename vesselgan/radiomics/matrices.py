"""Counts of grey levels in a masked volume, from which texture features are taken. All are exact whole numbers.

Levels are from 1 to G, (Z, Y, X); neighbours are the 26 around a voxel, in 13 directions and their opposites.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["cooccurrences", "neighbour_differences", "runs", "zones"]

Floats = NDArray[np.float64]
Levels = NDArray[np.int64]
Mask = NDArray[np.bool_]

DIRECTIONS = tuple(step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0))


def cooccurrences(levels: Levels, mask: Mask) -> Iterator[tuple[Levels, Levels, Levels]]:
    """For each of 13 directions the levels i, j that lie side by side, and how often, counted both ways round."""
    count = int(levels.max(initial=0, where=mask)) + 1
    for step in DIRECTIONS:
        here, there = _pair(levels, step)
        inside = np.logical_and(*_pair(mask, step))
        one, other = here[inside], there[inside]
        counts = np.bincount(one * count + other, minlength=count**2) + np.bincount(
            other * count + one, minlength=count**2
        )
        pairs = np.flatnonzero(counts)
        i, j = np.divmod(pairs, count)
        yield i, j, counts[pairs]


def runs(levels: Levels, mask: Mask) -> Floats:
    """(13, G, R): runs of voxels in a row that share a level i, of length j = 1 to the longest axis."""
    count, longest = int(levels.max(initial=0, where=mask)), max(levels.shape)
    found = np.zeros((len(DIRECTIONS), count, longest))
    for matrix, step in zip(found, DIRECTIONS, strict=True):
        # Turned so that the direction leads along rising indices.
        turned = tuple(slice(None, None, -1 if along < 0 else 1) for along in step)
        ahead = tuple(abs(along) for along in step)
        values, inside = levels[turned], mask[turned]
        same = _same(values, inside, ahead)
        # A run of length r holds r - m + 1 windows of m voxels, so their second differences over m count the runs.
        windows = np.zeros((longest + 2, count))
        whole = inside  # where a window begins
        for length in range(longest):
            windows[length] = np.bincount(values[tuple(map(slice, whole.shape))][whole] - 1, minlength=count)
            whole = whole[tuple(slice(along, None) for along in ahead)]
            whole = whole & same[tuple(map(slice, whole.shape))]
            if not whole.any():
                break
        matrix[...] = (windows[:-2] - 2 * windows[1:-1] + windows[2:]).T
    return found


def zones(levels: Levels, mask: Mask) -> tuple[Levels, Levels]:
    """Level and number of voxels of each zone: connected voxels of one level."""
    number = np.arange(levels.size).reshape(levels.shape)
    edges = [[pair[_same(levels, mask, step)] for pair in _pair(number, step)] for step in DIRECTIONS]
    first, second = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = scipy.sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(levels.size, levels.size))
    _, zone = scipy.sparse.csgraph.connected_components(graph, directed=False)
    inside = mask.ravel()
    _, place, size = np.unique(zone[inside], return_index=True, return_counts=True)
    return levels.ravel()[inside][place], size


def neighbour_differences(levels: Levels, mask: Mask) -> tuple[Floats, Floats, Floats]:
    """Levels that occur, the voxels of each, and the sum over these of |level - mean of the neighbours in the mask|."""
    around = np.ones((3, 3, 3), np.int64)
    around[1, 1, 1] = 0
    inside = mask.astype(np.int64)
    neighbours = scipy.ndimage.correlate(inside, around, mode="constant")
    total = scipy.ndimage.correlate(levels * inside, around, mode="constant")
    mean = np.divide(total, neighbours, out=levels.astype(np.float64), where=neighbours > 0)
    difference = np.abs(levels - mean)[mask]
    counts = np.bincount(levels[mask]).astype(np.float64)
    sums = np.bincount(levels[mask], weights=difference)
    occurring = np.flatnonzero(counts)
    return occurring.astype(np.float64), counts[occurring], np.asarray(sums[occurring], np.float64)


def _pair(values: NDArray[Any], step: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Views of all voxels that have a neighbour at a step, and of these neighbours."""
    here = tuple(slice(max(0, -along), min(n, n - along)) for along, n in zip(step, values.shape, strict=True))
    there = tuple(slice(max(0, along), min(n, n + along)) for along, n in zip(step, values.shape, strict=True))
    return values[here], values[there]


def _same(levels: Levels, mask: Mask, step: tuple[int, ...]) -> Mask:
    here, there = _pair(levels, step)
    return np.asarray((here == there) & np.logical_and(*_pair(mask, step)))
