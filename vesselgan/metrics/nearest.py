"""Distances from the voxels of one mask to the nearest voxel of another: exact, and in time of the foreground alone."""

import itertools
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from vesselgan.metrics.inputs import Floats, Mask

__all__ = ["MaskVoxels", "NearestDistances", "nearest_distances"]

Indices: TypeAlias = NDArray[np.intp]
Order: TypeAlias = Literal["C", "F"]

_WORTH_THREADS = 10_000


class MaskVoxels:
    """The foreground voxels of an (X, Y, Z) mask by their place in memory, and which of them lie on its surface."""

    def __init__(self, mask: Mask, order: Order | None = None) -> None:
        self.shape = mask.shape
        # NIfTI volumes are read as F; both masks of a pair must be walked in the same order.
        self.order: Order = order or ("F" if mask.flags.f_contiguous else "C")
        self.bits: Mask = mask.ravel(self.order)
        self.places: Indices = np.flatnonzero(self.bits)

    @classmethod
    def pair(cls, truth: Mask, prediction: Mask) -> tuple["MaskVoxels", "MaskVoxels"]:
        """The voxels of both masks, in one order."""
        first = cls(truth)
        return first, cls(prediction, first.order)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def steps(self) -> tuple[int, int, int]:
        """How far the next voxel along each axis is in memory."""
        x, y, z = self.shape
        return (y * z, z, 1) if self.order == "C" else (1, x, x * y)

    def points(self, places: Indices) -> Indices:
        """(n, 3) array indices of places."""
        return np.stack(np.unravel_index(places, self.shape, self.order), axis=1)

    @cached_property
    def at_border(self) -> Mask:
        """(n,) whether a voxel has fewer than 26 neighbours within the image."""
        at_border = np.zeros(len(self.places), bool)
        for along, size in zip(np.unravel_index(self.places, self.shape, self.order), self.shape, strict=True):
            at_border |= (along == 0) | (along == size - 1)
        return at_border

    @cached_property
    def on_surface(self) -> Mask:
        """(n,) whether a 6-neighbour of a voxel lies outside the mask or outside the image."""
        surface = self.at_border.copy()
        for step in self.steps:
            for signed in (-step, step):
                # Only at the border, which is surface already, does a step leave its line of voxels, or the image.
                surface |= ~self.bits.take(self.places + signed, mode="clip")
        return surface


@dataclass(frozen=True, slots=True, eq=False)
class NearestDistances:
    """From one mask, the source, to another.

    false: of the source's voxels outside the other mask, which lie at `places`; its other voxels are at distance 0.
    surface: of the source's surface voxels to the other's surface, in no order that matters.
    """

    places: Indices
    false: Floats
    surface: Floats


def nearest_distances(
    source: MaskVoxels, target: MaskVoxels, spacing: Floats, *, surfaces: bool = True
) -> NearestDistances:
    """Distances from source to target, neither empty; without `surfaces` that half is left out, and empty."""
    inside = target.bits[source.places]
    places = source.places[~inside]
    false = np.empty(len(places))
    # Most voxels of a good prediction lie beside the other mask: for those a look at the neighbours is enough.
    far = _beside(target, places, ~source.at_border[~inside], spacing, false)
    hidden = source.places[inside & source.on_surface] if surfaces else places[:0]
    if len(far) or len(hidden):
        # A voxel of both masks is at distance 0. From outside a mask its nearest voxel lies on its surface, since one
        # with all 6 neighbours in the mask has a nearer one a step towards the query. So this tree serves all queries.
        surface_points = target.points(target.places[target.on_surface])
        tree = scipy.spatial.KDTree(surface_points * spacing, compact_nodes=False, balanced_tree=False)
        false[far] = _query(tree, source.points(places[far]) * spacing)
        hidden_distances = _query(tree, source.points(hidden) * spacing)
    else:
        hidden_distances = np.empty(0)
    surface = np.concatenate([false[source.on_surface[~inside]], hidden_distances]) if surfaces else hidden_distances
    return NearestDistances(places, false, surface)


def _beside(target: MaskVoxels, places: Indices, with_neighbours: Mask, spacing: Floats, distances: Floats) -> Indices:
    """Fill in the distances of the places beside the target, and return the indices of the others."""
    others = np.flatnonzero(~with_neighbours)
    open_ = np.flatnonzero(with_neighbours)
    offsets: dict[float, list[int]] = {}
    for offset in itertools.product((-1, 0, 1), repeat=3):
        length = float(np.linalg.norm(offset * spacing))
        # Whatever is further than one voxel along an axis is at least this far, so what is nearer is nearest.
        if 0 < length < 2 * spacing.min():
            offsets.setdefault(length, []).append(int(np.dot(offset, target.steps)))
    for length in sorted(offsets):
        at = places[open_]
        hit = np.zeros(len(open_), bool)
        for step in offsets[length]:
            hit |= target.bits[at + step]
        distances[open_[hit]] = length
        open_ = open_[~hit]
    return np.concatenate([open_, others])


def _query(tree: "scipy.spatial.KDTree", points: Floats) -> Floats:
    """(n,) distance of each point to the nearest of the tree."""
    if not len(points):
        return np.empty(0)
    # As many threads as numpy's own products take; each query is answered by itself, so the values stay the same.
    threads = os.environ.get("OMP_NUM_THREADS", "")
    workers = int(threads) if threads.isdigit() and int(threads) > 0 else -1
    return np.asarray(tree.query(points, workers=workers if len(points) > _WORTH_THREADS else 1)[0])
