"""Distances between a predicted mask and the truth: average Hausdorff, balanced average Hausdorff, Hausdorff 95 %.

All are exact and come from nearest-neighbour queries between voxel centres. One expensive step, `directed_distances`,
feeds both averages.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from vesselgan.metrics.inputs import EmptyPolicy, Floats, Mask, check_policy, checked_masks, checked_spacing

__all__ = ["DirectedDistances", "average_hausdorff", "balanced_average_hausdorff", "directed_distances", "hausdorff_95"]

Points: TypeAlias = NDArray[np.intp]


def average_hausdorff(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "raise",
) -> float:
    """( mean_g d(g, S) + mean_s d(s, G) ) / 2 over all foreground voxels g of the truth G and s of the prediction S.

    Two binary (X, Y, Z) masks (bool, or numbers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; symmetric.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity or the image diagonal.
    Source: Aydin et al. 2021, Eur Radiol Exp 5:4; as in EvaluateSegmentation and SimpleITK.
    """
    return _measure(
        lambda *volumes: directed_distances(*volumes).average_hausdorff, truth, prediction, spacing_mm, empty
    )


def balanced_average_hausdorff(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "raise",
) -> float:
    """( sum_g d(g, S) + sum_s d(s, G) ) / (2 |G|): both sums over the size of the truth, so it ranks as errors add up.

    Two binary (X, Y, Z) masks (bool, or numbers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; NOT symmetric: the truth comes first.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity or the image diagonal. A
    prediction much larger than the truth can be further than the diagonal.
    Source: Aydin et al. 2021, Eur Radiol Exp 5:4; as in EvaluateSegmentation's voxel mode.
    """
    return _measure(
        lambda *volumes: directed_distances(*volumes).balanced_average_hausdorff, truth, prediction, spacing_mm, empty
    )


def hausdorff_95(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "raise",
) -> float:
    """The larger of the two directed 95th percentiles of surface-to-surface distances (MONAI, MetricsReloaded).

    The convention, as tools differ: a surface voxel is a foreground voxel with a 6-neighbour outside the mask or the
    image; each direction has its own percentile, interpolated linearly; the result is the larger. MedPy pools both
    directions before the percentile, and surface-distance weighs voxels by surface area: neither gives the same number.

    Two binary (X, Y, Z) masks (bool, or numbers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; symmetric.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity or the image diagonal.
    Source: Huttenlocher et al. 1993; convention of MetricsReloaded (Maier-Hein et al. 2024, Nat Methods 21:195).
    """
    return _measure(_surface_percentile_95, truth, prediction, spacing_mm, empty)


@dataclass(frozen=True, slots=True)
class DirectedDistances:
    """The sums that both averages are made of, in millimetres or voxels."""

    truth_to_prediction_sum: float
    prediction_to_truth_sum: float
    truth_count: int
    prediction_count: int

    @property
    def average_hausdorff(self) -> float:
        """Each sum over the size of the mask that it starts from."""
        from_truth = self.truth_to_prediction_sum / self.truth_count
        from_prediction = self.prediction_to_truth_sum / self.prediction_count
        return (from_truth + from_prediction) / 2

    @property
    def balanced_average_hausdorff(self) -> float:
        """Both sums over the size of the truth."""
        return (self.truth_to_prediction_sum + self.prediction_to_truth_sum) / (2 * self.truth_count)


def directed_distances(
    truth: ArrayLike, prediction: ArrayLike, spacing_mm: Sequence[float] | Floats | None = None
) -> DirectedDistances:
    """Sum over each mask's voxels of the distance to the other mask: the one expensive step of the averages.

    Two non-empty binary (X, Y, Z) masks; millimetres with spacing_mm, voxels without. Where either mask is empty there
    is no distance, and a ValueError says so.
    """
    truth_mask, prediction_mask, spacing = _checked(truth, prediction, spacing_mm)
    _refuse_empty(truth_mask, prediction_mask)
    truth_points, prediction_points = _foreground(truth_mask), _foreground(prediction_mask)
    # A voxel of both masks is at distance 0, so only the two differences are queried. From outside a mask the nearest
    # voxel lies on its surface: one with all 6 neighbours in the mask has a nearer one a step towards the query.
    missed = truth_points[~_values(prediction_mask, truth_points)]
    invented = prediction_points[~_values(truth_mask, prediction_points)]
    prediction_surface = prediction_points[_is_surface(prediction_mask, prediction_points)]
    truth_surface = truth_points[_is_surface(truth_mask, truth_points)]
    return DirectedDistances(
        truth_to_prediction_sum=float(_nearest(missed * spacing, prediction_surface * spacing).sum()),
        prediction_to_truth_sum=float(_nearest(invented * spacing, truth_surface * spacing).sum()),
        truth_count=len(truth_points),
        prediction_count=len(prediction_points),
    )


def _surface_percentile_95(truth: Mask, prediction: Mask, spacing: Floats) -> float:
    truth_surface = _surface_with_border(truth) * spacing
    prediction_surface = _surface_with_border(prediction) * spacing
    from_truth = np.percentile(_nearest(truth_surface, prediction_surface), 95)
    from_prediction = np.percentile(_nearest(prediction_surface, truth_surface), 95)
    return float(max(from_truth, from_prediction))


def _measure(
    measure: Callable[[Mask, Mask, Floats], float],
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None,
    empty: EmptyPolicy,
) -> float:
    check_policy(empty)
    truth_mask, prediction_mask, spacing = _checked(truth, prediction, spacing_mm)
    if truth_mask.any() and prediction_mask.any():
        return measure(truth_mask, prediction_mask, spacing)
    if empty == "raise":
        _refuse_empty(truth_mask, prediction_mask)
    if empty == "diagonal":
        # Of the image's whole extent, as the BraTS challenge has it: above any distance between two voxel centres.
        return float(np.linalg.norm(truth_mask.shape * spacing))
    return math.nan if empty == "nan" else math.inf


def _checked(
    truth: ArrayLike, prediction: ArrayLike, spacing_mm: Sequence[float] | Floats | None
) -> tuple[Mask, Mask, Floats]:
    truth_mask, prediction_mask = checked_masks(truth, prediction)
    if truth_mask.ndim != 3:
        raise ValueError(f"truth and prediction must be (X, Y, Z) volumes, but have shape {truth_mask.shape}")
    return truth_mask, prediction_mask, checked_spacing(spacing_mm)


def _refuse_empty(truth: Mask, prediction: Mask) -> None:
    empty_names = [name for name, mask in (("truth", truth), ("prediction", prediction)) if not mask.any()]
    if empty_names:
        raise ValueError(f"{' and '.join(empty_names)} empty: there is no distance to measure")


def _foreground(mask: Mask) -> Points:
    """(n, 3) indices of the foreground; several times faster than np.argwhere, which walks all axes at once."""
    order: Literal["C", "F"] = "F" if mask.flags.f_contiguous else "C"  # NIfTI volumes are read as F
    points: Points = np.stack(np.unravel_index(np.flatnonzero(mask.ravel(order)), mask.shape, order), axis=1)
    return points


def _is_surface(mask: Mask, points: Points) -> Mask:
    """(n,) whether a 6-neighbour within the image lies outside the mask; looks at the foreground only."""
    surface = np.zeros(len(points), bool)
    for axis, size in enumerate(mask.shape):
        for step in (-1, 1):
            neighbours = points.copy()
            # Beyond the border the voxel stands in for its own neighbour, so the border itself is no surface.
            neighbours[:, axis] = np.clip(neighbours[:, axis] + step, 0, size - 1)
            surface |= ~_values(mask, neighbours)
    return surface


def _surface_with_border(mask: Mask) -> Points:
    points = _foreground(mask)
    at_border = ((points == 0) | (points == np.array(mask.shape) - 1)).any(axis=1)
    surface: Points = points[_is_surface(mask, points) | at_border]
    return surface


def _values(mask: Mask, points: Points) -> Mask:
    values: Mask = mask[points[:, 0], points[:, 1], points[:, 2]]
    return values


def _nearest(queries: Floats, targets: Floats) -> Floats:
    """(n,) distance of each query to the nearest target."""
    if not len(queries):
        return np.zeros(0)
    distances, _ = KDTree(targets, compact_nodes=False, balanced_tree=False).query(queries)
    return np.asarray(distances)
