"""All metrics of a mask in one pass, region by region, and the map of distances."""

import math

import numpy as np
import pytest
from golden_metrics import cases, golden_masks
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from vesselgan import metrics

SHAPE = (7, 6, 5)
masks = arrays(bool, SHAPE)
filled_masks = masks.filter(np.any)
spacings = st.tuples(*[st.floats(0.2, 3)] * 3)
few_examples = settings(max_examples=15, deadline=None)

OVERLAPS = {
    "dsc": metrics.dice,
    "sensitivity": metrics.sensitivity,
    "precision": metrics.precision,
    "volume_similarity": metrics.volume_similarity,
    "cldice": metrics.centreline_dice,
}
DISTANCES = {
    "ahd": metrics.average_hausdorff,
    "bavd": metrics.balanced_average_hausdorff,
    "hd95": metrics.hausdorff_95,
}
KEYS = {
    *OVERLAPS,
    *(f"{name}_{unit}" for name in DISTANCES for unit in ("voxel", "mm")),
    *(f"betti_{number}_{what}" for number in range(3) for what in ("truth", "prediction", "error")),
    "truth_empty",
    "prediction_empty",
}


def by_function(truth, prediction, spacing_mm, empty):
    values = {name: metric(truth, prediction, empty=empty) for name, metric in OVERLAPS.items()}
    for name, metric in DISTANCES.items():
        values[f"{name}_voxel"] = metric(truth, prediction, None, empty)
        values[f"{name}_mm"] = metric(truth, prediction, spacing_mm, empty)
    pairs = zip(metrics.betti_numbers(truth), metrics.betti_numbers(prediction), strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        values[f"betti_{number}_truth"], values[f"betti_{number}_prediction"] = ours, theirs
        values[f"betti_{number}_error"] = abs(ours - theirs)
    values["truth_empty"], values["prediction_empty"] = float(not truth.any()), float(not prediction.any())
    return values


def hausdorff_95_by_brute_force(truth, prediction, spacing):
    surfaces = []
    for mask in (truth, prediction):
        padded = np.pad(mask, 1)
        inner = np.all([np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)], axis=0)
        surfaces.append(np.argwhere(padded & ~inner) * spacing)
    pairs = cdist(*surfaces)
    return max(np.percentile(pairs.min(axis=1), 95), np.percentile(pairs.min(axis=0), 95))


# ------------------------------------------------------------------ segmentation_scores


@pytest.mark.parametrize("name", cases.MASK_CASES)
def test_scores_of_the_golden_cases_are_those_of_the_functions(name):
    truth, prediction, spacing_mm = golden_masks(name)
    scores = metrics.segmentation_scores(truth, prediction, spacing_mm=spacing_mm)
    assert set(scores) == {"all"}
    assert set(scores["all"]) == KEYS
    assert scores["all"] == pytest.approx(by_function(truth, prediction, spacing_mm, "diagonal"))
    assert all(type(value) is float and math.isfinite(value) for value in scores["all"].values())


@few_examples
@given(masks, masks, masks, spacings)
def test_a_region_restricts_both_masks(truth, prediction, region, spacing_mm):
    scores = metrics.segmentation_scores(truth, prediction, regions={"head": region}, spacing_mm=spacing_mm)
    assert list(scores) == ["all", "head"]
    assert scores["head"] == pytest.approx(by_function(truth & region, prediction & region, spacing_mm, "diagonal"))


@few_examples
@given(filled_masks, filled_masks, spacings)
def test_distances_equal_brute_force_in_any_layout(truth, prediction, spacing_mm):
    pairs = cdist(np.argwhere(truth) * spacing_mm, np.argwhere(prediction) * spacing_mm)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    expected = {
        "ahd_mm": (there.mean() + back.mean()) / 2,
        "bavd_mm": (there.sum() + back.sum()) / (2 * truth.sum()),
        "hd95_mm": hausdorff_95_by_brute_force(truth, prediction, spacing_mm),
    }
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda mask: np.repeat(mask, 2, axis=1)[:, ::2]):
        for dtype in (bool, np.uint8, np.int8, np.int32):
            scores = metrics.segmentation_scores(layout(truth).astype(dtype), prediction, spacing_mm=spacing_mm)["all"]
            assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_brute_force_on_sparse_volumes_of_coarse_slices(seed):
    truth, prediction = (cases.gen_random((21, 18, 9), 0.01 + 0.03 * side, 10 * seed + side) for side in (0, 1))
    spacing_mm = (0.4, 0.5, 3.0)
    scores = metrics.segmentation_scores(truth, prediction, spacing_mm=spacing_mm)["all"]
    pairs = cdist(np.argwhere(truth) * spacing_mm, np.argwhere(prediction) * spacing_mm)
    assert scores["ahd_mm"] == pytest.approx((pairs.min(axis=1).mean() + pairs.min(axis=0).mean()) / 2, rel=1e-12)
    assert scores["hd95_mm"] == pytest.approx(hausdorff_95_by_brute_force(truth, prediction, spacing_mm), rel=1e-12)


def test_without_spacing_there_are_no_millimetres():
    mask = cases.gen_tube([16, 12, 12], 1.5)
    assert set(metrics.segmentation_scores(mask, mask)["all"]) == {key for key in KEYS if not key.endswith("_mm")}


