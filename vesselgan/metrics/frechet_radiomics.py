"""Fréchet Radiomics Distance: the Fréchet distance of radiomics features, as frd-score 1.0.1 computes it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesselgan.metrics.frechet import distance_between, statistics_of_rows
from vesselgan.metrics.inputs import check_same_width, checked_numbers

__all__ = ["frechet_radiomics_distance"]


def frechet_radiomics_distance(*, real: ArrayLike, generated: ArrayLike) -> float:
    """ln of the squared Fréchet distance between z-scored radiomics features: FRD, version v1 (not v0).

    real is (N, d), generated (M, d), of `vesselgan.radiomics.RadiomicsFeatures` or of pyradiomics. Both are scaled by
    the means and standard deviations of the *real* features, so it is not symmetric: real is the reference (the peer's
    first folder, D1), and only distances to one reference at equal N and M are comparable. Without unit; any real
    number, -inf where nothing differs; lower is better, and 1 less is a squared distance e times smaller. Biased upward
    at finite N, most where N is not above d = 1014, as here nearly always.

    As in the peer: features count in single precision; a sample with a NaN feature is left out; so is a feature that is
    constant among real samples, or not finite once scaled. Equal to the peer's `compute_frd` to 1e-6 relative (measured
    on its own features: `tests/vesselgan/radiomics/test_radiomics.py`). The paper's eq. 3 is ln of the distance itself,
    half of this; the peer gives that with use_paper_log. v0 (94 features, joint min-max scaling, no logarithm) is not
    offered.
    Empty case: fewer than two samples without NaN, or no feature that varies, is an error.
    Source: Konz, Osuala et al. 2026, Med Image Anal 110:103943; frd-score 1.0.1.
    """
    real_rows, generated_rows = _checked("real", real), _checked("generated", generated)
    check_same_width(real_rows.shape[1], generated_rows.shape[1])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean, spread = real_rows.mean(axis=0), real_rows.std(axis=0)
        scaled = [(rows - mean) / spread for rows in (real_rows, generated_rows)]
    kept = np.logical_and(*(np.isfinite(rows).all(axis=0) for rows in scaled))
    if not kept.any():
        raise ValueError("real has no feature that varies and is finite: there is nothing to compare by")
    statistics = [statistics_of_rows(rows[:, kept].astype(np.float64)) for rows in scaled]
    squared = distance_between(*statistics)
    return float(np.log(squared)) if squared > 0 else -np.inf


def _checked(name: str, features: ArrayLike) -> NDArray[np.float32]:
    """(N, d) in single precision, without the samples that have a NaN."""
    rows = checked_numbers(name, features)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"{name} must be (N, d) rows of features, but has shape {rows.shape}")
    with np.errstate(over="ignore"):
        complete: NDArray[np.float32] = rows[~np.isnan(rows).any(axis=1)].astype(np.float32)
    if len(complete) < 2:
        raise ValueError(f"{name} has {len(complete)} samples without NaN features, of {len(rows)}: needs 2 or more")
    return complete
