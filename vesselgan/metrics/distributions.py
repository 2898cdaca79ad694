"""Every distance between two sets of features at once, with intervals; and its floor, real against real by subject."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.estimates import CONFIDENCE, Estimate, jackknife
from vesselgan.metrics.feature_sets import FeatureSets, SetScores, feature_sets, halved_subjects, without_interval
from vesselgan.metrics.frechet_infinite import FOLDS, frechet_leave_outs, whole_and_extrapolated
from vesselgan.metrics.inputs import Floats, as_array, check_count
from vesselgan.metrics.kernel import kernel_distance, kernel_leave_outs
from vesselgan.metrics.neighbours import neighbour_leave_outs, precision_recall_density_coverage
from vesselgan.metrics.prd import prd_leave_outs, prd_values

__all__ = [
    "DistanceSettings",
    "DistributionScores",
    "FloorValue",
    "RealFloor",
    "distribution_scores",
    "floor_between",
    "frechet_scores",
    "kernel_scores",
    "neighbour_scores",
    "prd_scores",
    "real_floor",
]

# Below these a number says little, and a warning says so.
_ROWS_PER_CLUSTER = 10
_ROWS_PER_NEIGHBOUR = 20


@dataclass(frozen=True, slots=True)
class DistanceSettings:
    """Options of single distances: PRD's k-means (clusters, runs), and k of the nearest-neighbour metrics."""

    clusters: int = 20
    runs: int = 10
    k: int = 5


_USUAL = DistanceSettings()


@dataclass(frozen=True, slots=True, eq=False)
class DistributionScores:
    """What `distribution_scores` finds.

    metrics: name -> Estimate. sd_kmeans: SD of the PRD metrics over k-means runs, beside the sampling error in metrics.
    prd_precision, prd_recall: (runs, angles) curves. real_count, generated_count: rows given; count: rows of each set
    that entered the metrics that need equal numbers. warnings: one line each on what the numbers cannot bear.
    """

    metrics: dict[str, Estimate]
    sd_kmeans: dict[str, float]
    prd_precision: Floats
    prd_recall: Floats
    real_count: int
    generated_count: int
    count: int
    warnings: tuple[str, ...]


def distribution_scores(
    *,
    real: ArrayLike,
    generated: ArrayLike,
    real_subjects: ArrayLike | None = None,
    generated_subjects: ArrayLike | None = None,
    settings: DistanceSettings = _USUAL,
    folds: int = FOLDS,
    level: float = CONFIDENCE,
    seed: int = 0,
) -> DistributionScores:
    """Every distance between the two sets, each with a jackknife interval over subjects.

    Names: fid (`frechet_distance`), fid_infinite (`frechet_distance_infinite`), kid (`kernel_distance`), prd_f8,
    prd_f1_8, prd_auc (`max_f_beta_pair` and `prd_area` of `prd_curve`), and precision, recall, density, coverage
    (`precision_recall_density_coverage`). fid_infinite and kid, which correct for the counts, take all rows; for the
    others the larger set is thinned at random to the size of the smaller. The interval of fid is for the distance at
    that count, bias included: compare it at equal counts only.

    real is (N, d), generated (M, d), computed in float64; subjects are (N,) and (M,) names of any kind, each row its
    own where none are given. The intervals leave out whole subjects, in at most `folds` parts; they hold the k-means
    clusters fixed (sd_kmeans has their spread). Fixed by the seed.
    No Python warning is given: what the counts cannot bear stands in the result. Empty case: fewer than 8 rows or
    subjects in a set are an error, and so are more neighbours or clusters than the rows allow.
    """
    sets = feature_sets(
        real=real,
        generated=generated,
        real_subjects=real_subjects,
        generated_subjects=generated_subjects,
        folds=folds,
        level=level,
        seed=seed,
    )
    _check_settings(sets, settings)
    scores = _every(sets, settings)
    metrics = {name: estimate for each in scores for name, estimate in each.estimates.items()}
    (prd,) = (each for each in scores if each.curves)
    return DistributionScores(
        metrics=metrics,
        sd_kmeans=dict(prd.sd_kmeans),
        prd_precision=prd.curves["precision"],
        prd_recall=prd.curves["recall"],
        real_count=len(sets.real),
        generated_count=len(sets.generated),
        count=sets.count,
        warnings=(*(text for each in scores for text in each.warnings), *sets.warnings),
    )


