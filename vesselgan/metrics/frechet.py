"""Fréchet distance between two sets of features, without a matrix square root."""

import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr

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
    # With Sr = A'A and Sg = B'B, tr (Sr Sg)^(1/2) is the sum of the singular values of A B'. It needs no square root of
    # a matrix, which can fail, turn complex, or lose half the digits of the small eigenvalues.
    shared = np.linalg.svd(real.factor @ generated.factor.T, compute_uv=False).sum()
    distance = offset @ offset + real.total_variance + generated.total_variance - 2 * shared
    return max(float(distance), 0.0)  # never below 0 but for rounding


def statistics_of_rows(rows: Floats) -> FeatureStatistics:
    """`feature_statistics` of rows that are checked already."""
    mean = rows.mean(axis=0)
    centred = (rows - mean) / np.sqrt(len(rows) - 1)  # (N, d)
    return FeatureStatistics(count=len(rows), mean=mean, factor=_reduced(centred))


def _reduced(centred: Floats) -> Floats:
    """F with F'F = centred' centred and at most d rows: the cheapest exact one."""
    count, width = centred.shape
    if count <= width:
        return centred
    with suppress(np.linalg.LinAlgError):
        factor = np.asarray(np.linalg.cholesky(centred.T @ centred, upper=True), np.float64)
        pivots = factor.diagonal()
        if pivots.min() >= _SMALLEST_PIVOT_RATIO * pivots.max():
            return factor
    return np.asarray(qr(centred, mode="r")[0], np.float64)[:width]
