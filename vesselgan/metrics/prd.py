"""Precision and recall of distributions: how much of the generated law is real, how much of the real is covered."""

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, Parts, check_count, checked_feature_pair, checked_numbers
from vesselgan.metrics.kmeans import kmeans_labels

__all__ = [
    "max_f_beta_pair",
    "prd_area",
    "prd_curve",
    "prd_curves",
    "prd_from_histograms",
    "prd_leave_outs",
    "prd_values",
]

_BETA = 8
_SMALLEST_ANGLE = 1e-10
_FEWEST_ANGLES = 3  # the two ends alone are (0, 1) and (1, 0) whatever the sets


def prd_curve(
    *, real: ArrayLike, generated: ArrayLike, clusters: int = 20, runs: int = 10, angles: int = 1001, seed: int = 0
) -> tuple[Floats, Floats]:
    """Precision and recall (angles,) each: `prd_curves` averaged over its k-means runs, angle by angle.

    real is (N, d), generated (M, d), computed in float64. Without unit; 0 to 1, higher is better for both.
    Empty case: fewer than two rows are an error. Source: Sajjadi et al. 2018 (prd_score.py).
    """
    precision, recall = prd_curves(
        real=real, generated=generated, clusters=clusters, runs=runs, angles=angles, seed=seed
    )
    return precision.mean(axis=0), recall.mean(axis=0)


def prd_curves(
    *, real: ArrayLike, generated: ArrayLike, clusters: int = 20, runs: int = 10, angles: int = 1001, seed: int = 0
) -> tuple[Floats, Floats]:
    """Precision and recall (runs, angles) each, one row per k-means run: for the spread that clustering adds.

    Each run clusters the union of both sets and compares the two histograms over its clusters. Equal counts enter: the
    larger set is thinned at random. The same seed gives the same curves; the runs differ in their k-means seeding only.

    real is (N, d), generated (M, d), computed in float64; clusters at most 2 min(N, M). Without unit; 0 to 1, higher
    is better for both. Empty case: fewer than two rows are an error.
    Source: Sajjadi et al. 2018 (prd_score.py).
    """
    real_rows, generated_rows = checked_feature_pair(real, generated)
    count = min(len(real_rows), len(generated_rows))
    check_count("clusters", clusters, at_least=1, at_most=2 * count)
    check_count("runs", runs, at_least=1)
    check_count("angles", angles, at_least=_FEWEST_ANGLES)

    rng = np.random.default_rng(seed)
    reference, evaluated = _cluster_counts(
        _thinned(real_rows, count, rng), _thinned(generated_rows, count, rng), clusters=clusters, runs=runs, rng=rng
    )
    return _curves(reference=_shares(reference), evaluated=_shares(evaluated), angles=angles)


def prd_leave_outs(
    real: Floats,
    generated: Floats,
    parts: tuple[Parts, Parts] | None,
    *,
    clusters: int,
    runs: int,
    rng: np.random.Generator,
    angles: int = 1001,
) -> tuple[tuple[Floats, Floats], list[tuple[Floats, Floats]]]:
    """`prd_curves` of equally many rows, and the mean curve (angles,) without each part of both sets in turn, if any.

    What is left out leaves the histograms; the clusters stay, as their own chance is seen in the spread over the runs.
    """
    reference, evaluated = _cluster_counts(real, generated, clusters=clusters, runs=runs, rng=rng, parts=parts)
    leave_outs = []
    for part in range(0 if parts is None else len(reference)):
        kept = np.arange(len(reference)) != part
        precision, recall = _curves(
            reference=_shares(reference[kept]), evaluated=_shares(evaluated[kept]), angles=angles
        )
        leave_outs.append((precision.mean(axis=0), recall.mean(axis=0)))
    return _curves(reference=_shares(reference), evaluated=_shares(evaluated), angles=angles), leave_outs


def _cluster_counts(
    real: Floats,
    generated: Floats,
    *,
    clusters: int,
    runs: int,
    rng: np.random.Generator,
    parts: tuple[Parts, Parts] | None = None,
) -> tuple[Floats, Floats]:
    """(folds, runs, clusters) number of real rows, and of generated rows, in each cluster of their union."""
    labels = kmeans_labels(np.concatenate([real, generated]), clusters=clusters, runs=runs, rng=rng)  # (N + M, runs)
    part_of_row = np.zeros(len(labels), int) if parts is None else np.concatenate(parts)
    folds = int(part_of_row.max()) + 1
    cells = (part_of_row[:, None] * runs + np.arange(runs)) * clusters + labels
    halves = cells[: len(real)], cells[len(real) :]
    shape = folds, runs, clusters
    counts = [np.bincount(half.ravel(), minlength=folds * runs * clusters).reshape(shape) for half in halves]
    return counts[0].astype(np.float64), counts[1].astype(np.float64)