def frechet_scores(sets: FeatureSets) -> SetScores:
    """fid (`frechet_distance`, of equal counts) and fid_infinite (`frechet_distance_infinite`, of all rows)."""
    equal = sets.equal
    whole, extrapolated = _frechet(sets)
    if equal is not sets:
        whole, _ = _frechet(equal)
    count, width = sets.count, sets.real.shape[1]
    warnings = []
    if count <= width:
        warnings.append(f"fid: {count} samples for {width} features: strongly biased upward")
    if count // 2 <= width:
        warnings.append(f"fid_infinite: halves of {count // 2} samples for {width} features: bias may remain")
    return SetScores({"fid": whole, "fid_infinite": extrapolated}, tuple(warnings))


def _frechet(sets: FeatureSets) -> tuple[Estimate, Estimate]:
    if sets.parts is None:
        values = whole_and_extrapolated(sets.real, sets.generated, sets.halvings)
        return without_interval(float(values[0]), sets.level), without_interval(float(values[1]), sets.level)
    values, left = frechet_leave_outs(sets.real, sets.generated, sets.parts, sets.halvings)
    return (
        jackknife(values[0], left[:, 0], level=sets.level, lowest=0.0),
        jackknife(values[1], left[:, 1], level=sets.level),
    )


def kernel_scores(sets: FeatureSets) -> SetScores:
    """kid (`kernel_distance`), of all rows."""
    if sets.parts is None:
        value = kernel_distance(real=sets.real, generated=sets.generated)
        return SetScores({"kid": without_interval(value, sets.level)})
    return SetScores({"kid": jackknife(*kernel_leave_outs(sets.real, sets.generated, sets.parts), level=sets.level)})


def prd_scores(sets: FeatureSets, *, clusters: int, runs: int) -> SetScores:
    """prd_f8, prd_f1_8, prd_auc (`max_f_beta_pair` and `prd_area` of `prd_curve`), of equal counts, with the curves."""
    equal, count = sets.equal, sets.count
    _check_clusters(count, clusters, runs)
    curves, left = prd_leave_outs(
        equal.real, equal.generated, equal.parts, clusters=clusters, runs=runs, rng=sets.clustering
    )
    values = prd_values(curves[0].mean(axis=0), curves[1].mean(axis=0))
    per_run = [prd_values(*curve) for curve in zip(*curves, strict=True)]
    few = count < _ROWS_PER_CLUSTER * clusters
    return SetScores(
        _estimates(values, [prd_values(*curve) for curve in left], sets.level, at_most_one=set(values)),
        (f"prd: {count} samples for {clusters} clusters: fewer than {_ROWS_PER_CLUSTER} each",) if few else (),
        {name: float(np.std([run[name] for run in per_run], ddof=1)) if runs > 1 else 0.0 for name in values},
        {"precision": curves[0], "recall": curves[1]},
    )


def neighbour_scores(sets: FeatureSets, *, k: int) -> SetScores:
    """precision, recall, density and coverage (`precision_recall_density_coverage`), of equal counts."""
    equal, count = sets.equal, sets.count
    _check_neighbours(equal, k)
    left: list[dict[str, float]] = []
    if equal.parts is None:
        values = precision_recall_density_coverage(real=equal.real, generated=equal.generated, k=k)
    else:
        values, left = neighbour_leave_outs(equal.real, equal.generated, equal.parts, k=k)
    few = count < _ROWS_PER_NEIGHBOUR * k
    return SetScores(
        _estimates(values, left, sets.level, at_most_one={"precision", "recall", "coverage"}),
        (f"precision, recall, density, coverage: {count} samples are few for neighbourhoods of {k}",) if few else (),
    )


