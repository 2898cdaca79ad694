"""Effects of paired differences: intervals, one-sided p-values, Holm's correction. Pure functions on arrays, no rows.

Design
------
A claim compares a metric of two labels. What is random decides the unit, and with it interval and test:

* `SignFlip`: one difference per *test subject* (claims about these trained models) or *interleaved round* (costs). If
  nothing distinguishes the labels, each difference is as likely to have the other sign, whatever its distribution, ties
  or outliers: the sign-flip permutation test is exact. The bounds that it does not reject are the interval, so test and
  interval never disagree. Both come from the sorted means of all subsets of the differences, which cut the line into
  equally likely pieces (Hartigan 1969, J. Am. Stat. Assoc. 64:1303): all of them up to 12 pairs, a fixed random sample
  beyond. Below 6 pairs there is no 95 % interval of this kind (2 / 2^5 > 5 %): Student's stands in, and nothing is
  decided.
* `Student`: one difference per *seed* (metrics without subjects, such as FID). With 5 seeds a sign-flip test cannot go
  below 1/16, so the verdict rests on Student's t over seeds; sign-flip and Wilcoxon stand beside it. Differences of two
  independent trainings by one procedure are symmetric and most frequent at zero, where t errs to the safe side.
* `Crossed`: seeds x subjects, both drawn anew (claims about the training procedure in a metric of subjects). The
  variance of the mean is that of seeds, plus that of subjects beyond the residual, with Satterthwaite's degrees of
  freedom: the analysis of multi-reader multi-case studies (Dorfman, Berbaum & Metz 1992; Hillis 2007, Stat. Med.
  26:596) with seeds in the place of readers. Of 2 seeds that covers too little, and the half-widths of both sources are
  combined instead (Zou & Donner 2008, Stat. Med. 27:1693), which errs to the safe side.

Seeds are paired: the same seed is the same order of patches, the same noise and, at equal width, the same first
weights. Where that makes results no more alike, pairing costs a few degrees of freedom and stays valid, also where one
label varies far more than the other, which an unpaired permutation test would not survive.

Why no bootstrap, neither BCa nor studentised: both are right for many units, and here there are 5 to 20. BCa draws from
the few values at hand, whose variance is too small by (n - 1) / n and whose tails are missing: it covered 80-93 %. The
studentised bootstrap divides by the spread of each resample, which of few values may be almost nothing: 90-98 %. These
cover 95 +- 2 % of symmetric differences (`tests/benchmark/claims/test_simulation.py`). No method keeps 95 % for
strongly skewed differences of so few units; there these cover 82-93 %.

Every class takes leading batch axes, so that thousands of samples are analysed at once.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from vesselgan.metrics.estimates import CONFIDENCE

__all__ = [
    "EXACT_PAIRS",
    "LEAST_PAIRS",
    "LEAST_SEEDS",
    "Crossed",
    "Effect",
    "SignFlip",
    "Student",
    "holm",
    "sign_flip_p",
    "wilcoxon_p",
]

Array = NDArray[np.float64]

LEAST_SEEDS = 5  # fewer say too little about a training procedure, whatever their spread
LEAST_PAIRS = 6  # 2 / 2^6 is the first that lies below 5 %
EXACT_PAIRS = 12  # up to here every pattern of signs is gone through
DRAWS = 9_999  # beyond, this many random patterns; the same ones every time


class Effect(Protocol):
    """A mean difference with what can be inferred about the true one."""

    @property
    def differences(self) -> Array:
        """What it was made of."""

    @property
    def effect(self) -> Array:
        """Mean difference (batch)."""

    @property
    def test(self) -> str:
        """The test's name."""

    def p_above(self, bound: float) -> Array:
        """One-sided p-value (batch); small: the true difference is greater than `bound`."""

    def p_below(self, bound: float) -> Array:
        """One-sided p-value (batch); small: the true difference is less than `bound`."""

    def interval(self) -> tuple[Array, Array]:
        """Two-sided 95 % interval (batch each), NaN where there is none."""


@dataclass(frozen=True)
class _Paired:
    differences: Array

    @property
    def effect(self) -> Array:
        """Mean difference (batch)."""
        return np.asarray(self.differences.mean(axis=-1))


