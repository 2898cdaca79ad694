"""Every distance between two sets of features at once, with intervals; and its floor, real against real by subject."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.estimates import Estimate, jackknife
from vesselgan.metrics.frechet_infinite import (
    FEWEST_GROUPS,
    FOLDS,
    frechet_leave_outs,
    paired_parts,
    random_halvings,
    whole_and_extrapolated,
)
from vesselgan.metrics.inputs import (
    Floats,
    Parts,
    check_count,
    check_level,
    checked_feature_pair,
    checked_features,
    checked_groups,
)
from vesselgan.metrics.kernel import kernel_distance, kernel_leave_outs
from vesselgan.metrics.neighbours import neighbour_leave_outs, precision_recall_density_coverage
from vesselgan.metrics.prd import prd_curve, prd_leave_outs, prd_values

__all__ = ["DistanceSettings", "DistributionScores", "FloorValue", "RealFloor", "distribution_scores", "real_floor"]

# Below these a number says little, and a warning says so.
_FEWEST_SUBJECTS = 10
_ROWS_PER_CLUSTER = 10
_ROWS_PER_NEIGHBOUR = 20

_AT_MOST_ONE = {"prd_f8", "prd_f1_8", "prd_auc", "precision", "recall", "coverage"}
_MAY_BE_NEGATIVE = {"fid_infinite", "kid"}


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
    level: float = 0.95,
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
    real_rows, generated_rows = checked_feature_pair(real, generated)
    check_level(level)
    members = (
        checked_groups("real_subjects", real_subjects, len(real_rows)),
        checked_groups("generated_subjects", generated_subjects, len(generated_rows)),
    )
    count = min(len(real_rows), len(generated_rows))
    _check_settings(count, settings)
    rng = np.random.default_rng(seed)
    parts = paired_parts(members, folds, rng)

    chosen = tuple(_drawn(len(rows), count, rng) for rows in (real_rows, generated_rows))
    equal_real, equal_generated = real_rows[chosen[0]], generated_rows[chosen[1]]
    equal_parts = parts[0][chosen[0]], parts[1][chosen[1]]
    fewest_left = count - max(int(np.bincount(side).max()) for side in equal_parts)
    check_count("k", settings.k, at_least=1, at_most=fewest_left - 1)

    metrics = {}
    halvings = random_halvings(members, rng)
    values, left = frechet_leave_outs(real_rows, generated_rows, parts, halvings)
    metrics["fid_infinite"] = _estimate("fid_infinite", values[1], left[:, 1], level)
    if len(real_rows) != len(generated_rows):
        values, left = frechet_leave_outs(equal_real, equal_generated, equal_parts, [])
    metrics["fid"] = _estimate("fid", values[0], left[:, 0], level)
    metrics["kid"] = _estimate("kid", *kernel_leave_outs(real_rows, generated_rows, parts), level)
    curves, left_curves = prd_leave_outs(
        equal_real, equal_generated, equal_parts, clusters=settings.clusters, runs=settings.runs, rng=rng
    )
    prd = prd_values(curves[0].mean(axis=0), curves[1].mean(axis=0))
    left_prd = [prd_values(*curve) for curve in left_curves]
    neighbours, left_neighbours = neighbour_leave_outs(equal_real, equal_generated, equal_parts, k=settings.k)
    for whole, left_values in ((prd, left_prd), (neighbours, left_neighbours)):
        for name, value in whole.items():
            metrics[name] = _estimate(name, value, np.array([values[name] for values in left_values]), level)

    per_run = [prd_values(*curve) for curve in zip(*curves, strict=True)]
    return DistributionScores(
        metrics=metrics,
        sd_kmeans={
            name: float(np.std([run[name] for run in per_run], ddof=1)) if settings.runs > 1 else 0.0 for name in prd
        },
        prd_precision=curves[0],
        prd_recall=curves[1],
        real_count=len(real_rows),
        generated_count=len(generated_rows),
        count=count,
        warnings=(
            *_count_warnings(count, real_rows.shape[1], settings),
            *_thinning_warnings(len(real_rows), len(generated_rows)),
            *_subject_warnings(members, (real_subjects is not None, generated_subjects is not None)),
        ),
    )


@dataclass(frozen=True, slots=True)
class FloorValue:
    """One metric between halves of the real subjects: mean and SD over the splits, and the value of each split."""

    mean: float
    sd: float
    values: tuple[float, ...]


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
    rows = checked_features("features", features)
    members = checked_groups("subjects", subjects, len(rows))
    subject_count = int(members.max()) + 1
    if subject_count < FEWEST_GROUPS:
        needed = f"at least {FEWEST_GROUPS} (halves of halves are drawn)"
        raise ValueError(f"subjects must be {needed}, but are {subject_count}")
    check_count("splits", splits, at_least=1)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    smallest = len(rows)
    for _ in range(splits):
        half = rng.permutation(subject_count)[members] < subject_count // 2
        sides = np.flatnonzero(half), np.flatnonzero(~half)
        size = min(len(sides[0]), len(sides[1]), *([] if count is None else [count]))
        _check_settings(size, settings)
        first, second = (side[_drawn(len(side), size, rng)] for side in sides)
        halvings = random_halvings((_compact(members[first]), _compact(members[second])), rng)
        whole, extrapolated = whole_and_extrapolated(rows[first], rows[second], halvings)
        curve = prd_curve(
            real=rows[first],
            generated=rows[second],
            clusters=settings.clusters,
            runs=settings.runs,
            seed=int(rng.integers(2**32)),
        )
        values = {
            "fid": float(whole),
            "fid_infinite": float(extrapolated),
            "kid": kernel_distance(real=rows[first], generated=rows[second]),
            **prd_values(*curve),
            **precision_recall_density_coverage(real=rows[first], generated=rows[second], k=settings.k),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
        smallest = min(smallest, size)
    return RealFloor(
        metrics={
            name: FloorValue(
                float(np.mean(values)), float(np.std(values, ddof=1)) if splits > 1 else 0.0, tuple(values)
            )
            for name, values in found.items()
        },
        count=smallest,
        subjects=subject_count,
        warnings=_count_warnings(smallest, rows.shape[1], settings),
    )


def _estimate(name: str, value: float, leave_outs: Floats, level: float) -> Estimate:
    lowest = -np.inf if name in _MAY_BE_NEGATIVE else 0.0
    return jackknife(value, leave_outs, level=level, lowest=lowest, highest=1.0 if name in _AT_MOST_ONE else np.inf)


def _drawn(size: int, count: int, rng: np.random.Generator) -> Parts:
    """Sorted positions of `count` rows of `size`, drawn at random where fewer are wanted than there are."""
    drawn: Parts = np.arange(size) if count >= size else np.sort(rng.choice(size, count, replace=False))
    return drawn


def _compact(members: Parts) -> Parts:
    """Groups numbered from 0 without gaps."""
    return checked_groups("subjects", members, len(members))


def _check_settings(count: int, settings: DistanceSettings) -> None:
    check_count("clusters", settings.clusters, at_least=1, at_most=2 * count)
    check_count("runs", settings.runs, at_least=1)
    check_count("k", settings.k, at_least=1, at_most=count - 1)


def _count_warnings(count: int, width: int, settings: DistanceSettings) -> tuple[str, ...]:
    clusters, k, found = settings.clusters, settings.k, []
    if count <= width:
        found.append(f"fid: {count} samples for {width} features: strongly biased upward")
    if count // 2 <= width:
        found.append(f"fid_infinite: halves of {count // 2} samples for {width} features: bias may remain")
    if count < _ROWS_PER_CLUSTER * clusters:
        found.append(f"prd: {count} samples for {clusters} clusters: fewer than {_ROWS_PER_CLUSTER} each")
    if count < _ROWS_PER_NEIGHBOUR * k:
        found.append(f"precision, recall, density, coverage: {count} samples are few for neighbourhoods of {k}")
    return tuple(found)


def _thinning_warnings(real_count: int, generated_count: int) -> tuple[str, ...]:
    if real_count == generated_count:
        return ()
    larger, name = max((real_count, "real"), (generated_count, "generated"))
    smaller = min(real_count, generated_count)
    return (f"{name} was thinned from {larger} to {smaller} samples, but for kid and fid_infinite",)


def _subject_warnings(members: tuple[Parts, Parts], given: tuple[bool, bool]) -> tuple[str, ...]:
    found = []
    for name, groups, known in zip(("real", "generated"), members, given, strict=True):
        count = int(groups.max()) + 1
        if known and count < _FEWEST_SUBJECTS:
            found.append(f"intervals: {name} has {count} subjects, fewer than {_FEWEST_SUBJECTS}")
    if not given[0]:
        found.append("intervals: real_subjects are not known, so every real sample counts as independent")
    return tuple(found)
