"""Masks: agreement with the tools whose conventions the metrics claim, and what must hold for any mask."""

import math

import numpy as np
import pytest
from golden_metrics import EXPECTED as GOLDEN
from golden_metrics import cases, golden_masks
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from vesselgan import metrics

EXPECTED = {name: case["expected"] for name, case in GOLDEN["masks"].items()}

EMPTY_CASES = ["empty_S", "empty_G", "empty_both"]
FULL_CASES = [name for name in cases.MASK_CASES if name not in EMPTY_CASES]
DISTANCES = [metrics.average_hausdorff, metrics.balanced_average_hausdorff, metrics.hausdorff_95]
OVERLAPS = [metrics.dice, metrics.sensitivity, metrics.precision, metrics.volume_similarity]

SHAPE = (6, 5, 4)
masks = arrays(bool, SHAPE)
filled_masks = masks.filter(np.any)
spacings = st.tuples(*[st.floats(0.1, 5)] * 3)
few_examples = settings(max_examples=30, deadline=None)


def box(shape=SHAPE, low=1, high=3):
    mask = np.zeros(shape, bool)
    mask[(slice(low, high),) * len(shape)] = True
    return mask


# ------------------------------------------------------------------ agreement with other tools


@pytest.mark.parametrize("name", FULL_CASES)
@pytest.mark.parametrize("unit", ["mm", "voxel"])
def test_averages_and_their_sums_equal_the_brute_force_definition(name, unit):
    truth, prediction, spacing_mm = golden_masks(name)
    spacing_mm = spacing_mm if unit == "mm" else None
    expected = EXPECTED[name]["definition (brute force)"][unit]

    directed = metrics.directed_distances(truth, prediction, spacing_mm)
    assert directed.truth_to_prediction_sum == pytest.approx(expected["sum_G_to_S"], abs=1e-9)
    assert directed.prediction_to_truth_sum == pytest.approx(expected["sum_S_to_G"], abs=1e-9)
    assert (directed.truth_count, directed.prediction_count) == (expected["n_G"], expected["n_S"])
    assert metrics.average_hausdorff(truth, prediction, spacing_mm) == pytest.approx(expected["AHD"], abs=1e-9)
    assert metrics.balanced_average_hausdorff(truth, prediction, spacing_mm) == pytest.approx(
        expected["bAVD"], abs=1e-9
    )


@pytest.mark.parametrize("name", FULL_CASES)
def test_averages_in_voxels_equal_evaluate_segmentation(name):
    truth, prediction, _ = golden_masks(name)
    expected = EXPECTED[name]["EvaluateSegmentation"]["voxel"]
    assert metrics.average_hausdorff(truth, prediction) == pytest.approx(expected["AHD"], abs=1e-9)
    assert metrics.balanced_average_hausdorff(truth, prediction) == pytest.approx(expected["bAVD"], abs=1e-9)


@pytest.mark.parametrize("name", FULL_CASES)
def test_average_hausdorff_in_millimetres_equals_simpleitk(name):
    truth, prediction, spacing_mm = golden_masks(name)
    expected = EXPECTED[name]["SimpleITK"]["hausdorff_mm"]["AHD"]
    assert metrics.average_hausdorff(truth, prediction, spacing_mm) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", FULL_CASES)
def test_hausdorff_95_has_the_convention_of_metrics_reloaded_and_monai(name):
    truth, prediction, spacing_mm = golden_masks(name)
    value = metrics.hausdorff_95(truth, prediction, spacing_mm)
    assert value == pytest.approx(EXPECTED[name]["MetricsReloaded"]["HD95_mm"], abs=1e-9)
    assert value == pytest.approx(EXPECTED[name]["monai"]["HD95_mm"], rel=1e-6)  # MONAI computes in float32


@pytest.mark.parametrize("other", ["MedPy", "surface-distance"])
def test_hausdorff_95_differs_from_tools_of_another_convention(other):
    truth, prediction, spacing_mm = golden_masks("tube_aniso")
    expected = EXPECTED["tube_aniso"][other]["HD95_mm"]
    assert abs(metrics.hausdorff_95(truth, prediction, spacing_mm) - expected) > 0.05


@pytest.mark.parametrize("name", FULL_CASES)
def test_overlaps_equal_simpleitk_and_the_voxel_counts(name):
    truth, prediction, _ = golden_masks(name)
    counts = EXPECTED[name]["counts"]
    simpleitk = EXPECTED[name]["SimpleITK"]["overlap"]
    assert metrics.dice(truth, prediction) == pytest.approx(simpleitk["dice"], abs=1e-12)
    assert metrics.sensitivity(truth, prediction) == counts["tp"] / counts["n_G"]
    assert metrics.precision(truth, prediction) == counts["tp"] / counts["n_S"]
    # SimpleITK's is signed, of range -2 to 2 and 0 at best.
    assert metrics.volume_similarity(truth, prediction) == pytest.approx(
        1 - abs(simpleitk["volume_similarity"]) / 2, abs=1e-12
    )