@dataclass(frozen=True)
class SignFlip(_Paired):
    """Exact or Monte-Carlo sign-flip permutation of `differences` (batch, n), n >= 2."""

    @property
    def test(self) -> str:
        """Whether every pattern of signs was gone through."""
        return f"{'exact' if self.differences.shape[-1] <= EXACT_PAIRS else 'Monte-Carlo'} sign-flip permutation"

    def p_above(self, bound: float) -> Array:
        """One-sided p-value: the share of sign patterns whose mean of (difference - bound) is as great."""
        # Flipping a subset's signs does not lower the mean where the subset's own mean is at most the bound.
        return self._share(self._subset_means <= bound + self._rounding(bound))

    def p_below(self, bound: float) -> Array:
        """The same for less than `bound`."""
        return self._share(self._subset_means >= bound - self._rounding(bound))

    def interval(self) -> tuple[Array, Array]:
        """The bounds that the two-sided test does not reject; below 6 pairs Student's interval."""
        if self.differences.shape[-1] < LEAST_PAIRS:
            return Student(self.differences).interval()
        means = np.sort(self._subset_means, axis=-1)
        rank = int((1 - CONFIDENCE) / 2 * (means.shape[-1] + 1))
        return means[..., rank - 1], means[..., -rank]

    @cached_property
    def _subset_means(self) -> Array:
        weights = _subset_weights(self.differences.shape[-1])
        return np.asarray(self.differences @ weights)

    def _share(self, as_far: NDArray[np.bool_]) -> Array:
        """The observed pattern counts among those that go as far."""
        return np.asarray((1 + as_far.sum(axis=-1)) / (as_far.shape[-1] + 1))

    def _rounding(self, bound: float) -> Array:
        """Equal means count as equal, whatever the last bit says."""
        return np.asarray(1e-12 * (np.abs(self.differences).max(axis=-1, keepdims=True) + abs(bound)))


@lru_cache(maxsize=64)
def _subset_weights(n: int) -> Array:
    """(n, subsets): column by column the weights whose sum is a subset's mean; no empty subset."""
    if n <= EXACT_PAIRS:
        chosen = np.array(list(itertools.product((False, True), repeat=n)))[1:]
    else:
        chosen = np.random.default_rng(0).random((DRAWS, n)) < 0.5
        chosen = chosen[chosen.any(axis=1)]
    return np.asarray((chosen / chosen.sum(axis=1, keepdims=True)).T)


@dataclass(frozen=True)
class Student(_Paired):
    """Student's t of `differences` (batch, n), n >= 2."""

    @property
    def test(self) -> str:
        """The test's name."""
        return "Student's t over seeds"

    def p_above(self, bound: float) -> Array:
        """One-sided p-value."""
        n = self.differences.shape[-1]
        return _t_p(self.effect - bound, self._variance(), n - 1.0, n, abs(bound))

    def p_below(self, bound: float) -> Array:
        """One-sided p-value."""
        return Student(-self.differences).p_above(-bound)

    def interval(self) -> tuple[Array, Array]:
        """Effect -+ t times its standard error."""
        half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.differences.shape[-1] - 1) * np.sqrt(self._variance())
        return self.effect - half, self.effect + half

    def _variance(self) -> Array:
        return np.asarray(self.differences.var(axis=-1, ddof=1) / self.differences.shape[-1])


