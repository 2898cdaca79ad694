"""Every metric of a predicted mask in one pass, over the whole image and over regions of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.distances import DirectedDistances, diagonal, larger_percentile_95, worst_balanced
from vesselgan.metrics.inputs import (
    EmptyPolicy,
    Floats,
    Mask,
    check_policy,
    checked_mask,
    checked_spacing,
    checked_volumes,
)
from vesselgan.metrics.nearest import MaskVoxels, nearest_distances
from vesselgan.metrics.overlap import OverlapCounts
from vesselgan.metrics.topology import betti_numbers, centreline, centreline_dice_of

__all__ = ["segmentation_scores"]

_WHOLE = "all"


def segmentation_scores(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    regions: Mapping[str, ArrayLike] | None = None,
    spacing_mm: Sequence[float] | Floats | None = None,
    empty: EmptyPolicy = "diagonal",
) -> dict[str, dict[str, float]]:
    """Region -> metric -> value: `all`, and each of `regions`, to which truth and prediction are both restricted.

    Two binary (X, Y, Z) masks and as many region masks of their shape as wanted (bool, or integers that are all 0 or
    1); spacing_mm is (sx, sy, sz), in array order. Each value is that of the function it is named after:
    dsc (`dice`), sensitivity, precision, volume_similarity, cldice (`centreline_dice`), and the distances ahd, bavd,
    hd95 (`average_hausdorff`, `balanced_average_hausdorff`, `hausdorff_95`) with the suffix _voxel, and with spacing_mm
    also _mm. betti_0, 1, 2 are given for the _truth, the _prediction, and as the absolute _error between the two.

    Empty case: the functions' policies, as `empty` says, and in every region `truth_empty` and `prediction_empty` are
    1 where that mask holds nothing and 0 where it does: count them in every aggregate. The diagonal is that of the
    whole image, in every region; an empty prediction's bavd is `worst_balanced`, which is more.
    """
    check_policy(empty)
    truth_mask, prediction_mask = checked_volumes(truth, prediction)
    spacing = None if spacing_mm is None else checked_spacing(spacing_mm)
    region_masks = _checked_regions(regions or {}, truth_mask.shape)
    scores = {_WHOLE: _scores(truth_mask, prediction_mask, spacing, empty)}
    for name, region in region_masks.items():
        scores[name] = _scores(truth_mask & region, prediction_mask & region, spacing, empty)
    return scores


def _checked_regions(regions: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> dict[str, Mask]:
    checked = {}
    for name, region in regions.items():
        if name == _WHOLE:
            raise ValueError(f"regions must not name a region {_WHOLE!r}: that is the whole image")
        checked[name] = checked_mask(f"regions[{name!r}]", region)
        if checked[name].shape != shape:
            raise ValueError(f"regions[{name!r}] has shape {checked[name].shape}, but truth has shape {shape}")
    return checked


def _scores(truth: Mask, prediction: Mask, spacing: Floats | None, empty: EmptyPolicy) -> dict[str, float]:
    ours, theirs = MaskVoxels.pair(truth, prediction)
    counts = OverlapCounts(
        both=int(np.count_nonzero(theirs.bits[ours.places])), truth=len(ours), prediction=len(theirs)
    )
    scores = {
        "dsc": counts.dice(empty),
        "sensitivity": counts.sensitivity(empty),
        "precision": counts.precision(empty),
        "volume_similarity": counts.volume_similarity(empty),
        "cldice": centreline_dice_of(
            truth,
            prediction,
            truth_centreline=centreline(truth),
            prediction_centreline=centreline(prediction),
            empty=empty,
        ),
    }
    for unit, size in (("voxel", np.ones(3)), ("mm", spacing)):
        if size is not None:
            scores |= _distances(ours, theirs, size, unit, empty)
            if empty == "diagonal" and not len(theirs):
                scores[f"bavd_{unit}"] = worst_balanced(truth, size)
    for number, (of_truth, of_prediction) in enumerate(
        zip(betti_numbers(truth), betti_numbers(prediction), strict=True)
    ):
        scores[f"betti_{number}_truth"] = float(of_truth)
        scores[f"betti_{number}_prediction"] = float(of_prediction)
        scores[f"betti_{number}_error"] = float(abs(of_truth - of_prediction))
    return scores | {"truth_empty": float(not len(ours)), "prediction_empty": float(not len(theirs))}


def _distances(
    ours: MaskVoxels, theirs: MaskVoxels, spacing: Floats, unit: str, empty: EmptyPolicy
) -> dict[str, float]:
    names = [f"{name}_{unit}" for name in ("ahd", "bavd", "hd95")]
    if not len(ours) or not len(theirs):
        # Under "raise" the overlaps and centrelines have raised already.
        value = {"diagonal": diagonal(ours.shape, spacing), "inf": np.inf}.get(empty, np.nan)
        return dict.fromkeys(names, value)
    from_truth, from_prediction = nearest_distances(ours, theirs, spacing), nearest_distances(theirs, ours, spacing)
    directed = DirectedDistances(
        float(from_truth.false.sum()), float(from_prediction.false.sum()), len(ours), len(theirs)
    )
    values = (
        directed.average_hausdorff,
        directed.balanced_average_hausdorff,
        larger_percentile_95(from_truth, from_prediction),
    )
    return dict(zip(names, values, strict=True))
