"""Distances from the voxels of one mask to the nearest voxel of another: exact, and in time of the foreground alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from vesselgan.metrics.inputs import Floats, Mask

__all__ = ["MaskVoxels", "NearestDistances", "nearest_distances"]

Points: TypeAlias = NDArray[np.intp]


class MaskVoxels:
    """The foreground voxels of an (X, Y, Z) mask, and which of them lie on its surface."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.points = _foreground(mask)  # (n, 3)

    def __len__(self) -> int:
        return len(self.points)

    def holds(self, points: Points) -> Mask:
        """(n,) whether each point is foreground."""
        values: Mask = self.mask[points[:, 0], points[:, 1], points[:, 2]]
        return values

    @cached_property
    def on_surface(self) -> Mask:
        """(n,) whether a 6-neighbour of the voxel lies outside the mask or outside the image."""
        surface = np.zeros(len(self.points), bool)
        for axis, size in enumerate(self.mask.shape):
            along = self.points[:, axis]
            surface |= (along == 0) | (along == size - 1)
            for step in (-1, 1):
                neighbours = self.points.copy()
                # At the border, already surface, the voxel stands in for the neighbour that it has not.
                neighbours[:, axis] = np.clip(along + step, 0, size - 1)
                surface |= ~self.holds(neighbours)
        return surface


@dataclass(frozen=True, slots=True, eq=False)
class NearestDistances:
    """From one mask, the source, to another.

    false: of the source's voxels outside the other mask, in the order of `points`; its other voxels are at distance 0.
    surface: of the source's surface voxels to the other's surface, in no order that matters.
    """

    points: Points
    false: Floats
    surface: Floats


def nearest_distances(
    source: MaskVoxels, target: MaskVoxels, spacing: Floats, *, surfaces: bool = True
) -> NearestDistances:
    """Distances from source to target, neither empty; without `surfaces` that half is left out, and empty."""
    tree = KDTree(target.points[target.on_surface] * spacing, compact_nodes=False, balanced_tree=False)
    inside = target.holds(source.points)
    # A voxel of both masks is at distance 0. From outside a mask its nearest voxel lies on its surface, since one with
    # all 6 neighbours in the mask has a nearer one a step towards the query. So one tree of surface voxels serves all.
    points = source.points[~inside]
    false = _query(tree, points * spacing)
    if not surfaces:
        return NearestDistances(points, false, np.empty(0))
    hidden = source.points[inside & source.on_surface]
    surface = np.concatenate([false[source.on_surface[~inside]], _query(tree, hidden * spacing)])
    return NearestDistances(points, false, surface)


def _foreground(mask: Mask) -> Points:
    """(n, 3) indices of the foreground; several times faster than np.argwhere, which walks all axes at once."""
    order: Literal["C", "F"] = "F" if mask.flags.f_contiguous else "C"  # NIfTI volumes are read as F
    points: Points = np.stack(np.unravel_index(np.flatnonzero(mask.ravel(order)), mask.shape, order), axis=1)
    return points


def _query(tree: KDTree, points: Floats) -> Floats:
    """(n,) distance of each point to the nearest of the tree."""
    return np.asarray(tree.query(points)[0]) if len(points) else np.empty(0)
