"""Intervals, tests and corrections against other programs' and by their laws."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.claims.planning import Design, power, units_needed
from benchmark.claims.statistics import Crossed, SignFlip, Student, holm, sign_flip_p, wilcoxon_p

# Whole numbers, since scipy takes sums that differ in their last bit for different ones.
SAMPLES = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=9).map(np.array)


def by_scipy(differences: np.ndarray, bound: float, alternative: Any) -> float:
    result = stats.permutation_test(
        (differences - bound,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=2**12,
        vectorized=True,
    )
    return float(result.pvalue)


@settings(max_examples=40, deadline=None)
@given(SAMPLES, st.integers(-3, 3).map(float))
def test_the_sign_flip_test_is_scipys(differences: np.ndarray, bound: float) -> None:
    flip = SignFlip(differences)
    assert float(flip.p_above(bound)) == pytest.approx(by_scipy(differences, bound, "greater"))
    assert float(flip.p_below(bound)) == pytest.approx(by_scipy(differences, bound, "less"))


def test_beyond_twelve_pairs_random_patterns_come_close_to_all_of_them() -> None:
    differences = np.random.default_rng(0).normal(0.35, 1, 14)
    signs = (np.arange(2**14)[:, None] >> np.arange(14)) % 2 * 2 - 1
    exact = np.mean((signs * differences).mean(axis=1) >= differences.mean())
    flip = SignFlip(differences)
    assert float(flip.p_above(0.0)) == pytest.approx(exact, rel=0.1)
    assert flip.test == "Monte-Carlo sign-flip permutation"
    assert float(flip.p_above(0.0)) == float(SignFlip(differences).p_above(0.0))  # the same ones every time


@pytest.mark.parametrize("pairs", [6, 9, 12, 15])
def test_the_interval_is_what_the_test_does_not_reject(pairs: int) -> None:
    flip = SignFlip(np.random.default_rng(pairs).normal(size=pairs))
    low, high = map(float, flip.interval())
    for inside, outside in ((low + 1e-6, low - 1e-6), (high - 1e-6, high + 1e-6)):
        p_inside, p_outside = (min(float(flip.p_above(b)), float(flip.p_below(b))) for b in (inside, outside))
        assert p_outside <= 0.025 < p_inside


def test_students_interval_and_p_are_scipys() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, 7)
    expected = stats.ttest_1samp(differences, 0.2, alternative="greater")
    assert float(Student(differences).p_above(0.2)) == pytest.approx(expected.pvalue)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert tuple(map(float, Student(differences).interval())) == pytest.approx(tuple(interval))


@pytest.mark.parametrize(("value", "above"), [(0.5, 1 / 32), (0.0, 1.0), (-0.5, 1.0)])
def test_equal_differences_have_no_spread_and_fall_back_to_signs(value: float, above: float) -> None:
    assert float(Student(np.full(5, value)).p_above(0.0)) == above


def test_the_parts_of_a_crossed_variance_are_those_of_the_analysis_of_variance() -> None:
    table = np.random.default_rng(0).normal(size=(5, 8)) + np.random.default_rng(1).normal(size=(5, 1))
    of_seeds, of_subjects, residual = map(float, Crossed(table).variances())
    grand = table.mean()
    mean_square_seeds = 8 * ((table.mean(axis=1) - grand) ** 2).sum() / 4
    mean_square_subjects = 5 * ((table.mean(axis=0) - grand) ** 2).sum() / 7
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + grand
    mean_square_rest = (rest**2).sum() / 28
    assert of_seeds == pytest.approx(mean_square_seeds / 40)
    assert residual == pytest.approx(mean_square_rest / 40)
    assert of_subjects == pytest.approx(max(mean_square_subjects - mean_square_rest, 0) / 40)


def test_values_of_equal_subjects_leave_students_test_over_seeds() -> None:
    per_seed = np.random.default_rng(0).normal(0.5, 1, 6)
    crossed = Crossed(np.tile(per_seed[:, None], (1, 9)))
    assert float(crossed.p_above(0.0)) == pytest.approx(float(Student(per_seed).p_above(0.0)))


def test_a_missing_value_of_a_crossed_table_is_left_out_and_not_zero() -> None:
    table = np.random.default_rng(0).normal(5, 0.1, (6, 8))
    table[2, 3] = np.nan
    assert float(Crossed(table).effect) == pytest.approx(np.nanmean(table))
    low, high = map(float, Crossed(table).interval())
    assert high - low < 0.3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_the_p_value_and_bonferronis(p_values: list[float]) -> None:
    p, corrected = np.array(p_values), holm(p_values)
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * p) + 1e-12).all() or len(p) > 1
    assert corrected[order[0]] == pytest.approx(min(1, len(p) * p.min()))
    smaller = holm(np.append(p[:-1], p[-1] / 2))
    assert (smaller <= corrected + 1e-12).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_wilcoxon_and_sign_flip_beside_it_survive_ties_and_tiny_samples() -> None:
    assert wilcoxon_p(np.zeros(5)) is None
    assert wilcoxon_p(np.array([1.0])) is sign_flip_p(np.array([1.0])) is None
    for values in ([0.0, 0.0, 1.0], [1.0, -1.0], [0.1] * 7, [0.0, 0.2, 0.2, -0.2, 0.3, 0.3]):
        assert 0 < (wilcoxon_p(np.array(values)) or 0) <= 1


@pytest.mark.parametrize("exact", [True, False])
def test_power_grows_with_the_units_and_reaches_what_was_asked_for(exact: bool) -> None:
    design = Design("seed", exact, 5, 1.0)
    units = units_needed(lambda n: power(design, 0.8, 0.05, n), 5)
    assert units is not None
    assert power(design, 0.8, 0.05, units) >= 0.8 > power(design, 0.8, 0.05, units - 2)
    # Student's test alone: statistical tables give 15 pairs for an effect of 0.8 SD.
    assert units == 15 or exact
    assert units_needed(lambda n: power(design, 0.01, 0.05, n), 5) is None


def test_an_exact_test_has_no_power_where_it_cannot_reach_its_level() -> None:
    assert power(Design("test subject", True, 5, 1.0), 100.0, 0.05, 5) == 0
    assert power(Design("test subject", True, 6, 1.0), 100.0, 0.05, 6) == pytest.approx(1)
