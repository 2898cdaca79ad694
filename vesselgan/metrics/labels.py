"""Vessel labels as such: volume, radii, branches and pieces, of real and of generated ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, Mask, checked_mask, checked_spacing
from vesselgan.metrics.topology import NEIGHBOURS_26, bounding_box, centreline

__all__ = ["LabelDistance", "LabelStatistics", "label_distances", "label_statistics"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelStatistics:
    """What `label_statistics` finds in P patches.

    volume_fraction: (P,) share of vessel voxels. branch_count, component_count: (P,) whole numbers as floats.
    radius: (R,) radius at every centreline voxel of all patches together, in millimetres or voxels.
    empty: number of patches without a vessel; they have volume, branches and components of 0, and no radius.
    """

    volume_fraction: Floats
    radius: Floats
    branch_count: Floats
    component_count: Floats
    empty: int


@dataclass(frozen=True, slots=True)
class LabelDistance:
    """Wasserstein-1 distance between a statistic of real and of generated labels, in its unit, and the two means."""

    wasserstein: float
    real_mean: float
    generated_mean: float


def label_statistics(
    labels: Iterable[ArrayLike], spacing_mm: Sequence[float] | Floats | None = None
) -> LabelStatistics:
    """Statistics of label patches, one at a time: an array (P, X, Y, Z), or anything that yields (X, Y, Z) masks.

    Volume: vessel voxels over all voxels. Components: pieces by 26 neighbours. Radius: distance from a centreline voxel
    to the nearest voxel centre outside the vessel, less half a voxel along that way, so that a line one voxel wide has
    a radius of half a voxel. It is right to about a voxel, and rather too low, as a centreline runs through voxels
    beside the axis. What lies outside the patch counts as more of the vessel. Branches: pieces of the
    centreline that remain when its junctions, voxels with 3 or more of their 26 neighbours on it, are taken out.

    Binary patches (bool, or integers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order. Radii are in
    millimetres with spacing_mm, in voxels without. Empty case: no patches are an error; patches without a vessel are
    counted in `empty`.
    """
    spacing = checked_spacing(spacing_mm)
    fractions, radii, branches, components = [], [], [], []
    for index, label in enumerate(labels):
        mask = checked_mask(f"labels[{index}]", label)
        if mask.ndim != 3 or not mask.size:
            raise ValueError(f"labels[{index}] must be an (X, Y, Z) patch, but has shape {mask.shape}")
        line = centreline(mask)
        fractions.append(float(mask.mean()))
        radii.append(_radii(mask, line, spacing))
        branches.append(_branch_count(line))
        components.append(_component_count(mask))
    if not fractions:
        raise ValueError("labels must hold at least one patch")
    return LabelStatistics(
        volume_fraction=np.array(fractions),
        radius=np.concatenate(radii),
        branch_count=np.array(branches, np.float64),
        component_count=np.array(components, np.float64),
        empty=sum(fraction == 0 for fraction in fractions),
    )


def label_distances(*, real: LabelStatistics, generated: LabelStatistics) -> dict[str, LabelDistance]:
    """Distance between the statistics of real and of generated labels, by name: volume_fraction, radius, ...

    The Wasserstein-1 distance is the mean way that the values of one set must be moved to become those of the other.
    In the statistic's own unit; 0 to infinity, lower is better; symmetric. Empty case: radii are undefined, and NaN,
    where all patches of a set are empty (`empty` tells).
    """

    distances = {}
    for name in ("volume_fraction", "radius", "branch_count", "component_count"):
        real_values, generated_values = getattr(real, name), getattr(generated, name)
        if len(real_values) and len(generated_values):
            distance = float(scipy.stats.wasserstein_distance(real_values, generated_values))
            distances[name] = LabelDistance(distance, float(real_values.mean()), float(generated_values.mean()))
        else:
            means = (float(values.mean()) if len(values) else np.nan for values in (real_values, generated_values))
            distances[name] = LabelDistance(np.nan, *means)
    return distances


def _radii(mask: Mask, line: Mask, spacing: Floats) -> Floats:
    if not mask.any() or mask.all():
        # A patch full of vessel has no wall to measure to.
        return np.empty(0)
    nearest = scipy.ndimage.distance_transform_edt(mask, sampling=spacing, return_distances=False, return_indices=True)
    at = np.argwhere(line)
    way = (at - np.asarray(nearest)[:, *at.T].T) * spacing
    depth = np.sqrt((way**2).sum(axis=1))
    # Half a voxel along the way to the wall; the mean edge where voxels are cubes.
    return np.asarray(depth - np.sqrt(((way * spacing) ** 2).sum(axis=1)) / depth / 2)


def _branch_count(line: Mask) -> int:
    box = bounding_box(line)
    if box is None:
        return 0
    padded = np.pad(line[box], 1)
    neighbours = scipy.ndimage.convolve(padded.astype(np.int8), NEIGHBOURS_26.astype(np.int8), mode="constant") - 1
    return _component_count(padded & (neighbours < 3)) or 1  # a knot of junctions alone is still a branch


def _component_count(mask: Mask) -> int:
    return int(scipy.ndimage.label(mask, NEIGHBOURS_26)[1])
