"""Overlap of a predicted mask with the truth, counted in voxels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import EmptyPolicy, check_policy, checked_masks

__all__ = ["OverlapCounts", "dice", "precision", "sensitivity", "volume_similarity"]


def dice(truth: ArrayLike, prediction: ArrayLike, empty: EmptyPolicy = "raise") -> float:
    """2 |G & S| / (|G| + |S|), G the truth and S the prediction.

    Two binary masks of one shape (bool, or integers that are all 0 or 1). Without unit; 0 to 1, higher is better;
    symmetric.
    Empty case: 0 where one mask is empty. Undefined where both are: an error, NaN, or 0 (the worst value) under "inf"
    and "diagonal", as `empty` says.
    Source: Dice 1945, Ecology 26:297.
    """
    return _counts(truth, prediction).dice(empty)


def sensitivity(truth: ArrayLike, prediction: ArrayLike, empty: EmptyPolicy = "raise") -> float:
    """|G & S| / |G|: the share of true voxels that were found (recall).

    Two binary masks of one shape (bool, or integers that are all 0 or 1). Without unit; 0 to 1, higher is better.
    Empty case: undefined where the truth is empty: an error, NaN, or 0 (the worst value) under "inf" and "diagonal".
    Source: Taha and Hanbury 2015, BMC Med Imaging 15:29 (recall, true positive rate).
    """
    return _counts(truth, prediction).sensitivity(empty)


def precision(truth: ArrayLike, prediction: ArrayLike, empty: EmptyPolicy = "raise") -> float:
    """|G & S| / |S|: the share of predicted voxels that are true.

    Two binary masks of one shape (bool, or integers that are all 0 or 1). Without unit; 0 to 1, higher is better.
    Empty case: undefined where the prediction is empty: an error, NaN, or 0 (the worst value) under "inf" and
    "diagonal".
    Source: Taha and Hanbury 2015, BMC Med Imaging 15:29 (positive predictive value).
    """
    return _counts(truth, prediction).precision(empty)


def volume_similarity(truth: ArrayLike, prediction: ArrayLike, empty: EmptyPolicy = "raise") -> float:
    """1 - ||G| - |S|| / (|G| + |S|): how alike the volumes are, wherever they lie.

    Two binary masks of one shape (bool, or integers that are all 0 or 1). Without unit; 0 to 1, higher is better;
    symmetric.
    SimpleITK reports another quantity by this name: 2 (|G| - |S|) / (|G| + |S|), signed and 0 at best.
    Empty case: 0 where one mask is empty. Undefined where both are: an error, NaN, or 0 (the worst value) under "inf"
    and "diagonal", as `empty` says.
    Source: Taha and Hanbury 2015, BMC Med Imaging 15:29, section "Volumetric similarity".
    """
    return _counts(truth, prediction).volume_similarity(empty)


@dataclass(frozen=True, slots=True)
class OverlapCounts:
    """|G & S|, |G| and |S|, and the ratios made of them: each method is the function of its name."""

    both: int
    truth: int
    prediction: int

    def dice(self, empty: EmptyPolicy) -> float:
        """2 |G & S| / (|G| + |S|)."""
        return _ratio(2 * self.both, self.truth + self.prediction, empty, "dice: truth and prediction are both empty")

    def sensitivity(self, empty: EmptyPolicy) -> float:
        """|G & S| / |G|."""
        return _ratio(self.both, self.truth, empty, "sensitivity: truth is empty")

    def precision(self, empty: EmptyPolicy) -> float:
        """|G & S| / |S|."""
        return _ratio(self.both, self.prediction, empty, "precision: prediction is empty")

    def volume_similarity(self, empty: EmptyPolicy) -> float:
        """1 - ||G| - |S|| / (|G| + |S|) = 2 min(|G|, |S|) / (|G| + |S|), which cancels nothing."""
        undefined = "volume_similarity: truth and prediction are both empty"
        return _ratio(2 * min(self.truth, self.prediction), self.truth + self.prediction, empty, undefined)


def _counts(truth: ArrayLike, prediction: ArrayLike) -> OverlapCounts:
    truth_mask, prediction_mask = checked_masks(truth, prediction)
    return OverlapCounts(
        both=int(np.count_nonzero(truth_mask & prediction_mask)),
        truth=int(np.count_nonzero(truth_mask)),
        prediction=int(np.count_nonzero(prediction_mask)),
    )


def _ratio(numerator: int, denominator: int, empty: EmptyPolicy, undefined: str) -> float:
    check_policy(empty)
    if denominator:
        return numerator / denominator
    if empty == "raise":
        raise ValueError(undefined)
    return math.nan if empty == "nan" else 0.0
