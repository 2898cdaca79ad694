"""Features and labels of two sets of patches -> the numbers that are reported of them. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesselgan.metrics import (
    DistanceSettings,
    Estimate,
    LabelStatistics,
    MemorisationAudit,
    distribution_scores,
    label_distances,
    mirrored,
    real_floor,
)
from vesselgan.metrics import memorisation_audit as audit
from vesselgan.metrics.frechet_infinite import FEWEST_GROUPS
from vesselgan.metrics.prd import prd_values

__all__ = [
    "BIASED_MORE",
    "FEWEST_SUBJECTS",
    "METRICS_OF",
    "Audits",
    "Distances",
    "audit_memory",
    "compare_features",
    "compare_labels",
    "floor_of",
    "load_label_statistics",
    "save_label_statistics",
    "standardised",
]

Features = NDArray[np.float64]
FEWEST_SUBJECTS = FEWEST_GROUPS
CLOSEST_PAIRS = 6
FLOOR_SPLITS = 5
FLAT = 1e-6  # a patch in [-1, 1] whose blocks' SD is below that is rounding and nothing else
# The metrics of each entry under `metrics` of a protocol.
METRICS_OF = {
    "fid": ("fid", "fid_infinite"),
    "kid": ("kid",),
    "prd": ("prd_f8", "prd_f1_8", "prd_auc"),
    "neighbours": ("precision", "recall", "density", "coverage"),
}
BIASED_MORE = "its FID is biased more"  # what is warned of where the floor has fewer patches than the scores
SWAPPED = {"prd_f8": "prd_f1_8", "prd_f1_8": "prd_f8"}


@dataclass(frozen=True, eq=False)
class Distances:
    """Metrics with their sampling intervals, SD over k-means runs, warnings, and the PRD curve of each run."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    sd_kmeans: dict[str, float]
    warnings: list[str]
    curves: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Audits:
    """Memorisation in feature space, and in image space with mirrored copies."""

    features: MemorisationAudit
    images: MemorisationAudit

    @property
    def metrics(self) -> dict[str, float]:
        """The shares of suspiciously close samples."""
        return {f"memorised_share/{space}": each.close_share for space, each in self.by_space.items()}

    @property
    def by_space(self) -> dict[str, MemorisationAudit]:
        """Both by name."""
        return {"features": self.features, "images": self.images}

    def described(self) -> dict[str, Any]:
        """For JSON, without the pairs."""
        return {
            space: {name: value for name, value in asdict(each).items() if name != "pairs"}
            for space, each in self.by_space.items()
        }


def compare_features(
    real: Features,
    generated: Features,
    wanted: Mapping[str, Any],
    *,
    real_subjects: ArrayLike | None,
    seed: int,
    swap_prd: bool = False,
) -> Distances:
    """The `wanted` metrics of a protocol between two sets of features, each with a jackknife interval over subjects.

    There are no intervals where the subjects are not known or fewer than FEWEST_SUBJECTS: patches of one subject are
    alike, and intervals over patches would be too narrow. `swap_prd` is D5: the two sets change places in PRD. Raises
    ValueError for too few rows, clusters or neighbours.
    """
    enough = real_subjects is not None and len(np.unique(real_subjects)) >= FEWEST_SUBJECTS
    scores = distribution_scores(
        real=real,
        generated=generated,
        real_subjects=real_subjects if enough else None,
        settings=_settings(wanted),
        seed=seed,
    )
    names = _names(wanted)
    estimates: dict[str, Estimate] = {name: scores.metrics[name] for name in names}
    sd_kmeans = {name: sd for name, sd in scores.sd_kmeans.items() if name in names}
    curves = {"precision": scores.prd_precision, "recall": scores.prd_recall} if wanted.get("prd") is not None else {}
    metrics = {name: estimate.value for name, estimate in estimates.items()}
    intervals = {name: (estimate.low, estimate.high) for name, estimate in estimates.items()} if enough else {}
    if swap_prd and curves:
        curves = {"precision": curves["recall"], "recall": curves["precision"]}
        intervals = {name: intervals[SWAPPED.get(name, name)] for name in intervals}
        sd_kmeans = {name: sd_kmeans[SWAPPED.get(name, name)] for name in sd_kmeans}
        metrics |= prd_values(curves["precision"].mean(axis=0), curves["recall"].mean(axis=0))
    # Without intervals there is nothing to warn of in them.
    warnings = [text for text in _of_wanted(scores.warnings, wanted) if enough or not text.startswith("intervals:")]
    return Distances(metrics, intervals, sd_kmeans, warnings, curves)


