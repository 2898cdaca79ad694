"""Distances between the contours of a predicted mask and the truth, with the contour that a comparison has to name.

`hausdorff_95` has the contour of MONAI and MetricsReloaded, 6 neighbours; others published tables with 26.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from vesselgan.metrics.distances import diagonal
from vesselgan.metrics.inputs import EmptyPolicy, Floats, Mask, check_policy, checked_spacing, checked_volumes

__all__ = ["ContourDistances", "Neighbours", "contour", "contour_distances"]

Neighbours = Literal[6, 26]
_RANK = {6: 1, 26: 3}  # by how many axes a neighbour may be displaced


@dataclass(frozen=True)
class ContourDistances:
    """`hausdorff_95` is the larger of both directions' 95th percentiles; `average` the mean over both contours."""

    hausdorff_95: float
    average: float


def contour(mask: Mask, neighbours: Neighbours) -> Mask:
    """(X, Y, Z) foreground voxels of which one of 6 or 26 neighbours lies outside the mask, or outside the image."""
    inside = scipy.ndimage.binary_erosion(mask, scipy.ndimage.generate_binary_structure(3, _RANK[neighbours]))
    return np.asarray(mask & ~inside)


def contour_distances(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    *,
    neighbours: Neighbours = 26,
    empty: EmptyPolicy = "raise",
) -> ContourDistances:
    """From each voxel of one contour to the nearest of the other: HD95, and ASSD = (sum_a d + sum_b d) / (n_a + n_b).

    Two binary (X, Y, Z) masks (bool, or integers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; symmetric.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity or the image diagonal.
    Source: HD95 with 26 neighbours as in the tables of the TopCoW challenge (Yang et al. 2024, arXiv:2312.17670), where
    masks are padded first; ASSD: Heimann et al. 2009, IEEE TMI 28:1251.
    """
    check_policy(empty)
    masks, spacing = checked_volumes(truth, prediction), checked_spacing(spacing_mm)
    if not all(mask.any() for mask in masks):
        if empty == "raise":
            raise ValueError("truth or prediction empty: there is no distance to measure")
        value = {"diagonal": diagonal(masks[0].shape, spacing), "inf": math.inf}.get(empty, math.nan)
        return ContourDistances(value, value)
    ours, theirs = (np.argwhere(contour(mask, neighbours)) * spacing for mask in masks)
    there, back = (np.asarray(scipy.spatial.KDTree(to).query(at)[0]) for at, to in ((ours, theirs), (theirs, ours)))
    return ContourDistances(
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
        float((there.sum() + back.sum()) / (len(there) + len(back))),
    )