# ------------------------------------------------------------------ empty masks


@pytest.mark.parametrize("name", EMPTY_CASES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_of_an_empty_mask_follow_the_policy(distance, name):
    truth, prediction, _ = golden_masks(name)
    with pytest.raises(ValueError, match="empty: there is no distance"):
        distance(truth, prediction)
    assert math.isnan(distance(truth, prediction, empty="nan"))
    assert distance(truth, prediction, empty="inf") == math.inf
    if distance is metrics.balanced_average_hausdorff and truth.any():
        return  # of an empty prediction it is more, see below
    assert distance(truth, prediction, empty="diagonal") == pytest.approx(math.sqrt(3 * 8**2))
    assert distance(truth, prediction, (0.5, 1, 2), "diagonal") == pytest.approx(math.sqrt(4**2 + 8**2 + 16**2))


def test_the_error_names_the_empty_mask():
    with pytest.raises(ValueError, match=r"^prediction empty"):
        metrics.directed_distances(box(), np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"^truth and prediction empty"):
        metrics.average_hausdorff(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_overlaps_of_two_empty_masks_follow_the_policy(overlap):
    nothing = np.zeros(SHAPE, bool)
    with pytest.raises(ValueError, match="empty"):
        overlap(nothing, nothing)
    assert math.isnan(overlap(nothing, nothing, empty="nan"))
    assert overlap(nothing, nothing, empty="inf") == overlap(nothing, nothing, empty="diagonal") == 0


def test_overlaps_with_one_empty_mask_are_zero_where_they_are_defined():
    nothing = np.zeros(SHAPE, bool)
    assert metrics.dice(box(), nothing) == metrics.dice(nothing, box()) == 0
    assert metrics.volume_similarity(box(), nothing) == metrics.volume_similarity(nothing, box()) == 0
    assert metrics.sensitivity(box(), nothing) == metrics.precision(nothing, box()) == 0
    assert math.isnan(metrics.sensitivity(nothing, box(), empty="nan"))
    assert math.isnan(metrics.precision(box(), nothing, empty="nan"))


@few_examples
@given(filled_masks, filled_masks, spacings)
def test_a_missed_case_never_improves_hausdorff_95_under_the_diagonal_policy(truth, prediction, spacing_mm):
    missed = metrics.hausdorff_95(truth, np.zeros(SHAPE, bool), spacing_mm, empty="diagonal")
    assert missed > metrics.hausdorff_95(truth, prediction, spacing_mm)


# ------------------------------------------------------------------ what holds for any mask


@few_examples
@given(filled_masks, filled_masks, spacings)
def test_directed_sums_equal_all_pairs_of_voxels(truth, prediction, spacing_mm):
    pairs = cdist(np.argwhere(truth) * spacing_mm, np.argwhere(prediction) * spacing_mm)
    directed = metrics.directed_distances(truth, prediction, spacing_mm)
    assert directed.truth_to_prediction_sum == pytest.approx(pairs.min(axis=1).sum(), rel=1e-12)
    assert directed.prediction_to_truth_sum == pytest.approx(pairs.min(axis=0).sum(), rel=1e-12)


@few_examples
@given(filled_masks, spacings)
def test_a_mask_agrees_perfectly_with_itself(mask, spacing_mm):
    assert [distance(mask, mask, spacing_mm) for distance in DISTANCES] == [0, 0, 0]
    assert [overlap(mask, mask) for overlap in OVERLAPS] == [1, 1, 1, 1]


@few_examples
@given(filled_masks, filled_masks, spacings)
def test_symmetric_metrics_do_not_care_which_mask_is_the_truth(truth, prediction, spacing_mm):
    for symmetric in (metrics.average_hausdorff, metrics.hausdorff_95):
        assert symmetric(truth, prediction, spacing_mm) == pytest.approx(symmetric(prediction, truth, spacing_mm))
    for symmetric in (metrics.dice, metrics.volume_similarity):
        assert symmetric(truth, prediction) == symmetric(prediction, truth)
    assert metrics.sensitivity(truth, prediction) == metrics.precision(prediction, truth)


@few_examples
@given(filled_masks, filled_masks)
def test_balanced_average_hausdorff_divides_by_the_size_of_the_truth(truth, prediction):
    assume(not np.array_equal(truth, prediction))
    forward = metrics.balanced_average_hausdorff(truth, prediction)
    backward = metrics.balanced_average_hausdorff(prediction, truth)
    assert forward / backward == pytest.approx(prediction.sum() / truth.sum())


@few_examples
@given(filled_masks, filled_masks, spacings, st.permutations([0, 1, 2]))
def test_distances_do_not_depend_on_the_order_of_the_axes(truth, prediction, spacing_mm, axes):
    turned = truth.transpose(axes), prediction.transpose(axes), [spacing_mm[axis] for axis in axes]
    for distance in DISTANCES:
        assert distance(*turned) == pytest.approx(distance(truth, prediction, spacing_mm))


@few_examples
@given(filled_masks, filled_masks, spacings, st.floats(0.1, 10))
def test_distances_grow_with_the_spacing(truth, prediction, spacing_mm, factor):
    larger = [factor * length for length in spacing_mm]
    for distance in DISTANCES:
        assert distance(truth, prediction, larger) == pytest.approx(factor * distance(truth, prediction, spacing_mm))


@few_examples
@given(filled_masks, filled_masks)
def test_the_memory_layout_and_the_dtype_of_a_mask_do_not_matter(truth, prediction):
    for metric in (*DISTANCES, *OVERLAPS):
        value = metric(truth, prediction)
        assert metric(np.asfortranarray(truth), prediction) == pytest.approx(value)
        assert metric(truth.astype(np.int64), prediction.astype(np.uint8)) == value


def test_masks_may_be_tensors():
    import torch

    truth, prediction = torch.from_numpy(box()), torch.from_numpy(box(high=4)).int()
    assert metrics.dice(truth, prediction) == metrics.dice(box(), box(high=4))
    assert metrics.hausdorff_95(truth, prediction) == metrics.hausdorff_95(box(), box(high=4))


# ------------------------------------------------------------------ errors


BAD_MASKS = {
    "prediction has shape": (box(), box((6, 5, 5))),
    "truth must be a binary mask": (box() * 7, box()),
    "prediction must be a binary mask": (box(), box() * 255),
    "prediction must be a binary mask of booleans or integers": (box(), box().astype(np.float32)),
    "truth must hold real numbers": (box().astype(str), box()),
}


@pytest.mark.parametrize("message", BAD_MASKS)
@pytest.mark.parametrize("metric", DISTANCES + OVERLAPS)
def test_a_bad_mask_is_refused_in_one_line_that_names_it(metric, message):
    with pytest.raises(ValueError, match=f"^{message}.*$") as error:
        metric(*BAD_MASKS[message])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spacing_mm", [(1, 1), (1, 1, 1, 1), 1.0, (1, 1, 0), (1, -1, 1), (1, 1, math.nan), (1, math.inf, 1), "abc"]
)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_bad_spacing_is_refused(distance, spacing_mm):
    with pytest.raises(ValueError, match=r"^spacing_mm must .*$"):
        distance(box(), box(), spacing_mm)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5, 4)])