@pytest.mark.parametrize("empty", ["nan", "inf", "diagonal"])
def test_empty_masks_follow_the_policy_and_are_marked(empty):
    mask, nothing = cases.gen_box([6, 6, 6], [1, 1, 1], [4, 4, 4]), np.zeros((6, 6, 6), bool)
    for truth, prediction in ((mask, nothing), (nothing, mask), (nothing, nothing)):
        scores = metrics.segmentation_scores(truth, prediction, spacing_mm=(1, 2, 3), empty=empty)["all"]
        np.testing.assert_equal(scores, by_function(truth, prediction, (1, 2, 3), empty))
        assert (scores["truth_empty"], scores["prediction_empty"]) == (not truth.any(), not prediction.any())
    with pytest.raises(ValueError, match="empty"):
        metrics.segmentation_scores(mask, nothing, empty="raise")


def test_the_diagonal_of_a_region_is_that_of_the_image():
    mask = cases.gen_box([6, 6, 6], [1, 1, 1], [4, 4, 4])
    region = cases.gen_box([6, 6, 6], [4, 4, 4], [6, 6, 6])
    scores = metrics.segmentation_scores(mask, mask, regions={"beside": region})
    assert scores["all"]["truth_empty"] == 0
    assert scores["beside"]["truth_empty"] == scores["beside"]["prediction_empty"] == 1
    assert scores["beside"]["bavd_voxel"] == pytest.approx(6 * math.sqrt(3))


@few_examples
@given(filled_masks, filled_masks)
def test_a_correction_never_worsens_the_overlap_or_adds_to_the_distances(truth, prediction):
    """Adding a missed voxel raises Dice and sensitivity, and lowers what all true voxels lack together."""
    missed = np.argwhere(truth & ~prediction)
    assume(len(missed))
    better = prediction.copy()
    better[tuple(missed[0])] = True
    assert metrics.dice(truth, better) > metrics.dice(truth, prediction)
    assert metrics.sensitivity(truth, better) > metrics.sensitivity(truth, prediction)
    assert metrics.balanced_average_hausdorff(truth, better) < metrics.balanced_average_hausdorff(truth, prediction)
    assert (
        metrics.directed_distances(truth, better).prediction_to_truth_sum
        == metrics.directed_distances(truth, prediction).prediction_to_truth_sum
    )


def test_moving_a_vessel_further_away_never_lowers_a_distance():
    tube = np.zeros((30, 10, 10), bool)
    tube[2:5, 4:6, 4:6] = True
    scores = [metrics.segmentation_scores(tube, np.roll(tube, step, axis=0))["all"] for step in range(20)]
    for name in ("ahd_voxel", "bavd_voxel", "hd95_voxel"):
        assert (np.diff([values[name] for values in scores]) > 0).all()
    assert (np.diff([values["dsc"] for values in scores]) <= 0).all()


# ------------------------------------------------------------------ distance_map


@few_examples
@given(filled_masks, filled_masks, spacings)
def test_the_map_holds_the_distance_of_each_false_voxel(truth, prediction, spacing_mm):
    values = metrics.distance_map(np.asfortranarray(truth), prediction, spacing_mm)
    expected = np.zeros(SHAPE)
    pairs = cdist(np.argwhere(truth) * spacing_mm, np.argwhere(prediction) * spacing_mm)
    expected[truth] = pairs.min(axis=1)
    expected[prediction] += pairs.min(axis=0)  # voxels of both are at distance 0
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    balanced = metrics.balanced_average_hausdorff(truth, prediction, spacing_mm)
    assert values.sum(dtype=np.float64) / (2 * truth.sum()) == pytest.approx(balanced, rel=1e-5)


def test_the_map_of_an_empty_mask_is_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match=r"^prediction empty: there is no distance"):
        metrics.distance_map(mask, ~mask)


# ------------------------------------------------------------------ errors


TRUTH = np.ones((4, 4, 4), bool)
BAD = {
    r"prediction has shape \(4, 4, 5\), but truth": {"prediction": np.ones((4, 4, 5), bool)},
    "prediction must be a binary mask of booleans or integers": {"prediction": np.ones((4, 4, 4))},
    r"spacing_mm must hold three lengths": {"spacing_mm": (1, 1)},
    "spacing_mm must be positive": {"spacing_mm": (1, 1, -1)},
}
BAD_SCORES = {
    **BAD,
    r"regions\['head'\] has shape \(4, 4\), but truth": {"regions": {"head": np.ones((4, 4), bool)}},
    r"regions\['head'\] must be a binary mask of booleans": {"regions": {"head": np.ones((4, 4, 4))}},
    r"regions must not name a region 'all'": {"regions": {"all": TRUTH}},
    "empty must be one of": {"empty": "zero"},
}


@pytest.mark.parametrize("message", BAD_SCORES)
def test_scores_refuse_bad_arguments_by_name(message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        metrics.segmentation_scores(**{"truth": TRUTH, "prediction": TRUTH, **BAD_SCORES[message]})


@pytest.mark.parametrize("message", BAD)
def test_the_map_refuses_bad_arguments_by_name(message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        metrics.distance_map(**{"truth": TRUTH, "prediction": TRUTH, **BAD[message]})