@dataclass(frozen=True)
class Crossed:
    """`differences` (batch, seeds, subjects), at least 2 x 2; NaN where a seed has no value of a subject."""

    differences: Array

    @property
    def effect(self) -> Array:
        """Mean difference over what is there (batch)."""
        return np.asarray(np.nanmean(self.differences, axis=(-2, -1)))

    @property
    def test(self) -> str:
        """The test's name."""
        return "Satterthwaite's t over seeds and subjects"

    def p_above(self, bound: float) -> Array:
        """One-sided p-value."""
        of_seeds, of_subjects, residual = self.variances()
        seeds, subjects = self.differences.shape[-2:]
        freedom = satterthwaite(of_seeds, of_subjects, seeds, subjects, residual)
        return _t_p(self.effect - bound, of_seeds + of_subjects, freedom, seeds, abs(bound))

    def p_below(self, bound: float) -> Array:
        """One-sided p-value."""
        return Crossed(-self.differences).p_above(-bound)

    def interval(self) -> tuple[Array, Array]:
        """By Satterthwaite's degrees of freedom; of 2 seeds the half-widths of both sources combined."""
        of_seeds, of_subjects, residual = self.variances()
        seeds, subjects = self.differences.shape[-2:]
        tail = (1 + CONFIDENCE) / 2
        if seeds == 2:
            by_seeds, by_subjects = scipy.stats.t.ppf(tail, seeds - 1), scipy.stats.t.ppf(tail, subjects - 1)
            half = np.sqrt(by_seeds**2 * of_seeds + by_subjects**2 * of_subjects)
        else:
            freedom = satterthwaite(of_seeds, of_subjects, seeds, subjects, residual)
            half = scipy.stats.t.ppf(tail, freedom) * np.sqrt(of_seeds + of_subjects)
        return self.effect - half, self.effect + half

    def variances(self) -> tuple[Array, Array, Array]:
        """Variance of `effect` (batch each) by source: seeds with the residual, subjects beyond it, residual alone."""
        known = ~np.isnan(self.differences)
        seeds, subjects = known.shape[-2:]
        count = known.sum(axis=(-2, -1))
        centred = np.where(known, self.differences - self.effect[..., None, None], 0.0)
        of_seeds = seeds / (seeds - 1) * (centred.sum(axis=-1) ** 2).sum(axis=-1) / count**2
        of_subjects = subjects / (subjects - 1) * (centred.sum(axis=-2) ** 2).sum(axis=-1) / count**2
        residual = _additive_residual(centred, known)
        freedom = np.maximum(count - seeds - subjects + 1, 1)
        of_residual = (residual**2).sum(axis=(-2, -1)) / freedom / count
        return of_seeds, np.maximum(of_subjects - of_residual, 0.0), of_residual


def _additive_residual(centred: Array, known: NDArray[np.bool_]) -> Array:
    """What seed and subject effects leave over (least squares by turns; one turn is exact where nothing is missing)."""
    residual = centred
    for _ in range(1 if known.all() else 25):
        for axis in (-1, -2):
            means = residual.sum(axis=axis, keepdims=True) / np.maximum(known.sum(axis=axis, keepdims=True), 1)
            residual = np.where(known, residual - means, 0.0)
    return residual


def satterthwaite(
    of_seeds: ArrayLike, of_subjects: ArrayLike, seeds: int, subjects: int, residual: ArrayLike = 0.0
) -> Array:
    """Degrees of freedom of the sum of two estimated variances (Satterthwaite 1946), at least 1.

    The subjects' part was estimated with the residual in it. Half of that counts here: with all of it intervals are too
    wide, with none too narrow where subjects are few (measured over the grid of the simulation).
    """
    first, second = np.asarray(of_seeds, dtype=np.float64), np.asarray(of_subjects, dtype=np.float64)
    noisy = np.where(second > 0, second + np.asarray(residual) / 2, 0.0)
    spread = first**2 / (seeds - 1) + noisy**2 / (subjects - 1)
    total = (first + second) ** 2
    return np.maximum(np.divide(total, spread, out=np.full_like(total, seeds - 1.0), where=spread > 0), 1.0)


def _t_p(distance: Array, variance: Array, freedom: float | Array, units: int, scale: float) -> Array:
    """One-sided p of a distance from the bound. Equal differences have no spread to measure by: then 2^-units."""
    flat = variance <= (1e-12 * (np.abs(distance) + scale)) ** 2
    ratio = np.divide(distance, np.sqrt(variance), out=np.zeros_like(distance), where=~flat)
    p = np.asarray(scipy.stats.t.sf(ratio, freedom))
    settled = np.where(distance > 1e-12 * scale, 0.5**units, 1.0)
    return np.where(flat, settled, p)


def sign_flip_p(differences: Array) -> float | None:
    """Two-sided sign-flip p of no difference, for beside; None below two pairs."""
    if len(differences) < 2:
        return None
    flip = SignFlip(differences)
    return min(1.0, 2 * float(min(flip.p_above(0.0), flip.p_below(0.0))))


def wilcoxon_p(differences: Array) -> float | None:
    """Two-sided Wilcoxon signed-rank p of no difference, for beside; None where no difference is left to rank."""
    if len(differences) < 2 or not np.any(differences):
        return None
    return float(scipy.stats.wilcoxon(differences).pvalue)


def holm(p_values: ArrayLike) -> Array:
    """p-values (batch, claims) corrected for their number by Holm's step-down procedure, 1979."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, axis=-1, kind="stable")
    factors = np.arange(p.shape[-1], 0, -1)
    stepped = np.minimum(np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * factors, axis=-1), 1.0)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, stepped, axis=-1)
    return corrected
