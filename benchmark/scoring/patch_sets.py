"""Features and labels of two sets of patches -> the numbers that are reported of them. Imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.artifacts.values import LabelMeans, MemorisationValues, VesselLabels, finite
from benchmark.metrics.asking import Chosen, Wanted, chosen, values_of
from benchmark.metrics.given import Audits, LabelPair
from benchmark.metrics.prd import with_sets_swapped
from benchmark.metrics.registry import OwnFeatures
from vesselgan.metrics import Estimate, FeatureSets, LabelStatistics, MemorisationAudit, SetScores, mirrored
from vesselgan.metrics import memorisation_audit as audit
from vesselgan.metrics.distributions import floor_between
from vesselgan.metrics.feature_sets import feature_sets, halved_subjects, without_interval
from vesselgan.metrics.frechet_infinite import FEWEST_GROUPS

__all__ = [
    "BIASED_MORE",
    "FEWEST_SUBJECTS",
    "FLOOR_ROWS",
    "AuditValues",
    "Described",
    "Distances",
    "audit_memory",
    "audit_values",
    "compare_features",
    "compare_labels",
    "distances_between",
    "floor_between_halves",
    "floor_of",
    "load_label_statistics",
    "save_label_statistics",
    "standardised",
]

Features = NDArray[np.float64]
FEWEST_SUBJECTS = FEWEST_GROUPS
CLOSEST_PAIRS = 6
FLOOR_SPLITS = 5
FLOOR_ROWS = 2.2  # real patches that are read for the floor, per patch of the scores: random halves are not equal
FLAT = 1e-6  # a patch in [-1, 1] whose blocks' SD is below that is rounding and nothing else
BIASED_MORE = "its FID is biased more"  # what is warned of where the floor has fewer patches than the scores
PRD = "prd"


@dataclass(frozen=True, eq=False)
class Distances:
    """Metrics with their sampling intervals, SD over k-means runs, warnings, and the PRD curve of each run."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    sd_kmeans: dict[str, float]
    warnings: list[str]
    curves: dict[str, NDArray[np.float64]]

    def and_also(self, other: "Distances") -> "Distances":
        """Both together; what is told of a name by both is the other's."""
        return Distances(
            self.metrics | other.metrics,
            self.intervals | other.intervals,
            self.sd_kmeans | other.sd_kmeans,
            [*self.warnings, *(text for text in other.warnings if text not in self.warnings)],
            self.curves | other.curves,
        )


class Described(TypedDict):
    """A set of patches as an audit sees it: features (N, d), and block means (N, x, y, z)."""

    features: Features
    blocks: Features


class Floor(TypedDict):
    """Real patches against real ones: each metric, its SD over ways to halve the subjects, and what was done."""

    metrics: dict[str, float]
    sd: dict[str, float]
    warnings: list[str]
    meaning: str


class AuditValues(TypedDict):
    """What both audits found, by the space in which they looked."""

    features: MemorisationValues
    images: MemorisationValues


class ComparedLabels(VesselLabels):
    """What is told of vessel labels beside their distances; counts by side, `real` and `generated`."""

    without_vessel: dict[str, int]
    n: dict[str, int]


def compare_features(
    real: Features,
    generated: Features,
    wanted: Wanted,
    *,
    real_subjects: ArrayLike | None,
    seed: int,
    swap_prd: bool = False,
) -> Distances:
    """The `wanted` metrics of a stage's options between two sets of features, each with a jackknife interval.

    Those of features of their own are not among them, see `own_features`. The intervals are over subjects.
    There are no intervals where the subjects are not known or fewer than FEWEST_SUBJECTS: patches of one subject are
    alike, and intervals over patches would be too narrow. `swap_prd` is D5: the two sets change places in PRD. Raises
    ValueError for too few rows, clusters or neighbours.
    """
    return distances_between(
        real, generated, _of_the_network(wanted), real_subjects=real_subjects, seed=seed, swap_prd=swap_prd
    )


def distances_between(
    real: Features,
    generated: Features,
    metrics: Sequence[Chosen],
    *,
    real_subjects: ArrayLike | None,
    seed: int,
    swap_prd: bool = False,
) -> Distances:
    """What `compare_features` does, of these metrics."""
    enough = real_subjects is not None and len(np.unique(real_subjects)) >= FEWEST_SUBJECTS
    sets = feature_sets(real=real, generated=generated, real_subjects=real_subjects if enough else None, seed=seed)
    scores = {each.measurement.name: _scores(each, sets) for each in metrics}
    if swap_prd and PRD in scores:
        scores[PRD] = with_sets_swapped(scores[PRD])
    estimates = {name: estimate for each in scores.values() for name, estimate in each.estimates.items()}
    warnings = [*(text for each in scores.values() for text in each.warnings), *sets.warnings]
    told = {name: estimate for name, estimate in estimates.items() if enough and not math.isnan(estimate.low)}
    return Distances(
        {name: estimate.value for name, estimate in estimates.items()},
        {name: (estimate.low, estimate.high) for name, estimate in told.items()},
        {name: sd for each in scores.values() for name, sd in each.sd_kmeans.items()},
        # Without intervals there is nothing to warn of in them.
        [text for text in warnings if enough or not text.startswith("intervals:")],
        dict(scores[PRD].curves) if PRD in scores else {},
    )