def test_distances_refuse_what_is_not_a_volume(distance, shape):
    mask = np.ones(shape, bool)
    with pytest.raises(ValueError, match=r"must be \(X, Y, Z\) volumes"):
        distance(mask, mask)


@pytest.mark.parametrize("metric", DISTANCES + OVERLAPS)
def test_an_unknown_policy_is_refused_even_where_no_mask_is_empty(metric):
    with pytest.raises(ValueError, match="empty must be one of raise, nan, inf, diagonal, but is 'zero'"):
        metric(box(), box(), empty="zero")


@pytest.mark.parametrize("spacing_mm", [None, (0.5, 1.0, 2.0)])
def test_an_empty_prediction_is_never_better_than_another_for_the_same_truth(spacing_mm):
    truth = np.zeros((9, 8, 7), bool)
    truth[0, 0, 0] = True
    nothing = np.zeros_like(truth)
    far = nothing.copy()
    far[-1, -1, -1] = True
    given_up = metrics.balanced_average_hausdorff(truth, nothing, spacing_mm, empty="diagonal")
    for other in (np.ones_like(truth), ~truth, far):
        assert metrics.balanced_average_hausdorff(truth, other, spacing_mm) < given_up
    scores = metrics.segmentation_scores(truth, nothing, spacing_mm=spacing_mm)["all"]
    assert scores["bavd_mm" if spacing_mm else "bavd_voxel"] == pytest.approx(given_up)


def test_what_an_empty_prediction_counts_as_is_computed_by_hand():
    truth = np.array([True, False, False]).reshape(3, 1, 1)
    diagonal = math.sqrt(9 + 1 + 1)
    found = metrics.balanced_average_hausdorff(truth, np.zeros_like(truth), empty="diagonal")
    assert found == pytest.approx((diagonal + 0 + 1 + 2) / 2)


def test_a_view_of_other_bytes_as_bool_is_counted_by_voxels():
    truth = np.array([255, 0, 255, 7], np.uint8).reshape(4, 1, 1).view(bool)
    assert metrics.dice(truth, truth.copy()) == 1
    assert metrics.sensitivity(truth, np.array([1, 0, 0, 0], np.uint8).reshape(4, 1, 1)) == pytest.approx(1 / 3)
    assert metrics.label_statistics([truth]).volume_fraction.tolist() == [0.75]