@dataclass(frozen=True, slots=True)
class FloorValue:
    """One metric between halves of the real subjects: mean and SD over the splits, and the value of each split."""

    mean: float
    sd: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "FloorValue":
        """Of one value per split; the SD of a single one is 0."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), sd, tuple(values))


@dataclass(frozen=True, slots=True)
class RealFloor:
    """What `real_floor` finds: name -> FloorValue, rows per half (the smallest over the splits), subjects, warnings."""

    metrics: dict[str, FloorValue]
    count: int
    subjects: int
    warnings: tuple[str, ...]


def real_floor(
    features: ArrayLike,
    subjects: ArrayLike,
    *,
    splits: int = 10,
    count: int | None = None,
    settings: DistanceSettings = _USUAL,
    seed: int = 0,
) -> RealFloor:
    """The distances of `distribution_scores` between one half of the real subjects and the other, over several splits.

    What a perfect generator would score: no subject is in both halves. (Random patches of the same subjects would give
    far lower a floor, which no generator can reach.) Metrics that depend on the number of rows are comparable with a
    score at the same number only: give it as `count`, and larger halves are thinned to it.

    features is (N, d), computed in float64; subjects (N,) names of any kind, 8 or more of them. The splits share their
    data, so sd is the spread over splits and no standard error. Fixed by the seed.
    """

    def measure(halves: FeatureSets) -> Sequence[SetScores]:
        _check_settings(halves, settings)
        return _every(halves, settings)

    halves = halved_subjects(features, subjects, splits=splits, count=count, seed=seed)
    return floor_between(halves, measure, subjects)


def floor_between(
    halves: Iterable[FeatureSets], measure: Callable[[FeatureSets], Iterable[SetScores]], subjects: ArrayLike
) -> RealFloor:
    """What `measure` finds between the halves that `halved_subjects` made of these subjects."""
    found: dict[str, list[float]] = {}
    warnings: dict[int, tuple[str, ...]] = {}  # by rows per half, on which alone they depend
    for split in halves:
        scores = list(measure(split))
        for name, estimate in ((name, each) for score in scores for name, each in score.estimates.items()):
            found.setdefault(name, []).append(estimate.value)
        warnings[split.count] = tuple(text for score in scores for text in score.warnings)
    smallest = min(warnings)
    return RealFloor(
        {name: FloorValue.of(values) for name, values in found.items()},
        count=smallest,
        subjects=len(np.unique(as_array(subjects))),
        warnings=warnings[smallest],
    )


def _every(sets: FeatureSets, settings: DistanceSettings) -> list[SetScores]:
    return [
        frechet_scores(sets),
        kernel_scores(sets),
        prd_scores(sets, clusters=settings.clusters, runs=settings.runs),
        neighbour_scores(sets, k=settings.k),
    ]


def _estimates(
    values: dict[str, float], left: Sequence[dict[str, float]], level: float, *, at_most_one: set[str]
) -> dict[str, Estimate]:
    """Each value with its interval, from what it is without each part in turn; without any, none."""
    return {
        name: jackknife(
            value,
            np.array([each[name] for each in left]),
            level=level,
            lowest=0.0,
            highest=1.0 if name in at_most_one else np.inf,
        )
        if left
        else without_interval(value, level)
        for name, value in values.items()
    }


def _check_settings(sets: FeatureSets, settings: DistanceSettings) -> None:
    """Before anything is computed."""
    _check_clusters(sets.count, settings.clusters, settings.runs)
    _check_neighbours(sets.equal, settings.k)


def _check_clusters(count: int, clusters: int, runs: int) -> None:
    check_count("clusters", clusters, at_least=1, at_most=2 * count)
    check_count("runs", runs, at_least=1)


def _check_neighbours(equal: FeatureSets, k: int) -> None:
    """As many neighbours as there are without any of the parts."""
    most = 0 if equal.parts is None else max(int(np.bincount(side).max()) for side in equal.parts)
    check_count("k", k, at_least=1, at_most=equal.count - most - 1)
