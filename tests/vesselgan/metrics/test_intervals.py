"""Uncertainty of the distances: what leaving out gives, and whether intervals hold the truth."""

import numpy as np
import pytest
from golden_metrics import cases, golden_features

from vesselgan import metrics
from vesselgan.metrics.estimates import balanced_parts, jackknife
from vesselgan.metrics.frechet_infinite import frechet_leave_outs
from vesselgan.metrics.kernel import kernel_leave_outs
from vesselgan.metrics.neighbours import neighbour_leave_outs

NAMES = ["fid", "fid_infinite", "kid", "prd_f8", "prd_f1_8", "prd_auc", "precision", "recall", "density", "coverage"]


def normal(count, width, seed, **kwargs):
    return cases.gen_normal(count, width, seed, **kwargs)


def two_parts(real, generated, folds=6):
    rng = np.random.default_rng(0)
    return tuple(balanced_parts(np.arange(len(side)), folds, rng) for side in (real, generated))


# ------------------------------------------------------------------ the jackknife


def test_the_jackknife_of_a_mean_is_its_textbook_standard_error():
    values = np.random.default_rng(0).standard_normal(30)
    leave_outs = np.array([np.delete(values, row).mean() for row in range(30)])
    estimate = jackknife(values.mean(), leave_outs, level=0.95)
    assert estimate.sd == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    assert estimate.high - estimate.value == pytest.approx(2.04523 * estimate.sd, rel=1e-5)  # t of 29 degrees
    assert estimate.low + estimate.high == pytest.approx(2 * estimate.value)


def test_parts_are_balanced_and_never_split_a_group():
    members = np.repeat(np.arange(13), 7)
    parts = balanced_parts(members, 5, np.random.default_rng(0))
    assert all(len(np.unique(parts[members == group])) == 1 for group in range(13))
    groups_per_part = [len(np.unique(members[parts == part])) for part in range(5)]
    assert sorted(groups_per_part) == [2, 2, 3, 3, 3]


@pytest.mark.parametrize("counts", [(60, 60), (60, 47)])
def test_leaving_out_is_the_metric_without_those_rows(counts):
    real, generated = normal(counts[0], 4, 0), normal(counts[1], 4, 1, mean=0.5)
    parts = two_parts(real, generated)
    kid, kid_left = kernel_leave_outs(real, generated, parts)
    neighbours, neighbours_left = neighbour_leave_outs(real, generated, parts, k=3)
    (fid, _), fid_left = frechet_leave_outs(real, generated, parts, [])
    assert kid == pytest.approx(metrics.kernel_distance(real=real, generated=generated), rel=1e-12)
    assert neighbours == metrics.precision_recall_density_coverage(real=real, generated=generated, k=3)
    assert fid == metrics.frechet_distance(real=real, generated=generated)
    for part in range(6):
        rest = {"real": real[parts[0] != part], "generated": generated[parts[1] != part]}
        assert kid_left[part] == pytest.approx(metrics.kernel_distance(**rest), rel=1e-9)
        assert neighbours_left[part] == pytest.approx(metrics.precision_recall_density_coverage(**rest, k=3))
        assert fid_left[part, 0] == pytest.approx(metrics.frechet_distance(**rest))


# ------------------------------------------------------------------ the distance at infinite n


def gaussian_pair(seed, *, counts, width, decay, change):
    """Two Gaussian sets that differ in scale and along one axis, and the true Fréchet distance of their laws."""
    rng = np.random.default_rng(seed)
    scales = (1.0 + np.arange(width)) ** -decay
    shift = np.zeros(width)
    shift[0] = change
    real = rng.standard_normal((counts[0], width)) * scales
    generated = rng.standard_normal((counts[1], width)) * scales * (1 + change) + shift
    return real, generated, change**2 + ((change * scales) ** 2).sum()


def test_extrapolation_removes_the_bias_of_the_plain_distance():
    plain, extrapolated = [], []
    for seed in range(20):
        real, generated, truth = gaussian_pair(seed, counts=(300, 300), width=32, decay=0.0, change=0.2)
        plain.append(metrics.frechet_distance(real=real, generated=generated) - truth)
        extrapolated.append(metrics.frechet_distance_infinite(real=real, generated=generated, folds=5).value - truth)
    assert np.mean(plain) > 1.5
    assert abs(np.mean(extrapolated)) < 0.15