def floor_of(features: Features, subjects: ArrayLike, wanted: Wanted, *, count: int, seed: int) -> Floor:
    """Real against real, other subjects: mean and SD of each wanted metric over splits of the subjects in halves.

    Those of features of their own are not among them.
    """
    return floor_between_halves(features, subjects, _of_the_network(wanted), count=count, seed=seed)


def floor_between_halves(
    features: Features, subjects: ArrayLike, metrics: Sequence[Chosen], *, count: int, seed: int
) -> Floor:
    """What `floor_of` does, of these metrics."""
    halves = halved_subjects(features, subjects, splits=FLOOR_SPLITS, count=count, seed=seed)
    floor = floor_between(halves, lambda split: [_scores(each, split) for each in metrics], subjects)
    return {
        "metrics": {name: value.mean for name, value in floor.metrics.items()},
        "sd": {name: value.sd for name, value in floor.metrics.items()},
        "warnings": [*floor.warnings, *_unequal(floor.count, count)],
        "meaning": f"one half of {floor.subjects} real subjects against the other half, {floor.count} patches each, "
        f"mean of {FLOOR_SPLITS} ways to halve them",
    }


def _of_the_network(wanted: Wanted) -> list[Chosen]:
    return [each for each in chosen("set", wanted) if not isinstance(each.options, OwnFeatures)]


def _scores(metric: Chosen, sets: FeatureSets) -> SetScores:
    """What a function of feature sets found, whichever way it told it, with intervals within the metrics' limits."""
    found = metric.call(sets)
    scores = found if isinstance(found, SetScores) else SetScores(metric.by_key(found))
    limits = {row.key: row.limits for row in metric.measurement.metrics}
    estimates = {}
    for name, estimate in metric.by_key(scores.estimates).items():
        if not isinstance(estimate, Estimate):
            estimate = without_interval(float(estimate), sets.level)
        if not math.isfinite(estimate.value):
            raise ValueError(f"metric {name}: is {estimate.value}; a function returns None where there is no value")
        lowest, highest = limits[name]
        estimates[name] = replace(estimate, low=max(estimate.low, lowest), high=min(estimate.high, highest))
    return replace(scores, estimates=estimates)


def compare_labels(
    real: LabelStatistics, generated: LabelStatistics, wanted: Wanted
) -> tuple[dict[str, float], ComparedLabels]:
    """Distances by metric name, and what is told beside them; undefined radii are left out."""
    labels = LabelPair(real, generated)
    means: dict[str, LabelMeans] = {
        name: {"real": finite(distance.real_mean), "generated": finite(distance.generated_mean)}
        for name, distance in labels.distances.items()
    }
    return values_of("labels", labels, wanted), {
        "vessel_share_synthetic": float(generated.volume_fraction.mean()),
        "vessel_share_real": float(real.volume_fraction.mean()),
        "means": means,
        "without_vessel": {"real": real.empty, "generated": generated.empty},
        "n": {"real": len(real.volume_fraction), "generated": len(generated.volume_fraction)},
    }


def audit_memory(*, training: Described, held_out: Described, generated: Described) -> Audits:
    """Both audits.

    In image space each patch has mean 0 and SD 1 first. Raises SharedSamplesError where held-out patches are training
    patches.
    """
    images = {
        name: standardised(each["blocks"])
        for name, each in (("training", training), ("held_out", held_out), ("generated", generated))
    }
    return Audits(
        audit(
            training=training["features"],
            held_out=held_out["features"],
            generated=generated["features"],
            pairs=CLOSEST_PAIRS,
        ),
        audit(
            training=images["training"].reshape(len(images["training"]), -1),
            held_out=mirrored(images["held_out"]),
            generated=mirrored(images["generated"]),
            pairs=CLOSEST_PAIRS,
        ),
    )


def audit_values(audits: Audits) -> AuditValues:
    """For JSON, without the pairs; `shared` only where there is such a sample."""
    return {"features": _audit_value(audits.features), "images": _audit_value(audits.images)}


def _audit_value(audit: MemorisationAudit) -> MemorisationValues:
    told = {name: value for name, value in asdict(audit).items() if name not in ("pairs", "shared")}
    return cast(MemorisationValues, told | ({"shared": audit.shared} if audit.shared else {}))


def standardised(blocks: Features) -> Features:
    """Each patch with mean 0 and SD 1: a copy stays a copy where its set has another range of intensities."""
    centred = blocks - blocks.mean(axis=(1, 2, 3), keepdims=True)
    spread = centred.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(centred / np.where(spread > FLAT, spread, 1))


def save_label_statistics(path: Path, statistics: LabelStatistics) -> None:
    """As npz, for a comparison by another stage."""
    np.savez(path, allow_pickle=False, **asdict(statistics))


def load_label_statistics(path: Path) -> LabelStatistics:
    """What `save_label_statistics` wrote."""
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return LabelStatistics(**{**values, "empty": int(values["empty"])})


def _unequal(floor: int, count: int) -> list[str]:
    if floor >= count:
        return []
    return [f"the floor has {floor} patches a side and the scores {count}: {BIASED_MORE}; fid_infinite and kid not"]
