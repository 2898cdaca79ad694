"""Distances between a predicted mask and the truth: average Hausdorff, balanced average Hausdorff, Hausdorff 95 %.

All are exact and come from nearest-neighbour queries between voxel centres. `vesselgan.metrics.nearest` does that
expensive step; what stands here are the reductions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from vesselgan.metrics.inputs import EmptyPolicy, Floats, Mask, check_policy, checked_spacing, checked_volumes
from vesselgan.metrics.nearest import MaskVoxels, NearestDistances, nearest_distances

__all__ = [
    "DirectedDistances",
    "average_hausdorff",
    "balanced_average_hausdorff",
    "diagonal",
    "directed_distances",
    "distance_map",
    "hausdorff_95",
    "larger_percentile_95",
    "worst_balanced",
]


def average_hausdorff(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "raise",
) -> float:
    """( mean_g d(g, S) + mean_s d(s, G) ) / 2 over all foreground voxels g of the truth G and s of the prediction S.

    Two binary (X, Y, Z) masks (bool, or integers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; symmetric.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity or the image diagonal.
    Source: Aydin et al. 2021, Eur Radiol Exp 5:4; as in EvaluateSegmentation and SimpleITK.
    """
    return _measure(lambda *pair: _directed(*pair).average_hausdorff, truth, prediction, spacing_mm, empty)


def balanced_average_hausdorff(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "raise",
) -> float:
    """( sum_g d(g, S) + sum_s d(s, G) ) / (2 |G|): both sums over the size of the truth, so it ranks as errors add up.

    Two binary (X, Y, Z) masks (bool, or integers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
    Millimetres with spacing_mm, voxels without; 0 to infinity, lower is better; NOT symmetric: the truth comes first.
    Empty case: undefined where either mask is empty (both, too): an error, NaN, infinity, or under "diagonal" more than
    any prediction can have (`worst_balanced`), since one much larger than the truth can be further than the diagonal.
    Source: Aydin et al. 2021, Eur Radiol Exp 5:4; as in EvaluateSegmentation's voxel mode.
    """
    checked_truth = checked_volumes(truth, prediction)[0]
    return _measure(
        lambda *pair: _directed(*pair).balanced_average_hausdorff,
        truth,
        prediction,
        spacing_mm,
        empty,
        lambda spacing: worst_balanced(checked_truth, spacing),
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

    Two binary (X, Y, Z) masks (bool, or integers that are all 0 or 1); spacing_mm is (sx, sy, sz), in array order.
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
    truth_mask, prediction_mask = checked_volumes(truth, prediction)
    spacing = checked_spacing(spacing_mm)
    _refuse_empty(truth_mask, prediction_mask)
    return _directed(truth_mask, prediction_mask, spacing)


def distance_map(
    truth: ArrayLike, prediction: ArrayLike, spacing_mm: Sequence[float] | Floats | None = None
) -> NDArray[np.float32]:
    """(X, Y, Z) distance of each false voxel to the other mask, 0 elsewhere: where a prediction goes wrong, for plots.

    A missed voxel (truth only) holds its distance to the prediction, an invented one (prediction only) its distance to
    the truth; voxels of both masks or of neither hold 0. So the sum of the map over 2 |G| is the balanced average
    Hausdorff distance. float32; millimetres with spacing_mm, voxels without.
    Empty case: where either mask is empty there is no distance, and a ValueError says so.
    """
    truth_mask, prediction_mask = checked_volumes(truth, prediction)
    spacing = checked_spacing(spacing_mm)
    _refuse_empty(truth_mask, prediction_mask)
    ours, theirs = MaskVoxels.pair(truth_mask, prediction_mask)
    distances = np.zeros(truth_mask.shape, np.float32)
    for source, target in ((ours, theirs), (theirs, ours)):
        nearest = nearest_distances(source, target, spacing, surfaces=False)
        distances[tuple(source.points(nearest.places).T)] = nearest.false
    return distances


def worst_balanced(truth: Mask, spacing: Floats) -> float:
    """What an empty prediction counts as in the balanced average Hausdorff distance: no other one can have more.

    Every true voxel lies a diagonal D away, and each voxel v is invented: (|G| D + sum_v d(v, G)) / (2 |G|). So giving
    up is never better than any other prediction for the same truth. D alone where the truth is empty.
    """
    furthest = diagonal(truth.shape, spacing)
    if not (count := np.count_nonzero(truth)):
        return furthest
    invented = float(np.sum(scipy.ndimage.distance_transform_edt(~truth, sampling=spacing), dtype=np.float64))
    return float((count * furthest + invented) / (2 * count))


def diagonal(shape: Sequence[int], spacing: Floats) -> float:
    """Length of an image's diagonal over its whole extent, as the BraTS challenge has it: above any true distance."""
    return float(np.linalg.norm(shape * spacing))


def _directed(truth: Mask, prediction: Mask, spacing: Floats) -> DirectedDistances:
    ours, theirs = MaskVoxels.pair(truth, prediction)
    return DirectedDistances(
        truth_to_prediction_sum=float(nearest_distances(ours, theirs, spacing, surfaces=False).false.sum()),
        prediction_to_truth_sum=float(nearest_distances(theirs, ours, spacing, surfaces=False).false.sum()),
        truth_count=len(ours),
        prediction_count=len(theirs),
    )


def _surface_percentile_95(truth: Mask, prediction: Mask, spacing: Floats) -> float:
    ours, theirs = MaskVoxels.pair(truth, prediction)
    return larger_percentile_95(nearest_distances(ours, theirs, spacing), nearest_distances(theirs, ours, spacing))


def larger_percentile_95(from_truth: NearestDistances, from_prediction: NearestDistances) -> float:
    """`hausdorff_95` from the distances of both directions."""
    return float(max(np.percentile(side.surface, 95) for side in (from_truth, from_prediction)))


def _measure(
    measure: Callable[[Mask, Mask, Floats], float],
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Sequence[float] | Floats | None,
    empty: EmptyPolicy,
    worst: Callable[[Floats], float] | None = None,
) -> float:
    """`worst` is the value under "diagonal", where that is not the diagonal itself."""
    check_policy(empty)
    truth_mask, prediction_mask = checked_volumes(truth, prediction)
    spacing = checked_spacing(spacing_mm)
    if truth_mask.any() and prediction_mask.any():
        return measure(truth_mask, prediction_mask, spacing)
    if empty == "raise":
        _refuse_empty(truth_mask, prediction_mask)
    if empty == "diagonal":
        return worst(spacing) if worst else diagonal(truth_mask.shape, spacing)
    return math.nan if empty == "nan" else math.inf


def _refuse_empty(truth: Mask, prediction: Mask) -> None:
    empty_names = [name for name, mask in (("truth", truth), ("prediction", prediction)) if not mask.any()]
    if empty_names:
        raise ValueError(f"{' and '.join(empty_names)} empty: there is no distance to measure")
