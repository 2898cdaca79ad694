"""Distances of feature sets: agreement with the tools they stand for, and what must hold for any features."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from golden_metrics import EXPECTED, cases, golden_features
from hypothesis import given, settings
from hypothesis import strategies as st

from vesselgan import metrics
from vesselgan.metrics import frechet, kernel, neighbours

few_examples = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def normal(count, width, seed, **kwargs):
    return cases.gen_normal(count, width, seed, **kwargs)


def total_variance(real, generated):
    return real.var(axis=0, ddof=1).sum() + generated.var(axis=0, ddof=1).sum()


def frechet_by_rows(real, generated):
    """The definition without any reduction: singular values of the product of all centred rows."""
    offset = real.mean(axis=0) - generated.mean(axis=0)
    left = (real - real.mean(axis=0)) / np.sqrt(len(real) - 1)
    right = (generated - generated.mean(axis=0)) / np.sqrt(len(generated) - 1)
    shared = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    return offset @ offset + total_variance(real, generated) - 2 * shared


# ------------------------------------------------------------------ Fréchet distance


@pytest.mark.parametrize(
    "peer", ["definition (nuclear norm, float64)", "pytorch-fid", "torch-fidelity", "torchmetrics (float64)"]
)
@pytest.mark.parametrize("name", cases.FEATURE_CASES)
def test_frechet_distance_equals_the_definition_and_the_peers(name, peer):
    real, generated = golden_features(name)
    expected = EXPECTED["features"][name]["expected"]["FID"][peer]
    value = metrics.frechet_distance(real=real, generated=generated)
    assert value == pytest.approx(expected, abs=1e-9 * total_variance(real, generated))


@pytest.mark.parametrize(("name", "expected"), [("closed_diag", 20), ("closed_rot90", 8), ("dead_columns", 2)])
def test_frechet_distance_equals_the_closed_form(name, expected):
    real, generated = golden_features(name)
    assert metrics.frechet_distance(real=real, generated=generated) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.7, 2.0, 4.0, 8.0])
def test_frechet_distance_keeps_its_digits_when_columns_fade_out(decay):
    real, generated = normal(300, 120, 1, decay=decay), normal(250, 120, 2, decay=decay, mean=0.01)
    value = metrics.frechet_distance(real=real, generated=generated)
    assert value == pytest.approx(frechet_by_rows(real, generated), abs=1e-9 * total_variance(real, generated))


def test_frechet_distance_keeps_its_digits_where_one_set_is_nearly_flat_in_the_directions_of_the_other():
    rotation, _ = np.linalg.qr(normal(120, 120, 3))
    scales = np.where(np.arange(120) < 60, 1, 3e-7)  # the Gram matrix has a Cholesky factor, of few right digits
    real, generated = normal(300, 120, 1) * scales @ rotation, normal(280, 120, 2) * scales[::-1] @ rotation
    value = metrics.frechet_distance(real=real, generated=generated)
    assert value == pytest.approx(frechet_by_rows(real, generated), abs=1e-11 * total_variance(real, generated))


@pytest.mark.parametrize(("real_count", "generated_count"), [(30, 20), (100, 20), (20, 100), (40, 40)])
def test_frechet_distance_of_few_samples_warns_and_equals_the_definition(real_count, generated_count):
    real, generated = normal(real_count, 40, 1), normal(generated_count, 40, 2, scale=1.5)
    with pytest.warns(metrics.SmallSampleWarning, match="samples for 40 features"):
        value = metrics.frechet_distance(real=real, generated=generated)
    assert value == pytest.approx(frechet_by_rows(real, generated), abs=1e-6 * total_variance(real, generated))


def test_the_small_sample_warning_points_at_the_caller():
    real, generated = normal(5, 8, 1), normal(50, 8, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics.frechet_distance(real=real, generated=generated)
        metrics.frechet_distance_of_statistics(
            real=metrics.feature_statistics(real), generated=metrics.feature_statistics(generated)
        )
    assert [(Path(warning.filename), warning.category) for warning in caught] == [
        (Path(__file__), metrics.SmallSampleWarning)
    ] * 2
    assert str(caught[0].message).startswith("real has 5 samples for 8 features")


def test_statistics_can_be_kept_for_a_shared_reference():
    real, generated = golden_features("normal_shift")
    reference, sample = metrics.feature_statistics(real), metrics.feature_statistics(generated)
    assert metrics.frechet_distance_of_statistics(real=reference, generated=sample) == metrics.frechet_distance(
        real=real, generated=generated
    )
    assert reference.count == 500
    np.testing.assert_allclose(reference.factor.T @ reference.factor, np.cov(real.T), atol=1e-12)
    assert reference.total_variance == pytest.approx(np.trace(np.cov(real.T)))


def test_statistics_of_another_extractor_are_refused():
    reference, sample = metrics.feature_statistics(normal(20, 4, 0)), metrics.feature_statistics(normal(20, 5, 0))
    with pytest.raises(ValueError, match="generated has 5 features per row, but real has 4"):
        metrics.frechet_distance_of_statistics(real=reference, generated=sample)


@settings(max_examples=60, deadline=None)
@given(
    seeds,
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    st.sampled_from(["plain", "dead columns", "duplicate rows", "constant", "float32", "fortran"]),
)
def test_frechet_distance_of_any_shape_equals_the_definition(seed, counts, width, decay, kind):
    real, generated = (
        np.maximum(normal(count, width, seed + side, decay=decay, mean=0.1 * side), -0.5)
        for side, count in enumerate(counts)
    )
    if kind == "dead columns":
        real[:, ::2] = 0
        generated[:, 1::3] = 1
    elif kind == "duplicate rows":
        real, generated = np.repeat(real[:2], 10, axis=0), np.repeat(generated, 2, axis=0)
    elif kind == "constant":
        generated = np.ones((5, width))
    elif kind == "float32":
        real = real.astype(np.float32)
    elif kind == "fortran":
        real, generated = np.asfortranarray(real), np.repeat(generated, 2, axis=0)[::2]
    expected = frechet_by_rows(real.astype(np.float64), generated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.SmallSampleWarning)
        value = metrics.frechet_distance(real=real, generated=generated)
    singular = min(len(real), len(generated)) <= width
    scale = total_variance(real.astype(np.float64), generated) + 1e-12
    assert value == pytest.approx(expected, abs=(1e-8 if singular else 1e-9) * scale)


@pytest.mark.parametrize("decay", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("counts", [(90, 80), (300, 60), (200, 150)])
def test_the_shortcut_for_large_sets_keeps_its_promise(monkeypatch, counts, decay):
    real, generated = normal(counts[0], 70, 1, decay=decay), normal(counts[1], 70, 2, decay=decay, mean=0.05)
    monkeypatch.setattr(frechet, "_LARGE", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.SmallSampleWarning)
        value = metrics.frechet_distance(real=real, generated=generated)
    assert value == pytest.approx(frechet_by_rows(real, generated), abs=1e-9 * total_variance(real, generated))


@few_examples
@given(seeds, st.integers(1, 6))
def test_distances_do_not_depend_on_the_order_of_the_rows(seed, width):
    real, generated = normal(40, width, seed), normal(35, width, seed + 1, scale=1.3)
    rng = np.random.default_rng(seed)
    for metric in (metrics.frechet_distance, metrics.kernel_distance, metrics.precision_recall_density_coverage):
        value = metric(real=real, generated=generated)
        assert metric(real=rng.permutation(real), generated=rng.permutation(generated)) == pytest.approx(value)


@few_examples
@given(seeds, st.floats(-3, 3))
def test_frechet_distance_of_a_shifted_copy_is_the_squared_shift(seed, shift):
    real = normal(40, 6, seed)
    value = metrics.frechet_distance(real=real, generated=real + shift)
    assert value == pytest.approx(6 * shift**2, abs=1e-9)


@few_examples
@given(seeds)
def test_frechet_distance_is_symmetric_and_unmoved_by_a_rotation(seed):
    real, generated = normal(40, 6, seed), normal(30, 6, seed + 1, scale=2.0, mean=1)
    value = metrics.frechet_distance(real=real, generated=generated)
    assert metrics.frechet_distance(real=generated, generated=real) == pytest.approx(value)
    rotation, _ = np.linalg.qr(normal(6, 6, seed))
    assert metrics.frechet_distance(real=real @ rotation, generated=generated @ rotation) == pytest.approx(value)


# ------------------------------------------------------------------ kernel distance


@pytest.mark.parametrize("peer", ["torch-fidelity", "torchmetrics"])
@pytest.mark.parametrize("name", cases.FEATURE_CASES)
def test_kernel_distance_equals_torch_fidelity_and_torchmetrics(name, peer):
    real, generated = golden_features(name)
    expected = EXPECTED["features"][name]["expected"]["KID, first n=min(N,M) rows, kernel (x.y/d+1)^3, unbiased"]
    value = metrics.kernel_distance(real=real[: expected["n"]], generated=generated[: expected["n"]])
    assert value == pytest.approx(expected[peer], rel=1e-9, abs=1e-9)


def test_kernel_distance_of_unequal_counts_equals_the_definition():
    real, generated = normal(30, 5, 1), normal(47, 5, 2, mean=0.3)
    rr, gg, rg = ((x @ y.T / 5 + 1) ** 3 for x, y in ((real, real), (generated, generated), (real, generated)))
    within_real = rr[~np.eye(30, dtype=bool)].mean()
    within_generated = gg[~np.eye(47, dtype=bool)].mean()
    value = metrics.kernel_distance(real=real, generated=generated)
    assert value == pytest.approx(within_real + within_generated - 2 * rg.mean(), rel=1e-12)


def test_kernel_distance_is_zero_on_average_for_equal_laws():
    values = [
        metrics.kernel_distance(real=normal(25, 4, seed), generated=normal(35, 4, 1000 + seed)) for seed in range(400)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


# ------------------------------------------------------------------ neighbours


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("name", cases.FEATURE_CASES)
def test_precision_recall_density_coverage_equal_prdc(name, k):
    real, generated = golden_features(name)
    expected = EXPECTED["features"][name]["expected"][f"prdc k={k}"]
    values = metrics.precision_recall_density_coverage(real=real, generated=generated, k=k)
    assert values == pytest.approx(expected, abs=1e-12)


def test_neighbours_use_five_unless_told():
    real, generated = golden_features("relu_decay")
    assert metrics.precision_recall_density_coverage(
        real=real, generated=generated
    ) == metrics.precision_recall_density_coverage(real=real, generated=generated, k=5)


@few_examples
@given(seeds)
def test_precision_and_recall_change_places_with_the_sets(seed):
    real, generated = normal(40, 3, seed), normal(30, 3, seed + 1, scale=0.5)
    forward = metrics.precision_recall_density_coverage(real=real, generated=generated)
    backward = metrics.precision_recall_density_coverage(real=generated, generated=real)
    assert (forward["precision"], forward["recall"]) == (backward["recall"], backward["precision"])


def test_a_collapsed_generator_has_precision_but_neither_recall_nor_coverage():
    real = normal(60, 3, 0) + 100
    generated = np.repeat(real.mean(axis=0, keepdims=True), 50, axis=0)
    values = metrics.precision_recall_density_coverage(real=real, generated=generated)
    assert values["precision"] == 1
    assert values["recall"] == 0
    assert values["coverage"] < 0.5


def test_copies_of_a_sample_lie_at_distance_zero_in_spite_of_rounding():
    copies = np.repeat(normal(37, 129, 0), 6, axis=0)  # five copies of each: balls of radius 0, which hold nothing
    rng = np.random.default_rng(0)
    values = metrics.precision_recall_density_coverage(real=rng.permutation(copies), generated=rng.permutation(copies))
    assert values == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_neighbours_keep_their_digits_far_from_the_origin():
    real, generated = normal(40, 3, 0), normal(40, 3, 1)
    moved = metrics.precision_recall_density_coverage(real=real + 1e7, generated=generated + 1e7)
    assert moved == metrics.precision_recall_density_coverage(real=real, generated=generated)


@pytest.mark.parametrize("k", [0, -1, 20, 30])
def test_neighbours_refuse_k_that_the_smaller_set_does_not_have(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to 19, but is {k}"):
        metrics.precision_recall_density_coverage(real=normal(20, 3, 0), generated=normal(40, 3, 1), k=k)


def test_values_do_not_depend_on_the_block_size(monkeypatch):
    real, generated = golden_features("relu_decay")

    def values():
        return {
            "kid": metrics.kernel_distance(real=real, generated=generated),
            **metrics.precision_recall_density_coverage(real=real, generated=generated),
        }

    whole = values()
    monkeypatch.setattr(kernel, "_ROWS_PER_BLOCK", 7)
    monkeypatch.setattr(neighbours, "_ROWS_PER_BLOCK", 7)
    assert values() == pytest.approx(whole, rel=1e-9)