def floor_of(
    features: Features, subjects: ArrayLike, wanted: Mapping[str, Any], *, count: int, seed: int
) -> dict[str, Any]:
    """Real against real, other subjects: mean and SD of each wanted metric over splits of the subjects in halves."""
    floor = real_floor(features, subjects, splits=FLOOR_SPLITS, count=count, settings=_settings(wanted), seed=seed)
    names = _names(wanted)
    return {
        "metrics": {name: floor.metrics[name].mean for name in names},
        "sd": {name: floor.metrics[name].sd for name in names},
        "warnings": [*_of_wanted(floor.warnings, wanted), *_unequal(floor.count, count)],
        "meaning": f"one half of {floor.subjects} real subjects against the other half, {floor.count} patches each, "
        f"mean of {FLOOR_SPLITS} ways to halve them",
    }


def compare_labels(real: LabelStatistics, generated: LabelStatistics) -> tuple[dict[str, float], dict[str, Any]]:
    """Wasserstein-1 distances by metric name, and what is told beside them; undefined radii are left out."""
    distances = label_distances(real=real, generated=generated)
    metrics = {
        f"label_{name}": distance.wasserstein
        for name, distance in distances.items()
        if math.isfinite(distance.wasserstein)
    }
    means = {
        name: {"real": _finite(distance.real_mean), "generated": _finite(distance.generated_mean)}
        for name, distance in distances.items()
    }
    return metrics, {
        "vessel_share_synthetic": float(generated.volume_fraction.mean()),
        "vessel_share_real": float(real.volume_fraction.mean()),
        "means": means,
        "without_vessel": {"real": real.empty, "generated": generated.empty},
        "n": {"real": len(real.volume_fraction), "generated": len(generated.volume_fraction)},
    }


def audit_memory(*, training: Mapping[str, Any], held_out: Mapping[str, Any], generated: Mapping[str, Any]) -> Audits:
    """Both audits; each set has `features` (N, d) and `blocks` (N, x, y, z), the patches' block means.

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


def _names(wanted: Mapping[str, Any]) -> list[str]:
    return [name for entry, names in METRICS_OF.items() if wanted.get(entry) is not None for name in names]


def _of_wanted(warnings: Sequence[str], wanted: Mapping[str, Any]) -> list[str]:
    """Without those that speak of metrics which the protocol does not ask for."""
    unwanted = {name for names in METRICS_OF.values() for name in names} - set(_names(wanted))
    if wanted.get("prd") is None:
        unwanted.add("prd")
    return [text for text in warnings if not set(text.partition(":")[0].split(", ")) <= unwanted]


def _unequal(floor: int, count: int) -> list[str]:
    if floor >= count:
        return []
    return [f"the floor has {floor} patches a side and the scores {count}: {BIASED_MORE}; fid_infinite and kid not"]


def _settings(wanted: Mapping[str, Any]) -> DistanceSettings:
    """Clusters, runs and neighbours as the protocol has them; the least for what it does not ask for."""
    prd, neighbours = wanted.get("prd"), wanted.get("neighbours")
    return DistanceSettings(
        **({"clusters": 2, "runs": 1} if prd is None else prd), **({"k": 1} if neighbours is None else neighbours)
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
