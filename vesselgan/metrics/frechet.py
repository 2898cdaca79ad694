"""Fréchet distance between two sets of features, without a matrix square root."""

import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, check_same_width, checked_feature_pair, checked_features

__all__ = [
    "FeatureStatistics",
    "SmallSampleWarning",
    "distance_between",
    "feature_statistics",
    "frechet_distance",
    "frechet_distance_of_statistics",
    "statistics_of_rows",
]

# Below this ratio of Cholesky pivots the Gram matrix has lost the small directions, whose square roots are summed.
_SMALLEST_PIVOT_RATIO = 1e-5
# From this size the singular values of a matrix wait for memory, four times as long as the eigenvalues of its square.
_LARGE = 1024
# Rounding that this shortcut may add, as a share of tr Sr + tr Sg: a tenth of what is promised at most.
_ERROR, _ERROR_WHERE_SINGULAR = 1e-10, 1e-8


class SmallSampleWarning(UserWarning):
    """There are no more samples than features, so the covariance is singular and the distance strongly biased."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """A Gaussian fitted to features: count, mean (d,), and a factor F (at most d rows) of the covariance F'F."""

    count: int
    mean: Floats
    factor: Floats

    @property
    def total_variance(self) -> float:
        """The trace of the covariance."""
        return float(np.vdot(self.factor, self.factor))


def frechet_distance(*, real: ArrayLike, generated: ArrayLike) -> float:
    """|mr - mg|^2 + tr Sr + tr Sg - 2 tr (Sr Sg)^(1/2), the Fréchet (FID) distance of two fitted Gaussians.

    real is (N, d), generated (M, d), N, M >= 2, computed in float64, unbiased covariances. In squared feature units;
    0 to infinity, lower is better; symmetric. Biased upward at finite N: compare only at equal N, M and reference.
    Warns (SmallSampleWarning) where N or M is not above d. Empty case: fewer than two rows are an error.
    Source: Heusel et al. 2017, eq. 6; pytorch-fid, torch-fidelity.
    """
    real_rows, generated_rows = checked_feature_pair(real, generated)
    statistics = statistics_of_rows(real_rows), statistics_of_rows(generated_rows)
    _warn_of_few(*statistics)
    return distance_between(*statistics)


def feature_statistics(features: ArrayLike) -> FeatureStatistics:
    """Statistics of (N, d) features, N >= 2: the costly half of the distance, worth keeping for a shared reference."""
    return statistics_of_rows(checked_features("features", features))


def frechet_distance_of_statistics(*, real: FeatureStatistics, generated: FeatureStatistics) -> float:
    """`frechet_distance` of two statistics: same value, unit, range and warning."""
    check_same_width(len(real.mean), len(generated.mean))
    _warn_of_few(real, generated)
    return distance_between(real, generated)


def _warn_of_few(real: FeatureStatistics, generated: FeatureStatistics) -> None:
    for name, statistics in (("real", real), ("generated", generated)):
        count, width = statistics.count, len(statistics.mean)
        if count <= width:
            message = f"{name} has {count} samples for {width} features: the distance is strongly biased upward"
            warnings.warn(message, SmallSampleWarning, stacklevel=3)


def distance_between(real: FeatureStatistics, generated: FeatureStatistics) -> float:
    """`frechet_distance_of_statistics` without checks and warnings."""
    offset = real.mean - generated.mean
    spread = real.total_variance + generated.total_variance
    singular = min(real.count, generated.count) <= len(real.mean)
    # With Sr = A'A and Sg = B'B, tr (Sr Sg)^(1/2) is the sum of the singular values of A B'. It needs no square root of
    # a matrix, which can fail, turn complex, or lose half the digits of the small eigenvalues.
    product = real.factor @ generated.factor.T
    shared = _nuclear_norm(product, allowed=spread * (_ERROR_WHERE_SINGULAR if singular else _ERROR))
    return max(float(offset @ offset + spread - 2 * shared), 0.0)  # never below 0 but for rounding


def _nuclear_norm(matrix: Floats, *, allowed: float) -> float:
    """Sum of the singular values; to full precision, or where that is several times as fast with an allowed error."""
    if min(matrix.shape) >= _LARGE:
        squares = np.linalg.eigvalsh(matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix)
        # An eigenvalue l is known to +-r only, so its root to r / (2 sqrt(l)), and to sqrt(r) near 0.
        rounding = len(squares) * np.finfo(np.float64).eps * squares[-1]
        roots = np.sqrt(squares.clip(0))
        error = np.minimum(rounding / np.maximum(2 * roots, 1e-300), np.sqrt(rounding)).sum()
        if error <= allowed:
            return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def statistics_of_rows(rows: Floats) -> FeatureStatistics:
    """`feature_statistics` of rows that are checked already."""
    mean = rows.mean(axis=0)
    centred = rows - mean  # (N, d)
    centred /= np.sqrt(len(rows) - 1)
    return FeatureStatistics(count=len(rows), mean=mean, factor=_reduced(centred))


def _reduced(centred: Floats) -> Floats:
    """F with F'F = centred' centred, of N - 1 or d rows, whichever is less: the cheapest exact one."""
    count, width = centred.shape
    if count <= width:
        # The reflection that turns (1, ..., 1) / sqrt(N) into the first axis: the rows sum to 0, so its row becomes 0,
        # and without it no singular value is 0 for nothing.
        normal = np.full(count, 1 / np.sqrt(count))
        normal[0] += 1
        reflected: Floats = centred[1:] - np.outer(normal[1:], normal @ centred) * (2 / (normal @ normal))
        return reflected
    with suppress(np.linalg.LinAlgError):
        factor = np.asarray(np.linalg.cholesky(centred.T @ centred, upper=True), np.float64)
        pivots = factor.diagonal()
        if pivots.min() >= _SMALLEST_PIVOT_RATIO * pivots.max():
            return factor
    return np.asarray(scipy.linalg.qr(centred, mode="r")[0], np.float64)[:width]