def test_the_interval_is_fixed_by_the_seed_and_knows_its_level():
    real, generated = golden_features("normal_shift")
    first, again, other = (
        metrics.frechet_distance_infinite(real=real, generated=generated, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.low < first.value < first.high
    wide = metrics.frechet_distance_infinite(real=real, generated=generated, seed=1, level=0.99)
    assert wide.high - wide.low > first.high - first.low


def test_rows_that_repeat_a_subject_widen_the_interval():
    rng = np.random.default_rng(0)
    anatomy = np.repeat(rng.standard_normal((40, 6)), 10, axis=0)
    real, subjects = anatomy + 0.3 * rng.standard_normal((400, 6)), np.repeat(np.arange(40), 10)
    generated = rng.standard_normal((400, 6)) * 1.2
    by_row = metrics.frechet_distance_infinite(real=real, generated=generated)
    by_subject = metrics.frechet_distance_infinite(real=real, generated=generated, real_subjects=subjects)
    assert by_subject.sd > 1.5 * by_row.sd


def test_extrapolation_from_few_samples_warns():
    with pytest.warns(metrics.SmallSampleWarning, match="half of real has 15 samples for 20 features"):
        metrics.frechet_distance_infinite(real=normal(30, 20, 0), generated=normal(60, 20, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "width", "decay", "change"),
    [
        ((400, 400), 16, 0.0, 0.3),
        ((400, 400), 16, 0.0, 0.0),
        ((400, 400), 16, 0.0, 0.05),
        ((600, 300), 16, 0.0, 0.2),
        ((500, 500), 64, 0.0, 0.2),
        ((500, 500), 64, 1.0, 0.2),
        ((300, 300), 128, 1.0, 0.2),
    ],
)
def test_intervals_hold_the_true_distance_of_gaussians_as_often_as_they_say(counts, width, decay, change):
    held, errors, sds = 0, [], []
    repeats = 200
    for seed in range(repeats):
        real, generated, truth = gaussian_pair(seed, counts=counts, width=width, decay=decay, change=change)
        estimate = metrics.frechet_distance_infinite(real=real, generated=generated)
        held += estimate.low <= truth <= estimate.high
        errors.append(estimate.value - truth)
        sds.append(estimate.sd)
    bias, sd, stated_sd = np.mean(errors), np.std(errors), np.sqrt(np.mean(np.square(sds)))
    print(f"coverage {held / repeats:.3f}, bias {bias:.4f}, sd {sd:.4f}, stated sd {stated_sd:.4f}")
    # Cautious where the distance is 0 or nearly so. In the last case, half as many rows again as half-sets have columns
    # and a distance of only twice its error, the error is skewed and 0.95 becomes 0.89.
    assert held / repeats > 0.87
    assert abs(bias) < 0.35 * sd
    assert stated_sd < 1.6 * sd


# ------------------------------------------------------------------ all of them


def test_all_scores_are_those_of_the_functions_and_have_intervals():
    real, generated = normal(200, 6, 0), normal(200, 6, 1, scale=1.2)
    scores = metrics.distribution_scores(
        real=real, generated=generated, settings=metrics.DistanceSettings(clusters=8, runs=4)
    )
    assert set(scores.metrics) == set(NAMES)
    values = {name: estimate.value for name, estimate in scores.metrics.items()}
    assert values["fid"] == metrics.frechet_distance(real=real, generated=generated)
    assert values["kid"] == pytest.approx(metrics.kernel_distance(real=real, generated=generated))
    neighbours = metrics.precision_recall_density_coverage(real=real, generated=generated)
    assert {name: values[name] for name in neighbours} == neighbours
    curve = scores.prd_precision.mean(axis=0), scores.prd_recall.mean(axis=0)
    assert (values["prd_f8"], values["prd_f1_8"]) == metrics.max_f_beta_pair(*curve)
    assert values["prd_auc"] == metrics.prd_area(*curve)
    assert scores.prd_precision.shape == (4, 1001)
    assert set(scores.sd_kmeans) == {"prd_f8", "prd_f1_8", "prd_auc"}
    for estimate in scores.metrics.values():
        assert estimate.sd > 0
        assert estimate.low <= estimate.value <= estimate.high
    assert all(scores.metrics[name].low >= 0 and scores.metrics[name].high <= 1 for name in NAMES if name[:3] == "prd")
    assert (scores.real_count, scores.generated_count, scores.count) == (200, 200, 200)
    assert scores.warnings == ("intervals: real_subjects are not known, so every real sample counts as independent",)


def test_unequal_counts_are_thinned_and_said_to_be():
    real, generated = normal(300, 4, 0), normal(200, 4, 1)
    scores = metrics.distribution_scores(real=real, generated=generated, real_subjects=np.arange(300) // 20)
    assert (scores.real_count, scores.generated_count, scores.count) == (300, 200, 200)
    assert scores.warnings == ("real was thinned from 300 to 200 samples, but for kid and fid_infinite",)
    assert scores.metrics["kid"].value == pytest.approx(metrics.kernel_distance(real=real, generated=generated))


def test_small_samples_are_warned_of_in_the_result():
    scores = metrics.distribution_scores(
        real=normal(40, 64, 0),
        generated=normal(40, 64, 1),
        real_subjects=np.arange(40) % 8,
        settings=metrics.DistanceSettings(clusters=10),
    )
    assert [text.split(":")[0] for text in scores.warnings] == [
        "fid",
        "fid_infinite",
        "prd",
        "precision, recall, density, coverage",
        "intervals",
    ]
    assert scores.warnings[-1] == "intervals: real has 8 subjects, fewer than 10"


def test_the_floor_is_drawn_by_subject():
    rng = np.random.default_rng(0)
    subjects = np.repeat([f"subject {number}" for number in range(12)], 20)
    features = np.repeat(3 * rng.standard_normal((12, 5)), 20, axis=0) + rng.standard_normal((240, 5))
    floor = metrics.real_floor(features, subjects, splits=6)
    assert set(floor.metrics) == set(NAMES)
    assert (floor.count, floor.subjects) == (120, 12)
    by_patch = metrics.real_floor(features, np.arange(240), splits=6)
    assert floor.metrics["fid"].mean > 3 * by_patch.metrics["fid"].mean  # the subjects of the halves differ
    values = floor.metrics["kid"].values
    assert len(values) == 6
    assert floor.metrics["kid"].mean == pytest.approx(np.mean(values))
    assert floor.metrics["kid"].sd == pytest.approx(np.std(values, ddof=1))


def test_the_floor_can_be_taken_at_the_count_of_a_score():
    features, subjects = normal(300, 4, 0), np.arange(300) // 10
    assert metrics.real_floor(features, subjects, count=100, splits=2).count == 100
    assert metrics.real_floor(features, subjects, count=100, splits=2) == metrics.real_floor(
        features, subjects, count=100, splits=2
    )


def test_too_few_subjects_are_refused():
    features = normal(80, 4, 0)
    with pytest.raises(ValueError, match=r"^subjects must be at least 8 .* but are 4$"):
        metrics.real_floor(features, np.arange(80) % 4)
    with pytest.raises(ValueError, match=r"^real must have at least 8 rows, or subjects .* but has 4$"):
        metrics.distribution_scores(real=features, generated=features, real_subjects=np.arange(80) % 4)
    with pytest.raises(ValueError, match=r"^generated must have at least 8 rows"):
        metrics.frechet_distance_infinite(real=features, generated=features[:7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 4}, "folds must be at least 5, but is 4"),
        ({"level": 1.0}, "level must be between 0 and 1, but is 1.0"),
        ({"real_subjects": np.arange(9)}, r"real_subjects must name one group for each of the 40 rows"),
        ({"generated_subjects": np.zeros((40, 1))}, r"generated_subjects must name one group for each of the 40 rows"),
    ],
)
def test_bad_options_of_intervals_are_refused(options, message):
    for metric in (metrics.frechet_distance_infinite, metrics.distribution_scores):
        with pytest.raises(ValueError, match=f"^{message}.*$"):
            metric(real=normal(40, 3, 0), generated=normal(40, 3, 1), **options)
