"""PRD: agreement with the authors' code, and the clustering beneath it."""

import numpy as np
import pytest
from golden_metrics import EXPECTED, cases, golden_features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from vesselgan import metrics
from vesselgan.metrics.kmeans import kmeans_labels

few_examples = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)


# ------------------------------------------------------------------ PRD of histograms


@pytest.mark.parametrize("name", cases.PRD_CASES)
def test_prd_of_histograms_equals_the_authors_code(name):
    evaluated, reference = cases.build_prd_case(cases.PRD_CASES[name])
    expected = EXPECTED["prd"][name]["expected"]

    precision, recall = metrics.prd_from_histograms(reference=reference, evaluated=evaluated)
    assert precision.shape == recall.shape == (1001,)
    assert metrics.max_f_beta_pair(precision, recall) == pytest.approx((expected["F8"], expected["F1_8"]), abs=1e-9)
    assert metrics.prd_area(precision, recall) == pytest.approx(abs(expected["auc_trapezoid_1001"]), abs=1e-9)
    assert (precision.max(), recall.max()) == pytest.approx(
        (expected["max_precision"], expected["max_recall"]), abs=1e-9
    )
    assert (precision[500], recall[500]) == pytest.approx(tuple(expected["at_45_degrees"]), abs=1e-9)

    precision, recall = metrics.prd_from_histograms(reference=reference, evaluated=evaluated, angles=11)
    np.testing.assert_allclose(precision, expected["precision_11"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(recall, expected["recall_11"], rtol=0, atol=1e-9)


@few_examples
@given(seeds, st.integers(1, 30))
def test_prd_precision_and_recall_change_places_with_the_histograms(seed, bins):
    first, second = np.random.default_rng(seed).dirichlet(np.ones(bins), 2)
    precision, recall = metrics.prd_from_histograms(reference=first, evaluated=second)
    swapped_precision, swapped_recall = metrics.prd_from_histograms(reference=second, evaluated=first)
    # The last slope, tan(pi/2 - 1e-10), is known to about 1e-6 only.
    np.testing.assert_allclose(precision, swapped_recall[::-1], atol=1e-6)
    np.testing.assert_allclose(recall, swapped_precision[::-1], atol=1e-6)
    assert ((precision >= 0) & (precision <= 1)).all()
    assert ((recall >= 0) & (recall <= 1)).all()


def test_a_curve_at_zero_has_f_scores_and_area_of_zero():
    zeros = np.zeros(11)
    assert metrics.max_f_beta_pair(zeros, zeros) == (0, 0)
    assert str(metrics.prd_area(zeros, zeros)) == "0.0"  # not -0.0, which the authors' code gives


def test_f8_weighs_recall_and_f1_8_precision():
    f8, f1_8 = metrics.max_f_beta_pair([0.5], [1.0])
    assert f8 == pytest.approx(65 * 0.5 / (64 * 0.5 + 1))
    assert f1_8 == pytest.approx((1 + 1 / 64) * 0.5 / (0.5 / 64 + 1))


@pytest.mark.parametrize(
    ("reference", "evaluated", "message"),
    [
        ([0.5, 0.5], [0.2, 0.3, 0.5], "evaluated has 3 bins, but reference has 2"),
        ([0.5, 0.6], [0.5, 0.5], "reference must hold shares"),
        ([0.5, 0.5], [1.5, -0.5], "evaluated must hold shares"),
        ([0.5, np.nan], [0.5, 0.5], "reference must hold shares"),
        ([], [], "reference must be"),
        ([[0.5, 0.5]], [0.5, 0.5], "reference must be"),
        (["a"], [1.0], "reference must hold real numbers"),
    ],
)
def test_bad_histograms_are_refused(reference, evaluated, message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        metrics.prd_from_histograms(reference=reference, evaluated=evaluated)


@pytest.mark.parametrize("summary", [metrics.max_f_beta_pair, metrics.prd_area])
@pytest.mark.parametrize(
    ("precision", "recall", "message"),
    [
        ([0.5], [0.5, 0.5], "precision and recall must be"),
        ([], [], "precision and recall must be"),
        ([[0.5]], [[0.5]], "precision and recall must be"),
        ([1.5], [0.5], "precision must lie"),
        ([0.5], [np.nan], "recall must lie"),
    ],
)
def test_bad_curves_are_refused(summary, precision, recall, message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        summary(precision, recall)


# ------------------------------------------------------------------ PRD of features


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", EXPECTED["prd_embedding"])
def test_prd_of_features_lies_within_the_spread_of_the_authors_code(name, seed):
    case = EXPECTED["prd_embedding"][name]
    (real, generated), expected = golden_features(case["input"]["features"]), case["expected"]
    precision, recall = metrics.prd_curve(
        real=real, generated=generated, clusters=case["input"]["num_clusters"], runs=10, angles=1001, seed=seed
    )
    f8, f1_8 = metrics.max_f_beta_pair(precision, recall)
    for value, key in ((f8, "F8"), (f1_8, "F1_8"), (metrics.prd_area(precision, recall), "auc")):
        assert value == pytest.approx(expected[f"{key}_mean"], abs=4 * expected[f"{key}_sd"] + 0.005)


def test_the_curve_is_the_mean_over_the_runs_at_each_angle():
    real, generated = golden_features("relu_decay")
    options = {"real": real, "generated": generated, "clusters": 7, "runs": 3, "angles": 21, "seed": 5}
    precision, recall = metrics.prd_curves(**options)
    assert precision.shape == recall.shape == (3, 21)
    assert precision.std(axis=0).max() > 0
    mean_precision, mean_recall = metrics.prd_curve(**options)
    np.testing.assert_array_equal(mean_precision, precision.mean(axis=0))
    np.testing.assert_array_equal(mean_recall, recall.mean(axis=0))


def test_the_seed_decides_the_curve():
    real, generated = golden_features("normal_shift")  # of unequal counts, so the thinning is seeded, too
    first, again, other = (metrics.prd_curve(real=real, generated=generated, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_set_against_itself_has_full_precision_and_recall():
    real = cases.gen_normal(60, 4, 0)
    precision, recall = metrics.prd_curve(real=real, generated=real.copy())
    assert metrics.max_f_beta_pair(precision, recall) == pytest.approx((1, 1))
    assert metrics.prd_area(precision, recall) == pytest.approx(1)


def test_a_generator_that_drops_modes_keeps_precision_and_loses_recall():
    real, generated = golden_features("clusters_mode_drop")
    precision, recall = metrics.prd_curve(real=real, generated=generated, clusters=4)
    assert (precision.max(), recall.max()) == (1, 0.5)
    precision, recall = metrics.prd_curve(real=generated, generated=real, clusters=4)
    assert (precision.max(), recall.max()) == (0.5, 1)


def test_the_larger_set_is_thinned_at_random_to_the_smaller():
    sorted_modes = np.repeat([[0.0, 0.0], [1.0, 1.0]], 500, axis=0)  # whose first rows would be one mode only
    precision, recall = metrics.prd_curve(real=sorted_modes, generated=sorted_modes[400:600], clusters=2)
    f8, f1_8 = metrics.max_f_beta_pair(precision, recall)
    assert min(f8, f1_8) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "clusters must be from 1 to 40, but is 0"),
        ({"clusters": 41}, "clusters must be from 1 to 40, but is 41"),
        ({"runs": 0}, "runs must be at least 1, but is 0"),
        ({"angles": 2}, "angles must be at least 3, but is 2"),
    ],
)
def test_prd_refuses_counts_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        metrics.prd_curve(real=cases.gen_normal(20, 3, 0), generated=cases.gen_normal(30, 3, 1), **options)


# ------------------------------------------------------------------ clustering


def inertia(points, labels):
    members = [points[labels == cluster] for cluster in np.unique(labels)]
    return sum(((rows - rows.mean(axis=0)) ** 2).sum() for rows in members)


def test_all_runs_cluster_as_tightly_as_a_plain_k_means():
    points = np.concatenate(golden_features("relu_decay"))
    labels = kmeans_labels(points, clusters=20, runs=10, rng=np.random.default_rng(0))
    plain = [
        inertia(points, kmeans2(points, 20, minit="++", iter=50, seed=np.random.default_rng(seed))[1])
        for seed in range(10)
    ]
    ours = [inertia(points, run) for run in labels.T]
    assert labels.shape == (600, 10)
    assert np.mean(ours) < 1.01 * np.mean(plain)


def test_every_run_finds_clusters_that_lie_apart():
    points = cases.gen_mixture(200, 6, [0.4, 0.3, 0.2, 0.1], seed=0) + 1e10
    labels = kmeans_labels(points, clusters=4, runs=10, rng=np.random.default_rng(0))
    for run in labels.T:
        assert sorted(np.bincount(run)) == [20, 40, 60, 80]
        assert (np.diff(run) != 0).sum() == 3  # the rows come mode by mode


def test_fewer_distinct_points_than_clusters_leave_clusters_empty():
    points = np.repeat([[0.0, 0.0], [3.0, 4.0]], 10, axis=0)
    labels = kmeans_labels(points, clusters=5, runs=3, rng=np.random.default_rng(0))
    for run in labels.T:
        assert len(np.unique(run)) == 2


@pytest.mark.parametrize("angles", [0, 1, 2])
def test_too_few_angles_are_refused(angles):
    shares = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="angles must be at least 3"):
        metrics.prd_from_histograms(reference=shares, evaluated=shares, angles=angles)