def _shares(counts: Floats) -> Floats:
    """(runs, clusters) shares of (folds, runs, clusters) counts."""
    summed = counts.sum(axis=0)
    shares: Floats = summed / summed.sum(axis=1, keepdims=True)
    return shares


def prd_from_histograms(*, reference: ArrayLike, evaluated: ArrayLike, angles: int = 1001) -> tuple[Floats, Floats]:
    """Precision and recall (angles,) each, of two discrete distributions over the same bins.

    precision(a) = sum_b min(tan(a) reference_b, evaluated_b), recall(a) = precision(a) / tan(a), for angles a from
    1e-10 to pi/2 - 1e-10.

    reference (real) and evaluated (generated) are (bins,), not negative, each of sum 1. Without unit; 0 to 1, higher is
    better for both. Empty case: no bins are an error. Source: Sajjadi et al. 2018 (prd_score.py).
    """
    check_count("angles", angles, at_least=_FEWEST_ANGLES)
    reference_shares = _checked_shares("reference", reference)
    evaluated_shares = _checked_shares("evaluated", evaluated)
    if len(reference_shares) != len(evaluated_shares):
        raise ValueError(f"evaluated has {len(evaluated_shares)} bins, but reference has {len(reference_shares)}")
    precision, recall = _curves(reference=reference_shares[None], evaluated=evaluated_shares[None], angles=angles)
    return precision[0], recall[0]


def max_f_beta_pair(precision: ArrayLike, recall: ArrayLike) -> tuple[float, float]:
    """(F8, F1/8): the largest F-score along the curve when recall, or precision, weighs 8 times as much.

    precision and recall are (angles,), 0 to 1. Without unit; 0 to 1, higher is better; 0 where both are 0 throughout.
    Empty case: a curve without points is an error. Source: Sajjadi et al. 2018 (prd_score.py).
    """
    precision_values, recall_values = _checked_curve(precision, recall)
    return (
        _max_f_beta(precision_values, recall_values, beta=_BETA),
        _max_f_beta(precision_values, recall_values, beta=1 / _BETA),
    )


def prd_area(precision: ArrayLike, recall: ArrayLike) -> float:
    """Area under precision over recall, by trapezoids.

    precision and recall are (angles,), 0 to 1, in the order of the angles. Without unit; 0 to 1, higher is better.
    Empty case: a curve without points is an error. Source: Sajjadi et al. 2018.
    """
    precision_values, recall_values = _checked_curve(precision, recall)
    # Recall falls along the curve, so the integral comes out negative.
    return float(abs(np.trapezoid(precision_values, recall_values)))


def prd_values(precision: Floats, recall: Floats) -> dict[str, float]:
    """`max_f_beta_pair` and `prd_area` of one curve, precision and recall (angles,) each, by metric name."""
    f8, f1_8 = max_f_beta_pair(precision, recall)
    return {"prd_f8": f8, "prd_f1_8": f1_8, "prd_auc": prd_area(precision, recall)}


def _curves(*, reference: Floats, evaluated: Floats, angles: int) -> tuple[Floats, Floats]:
    """(runs, angles) precision and recall of (runs, bins) shares."""
    slopes = np.tan(np.linspace(_SMALLEST_ANGLE, np.pi / 2 - _SMALLEST_ANGLE, angles))
    scaled = slopes[:, None] * reference[:, None, :]  # (runs, angles, bins)
    precision: Floats = np.minimum(scaled, evaluated[:, None, :]).sum(axis=2)
    # Above 1 by rounding only.
    return precision.clip(0, 1), (precision / slopes).clip(0, 1)


def _thinned(rows: Floats, count: int, rng: np.random.Generator) -> Floats:
    return rows if len(rows) == count else rows[rng.choice(len(rows), count, replace=False)]


def _max_f_beta(precision: Floats, recall: Floats, *, beta: float) -> float:
    weighted = beta**2 * precision + recall
    scores = np.divide((1 + beta**2) * precision * recall, weighted, out=np.zeros_like(weighted), where=weighted > 0)
    return float(scores.max())


def _checked_shares(name: str, shares: ArrayLike) -> Floats:
    values = checked_numbers(name, shares).astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be (bins,), but has shape {values.shape}")
    if not (values >= 0).all() or abs(values.sum() - 1) > 1e-6:
        raise ValueError(f"{name} must hold shares of 0 or more that sum to 1")
    return values


def _checked_curve(precision: ArrayLike, recall: ArrayLike) -> tuple[Floats, Floats]:
    precision_values = checked_numbers("precision", precision).astype(np.float64)
    recall_values = checked_numbers("recall", recall).astype(np.float64)
    if precision_values.ndim != 1 or not len(precision_values) or recall_values.shape != precision_values.shape:
        shapes = f"{precision_values.shape} and {recall_values.shape}"
        raise ValueError(f"precision and recall must be (angles,) each, but have shapes {shapes}")
    for name, values in (("precision", precision_values), ("recall", recall_values)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must lie between 0 and 1")
    return precision_values, recall_values
