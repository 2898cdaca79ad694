"""Two folders of patches -> every distance between them, their labels' and a memorisation audit, as results.json."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from benchmark import __version__
from benchmark.environment import environment
from benchmark.metrics.asking import Wanted, default_options, values_of
from benchmark.metrics.given import Audits
from benchmark.metrics.registry import names
from benchmark.scoring.conventions import metric_options, patch_conventions
from benchmark.scoring.folder_results import FolderFloor, FolderLabels, FolderMemorisation, FolderMetric, ScoreResults
from benchmark.scoring.given_folders import BATCH, channel_warnings, opened, rows_that_count, shared
from benchmark.scoring.nearly_empty import LeftOut, left_out_warnings
from benchmark.scoring.own_features import OwnMetric, OwnRows, own_metrics, with_floor
from benchmark.scoring.patch_sets import (
    FEWEST_SUBJECTS,
    FLOOR_ROWS,
    Described,
    Distances,
    Floor,
    audit_memory,
    audit_values,
    compare_features,
    compare_labels,
    floor_of,
)
from vesselgan.data.patch_folder import PatchFolder
from vesselgan.errors import InputError
from vesselgan.features import Extractor
from vesselgan.metrics import SharedSamplesError, block_means, label_statistics
from vesselgan.recipe import FEWEST_INSIDE

__all__ = ["Also", "Comparison", "ShownPair", "compare_folders"]

Images = NDArray[np.float32]
Report = Callable[[str, int, int], None]
SHOWN = 8
NO_SUBJECTS = (
    f"the real folder does not tell the patches of {FEWEST_SUBJECTS} or more subjects apart, and patches of one "
    "subject are alike: put each subject's in a folder of its own"
)
NO_TRAINING = "the patches that the generator learned from were not given (--training DIR)"


@dataclass(frozen=True)
class Also:
    """Metrics of features of their own, and the size of a voxel (X, Y, Z) in mm where the files do not say it."""

    metrics: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class ShownPair:
    """Projections of one patch, and of its label if it has one."""

    image: Images  # (X, Y) in [-1, 1]
    label: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Comparison:
    """The content of results.json, and what the page shows beside it."""

    results: ScoreResults
    distances: Distances
    real: tuple[ShownPair, ...]
    generated: tuple[ShownPair, ...]
    closest: tuple[tuple[ShownPair, ShownPair, float], ...]  # generated, training (mirrored as found), distance


@dataclass(frozen=True, eq=False)
class _Described:
    """A folder's patches as the metrics see them."""

    features: NDArray[np.float64]
    blocks: NDArray[np.float64]
    rows: NDArray[np.intp]  # of the folder
    shown: tuple[ShownPair, ...]


class MetricFacts(TypedDict):
    """How many patches a metric compares, and by which features."""

    n: int
    extractor: NotRequired[str]


def compare_folders(
    real: Path,
    generated: Path,
    training: Path | None,
    extractor: Extractor,
    report: Report,
    seed: int = 0,
    *,
    also: Also | None = None,
    nan: float | None = None,
) -> Comparison:
    """Compare as many generated as real patches, drawn at random from the larger folder; all are checked first.

    NaN in an image becomes `nan`, where a background was cut out; None refuses it. `report` is told what is being done,
    how much of it, and of how much. Raises InputError, with one line per bad file, also for folders of different patch
    sizes and for fewer patches than the metrics need.
    """
    options = {"--real": real, "--generated": generated} | ({"--training": training} if training else {})
    metrics = default_options("set", "labels", "audit", also=also.metrics if also else ())
    own = own_metrics(metrics)
    folders = opened(options, report, nan)
    spacings = _spacings(folders, also) if also else {}
    rows = rows_that_count(folders, report)
    left_out = {
        option.removeprefix("--"): LeftOut(folder.count - len(rows[option]), folder.count)
        for option, folder in folders.items()
    }
    count = min(len(rows["--real"]), len(rows["--generated"]))
    owners = folders["--real"].subjects
    # The floor halves the real subjects, and each half should have as many patches as the scores.
    for_floor = count if owners is None else min(len(rows["--real"]), math.ceil(FLOOR_ROWS * count))
    counts = {"--real": for_floor, "--generated": count}
    described = {
        option: _describe(extractor, folder, _drawn(rows[option], counts.get(option, folder.count), seed), report)
        for option, folder in folders.items()
    }
    all_real, theirs = described["--real"], described["--generated"]
    ours = described["--real"] = _only(all_real, _drawn(rows["--real"], count, seed))
    subjects = None if owners is None else np.array(owners)[ours.rows]
    distances = compare_features(ours.features, theirs.features, metrics, real_subjects=subjects, seed=seed)
    floor = None
    if owners is not None and subjects is not None and len(np.unique(subjects)) >= FEWEST_SUBJECTS:
        floor = floor_of(all_real.features, np.array(owners)[all_real.rows], metrics, count=count, seed=seed)
    own_facts: dict[str, MetricFacts] = {}
    for metric in own:
        found, value_of_floor, facts = _own(metric, folders, rows, spacings, seed, report)
        distances, own_facts = distances.and_also(found), own_facts | facts
        floor = floor and with_floor(floor, value_of_floor)
    label_metrics, labels = _labels(folders, described, metrics, report)
    audits = _audits(folders, described) if training else None
    shares = values_of("audit", audits, metrics) if audits else {}
    common: MetricFacts = {"n": count, "extractor": extractor.name}
    results: ScoreResults = {
        "command": "score",
        "real": str(real),
        "generated": str(generated),
        "training": str(training) if training else None,
        "n": count,
        "patches": {option.removeprefix("--"): folder.count for option, folder in folders.items()},
        "nearly_empty": {
            "voxels_needed": FEWEST_INSIDE,
            "left_out": {name: left.count for name, left in left_out.items()},
        },
        "further_channels": {option.removeprefix("--"): len(each.further_channels) for option, each in folders.items()},
        "conventions": {
            "metrics": metric_options(metrics),
            "patches": patch_conventions(getattr(extractor, "noise", "none"), nan),
        },
        "patch_size": list(folders["--real"].shape),
        "intensity_ranges": {
            option.removeprefix("--"): list(folder.intensity_range) for option, folder in folders.items()
        },
        "extractor": {
            "name": extractor.name,
            "version": extractor.version,
            "weights_sha256": extractor.weights_sha256,
            "noise": getattr(extractor, "noise", None),  # D9
            "same_network_as_paper": extractor.name == "medicalnet",
        },
        "version": __version__,
        "environment": environment("cpu"),
        "metrics": {
            **_distance_entries(distances, common, own_facts),
            **_entries(
                names("labels"), label_metrics, {"n": count}, labels.get("reason", "a folder has no vessel at all")
            ),
            **_entries(names("audit"), shares, common, NO_TRAINING),
        },
        "floor": cast(FolderFloor, floor) if floor else {"metrics": None, "reason": NO_SUBJECTS},
        "labels": labels,
        "memorisation": cast(FolderMemorisation, audit_values(audits)) if audits else {"reason": NO_TRAINING},
        "warnings": [
            *left_out_warnings(left_out),
            *channel_warnings(folders),
            *distances.warnings,
            *(text for text in (floor["warnings"] if floor else ()) if "floor" in text),
        ],
    }
    closest = _closest(audits, folders, described) if audits else ()
    return Comparison(results, distances, ours.shown, theirs.shown, closest)


def _spacings(folders: Mapping[str, PatchFolder], also: Also) -> dict[str, tuple[float, float, float]]:
    """By option: what is given, else what the files say, else what those of the real patches say."""
    found = {}
    for option in ("--real", "--generated"):
        said = also.spacing_mm or folders[option].spacing_mm or folders["--real"].spacing_mm
        if said is None:
            wanted = ", ".join(also.metrics)
            raise InputError(
                f"{folders[option].folder}: its files do not say, or not alike, how large a voxel is, which {wanted} "
                "needs; give --spacing X,Y,Z in mm"
            )
        found[option] = said
    return found


def _own(
    metric: OwnMetric,
    folders: Mapping[str, PatchFolder],
    rows: Mapping[str, NDArray[np.intp]],
    spacings: Mapping[str, tuple[float, float, float]],
    seed: int,
    report: Report,
) -> tuple[Distances, Floor | None, dict[str, MetricFacts]]:
    """What a metric of features of its own finds between the rows that count, its floor, and what they were made of."""

    def extracted(option: str, factor: float) -> OwnRows:
        wanted, folder = metric.drawn(rows[option], seed, factor), folders[option]

        def cut(rows: NDArray[np.intp]) -> Iterator[Images]:
            done = 0
            for images, _ in _chosen(folder, rows):
                yield images
                done += len(images)
                report(f"features of {folder.folder.name} for {metric.name}", done, len(rows))

        return metric.extract(wanted, cut, spacings[option])

    owners = folders["--real"].subjects
    everything, generated = extracted("--real", FLOOR_ROWS if owners else 1), extracted("--generated", 1)
    inside = np.isin(everything.rows, metric.drawn(rows["--real"], seed))
    ours = OwnRows(everything.features[inside], everything.rows[inside], everything.left_out)
    subjects = None if owners is None else np.array(owners)
    of_ours = None if subjects is None else subjects[ours.rows]
    count = min(len(ours.rows), len(generated.rows))
    found = metric.distances(ours, generated, subjects=of_ours, seed=seed)
    floor = None if subjects is None else metric.floor(everything, subjects[everything.rows], count=count, seed=seed)
    facts = metric.facts(count, spacings["--real"])
    return found, floor, {name: {"n": each["samples"], "extractor": each["extractor"]} for name, each in facts.items()}


def _describe(extractor: Extractor, folder: PatchFolder, rows: NDArray[np.intp], report: Report) -> _Described:
    blocks: list[NDArray[np.float64]] = []
    shown: list[ShownPair] = []

    def batches() -> Iterator[Images]:
        for images, labels in _chosen(folder, rows):
            blocks.append(block_means(images))
            for index in range(min(len(images), SHOWN - len(shown))):
                shown.append(_projected(images[index], None if labels is None else labels[index]))
            yield images
            report(f"features of {folder.folder.name}", sum(map(len, blocks)), len(rows))

    features = extractor(batches())
    return _Described(features, np.concatenate(blocks), rows, tuple(shown))


def _drawn(rows: NDArray[np.intp], count: int, seed: int) -> NDArray[np.intp]:
    """Some of the rows, sorted; a smaller draw lies within a larger one of the same seed."""
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])]


def _only(described: _Described, rows: NDArray[np.intp]) -> _Described:
    """As if these rows alone had been described."""
    kept = np.isin(described.rows, rows)
    return _Described(described.features[kept], described.blocks[kept], described.rows[kept], described.shown)


def _chosen(folder: PatchFolder, rows: NDArray[np.intp]) -> Iterator[tuple[Images, NDArray[np.bool_] | None]]:
    """The patches of sorted `rows`, batch by batch."""
    start = 0
    for batch in folder.batches(BATCH):
        inside = rows[(rows >= start) & (rows < start + len(batch.images))] - start
        if len(inside):
            yield batch.images[inside], None if batch.labels is None else batch.labels[inside]
        start += len(batch.images)


def _projected(image: Images, label: NDArray[np.bool_] | None) -> ShownPair:
    return ShownPair(image.max(axis=2), None if label is None else np.asarray(label.any(axis=2)))


def _labels(
    folders: Mapping[str, PatchFolder], described: Mapping[str, _Described], metrics: Wanted, report: Report
) -> tuple[dict[str, float], FolderLabels]:
    pair = ("--real", "--generated")
    missing = [str(folders[option].folder) for option in pair if not folders[option].has_labels]
    if missing:
        return {}, {"reason": f"no labels in {' and '.join(missing)}"}
    statistics = []
    for done, option in enumerate(pair):
        report("labels", done, len(pair))
        masks = (
            mask
            for _, labels in _chosen(folders[option], described[option].rows)
            for mask in (() if labels is None else labels)
        )
        statistics.append(label_statistics(masks))
    distances, told = compare_labels(statistics[0], statistics[1], metrics)
    return distances, cast(FolderLabels, told)


def _audits(folders: Mapping[str, PatchFolder], described: Mapping[str, _Described]) -> Audits:
    sets: dict[str, Described] = {
        option: {"features": each.features, "blocks": each.blocks} for option, each in described.items()
    }
    try:
        return audit_memory(training=sets["--training"], held_out=sets["--real"], generated=sets["--generated"])
    except SharedSamplesError:
        raise InputError(shared(folders)) from None


def _closest(
    audits: Audits, folders: Mapping[str, PatchFolder], described: Mapping[str, _Described]
) -> tuple[tuple[ShownPair, ShownPair, float], ...]:
    """The closest pairs of the audit in image space, read once more."""
    pairs = audits.images.pairs

    def picked(option: str, rows: list[int]) -> dict[int, tuple[Images, NDArray[np.bool_] | None]]:
        wanted = np.unique(described[option].rows[rows])
        found = [
            (images[index], None if labels is None else labels[index])
            for images, labels in _chosen(folders[option], wanted)
            for index in range(len(images))
        ]
        return dict(zip(wanted.tolist(), found, strict=True))

    generated = picked("--generated", [pair.generated for pair in pairs])
    training = picked("--training", [pair.training for pair in pairs])
    shown = []
    for pair in pairs:
        axes = pair.mirrored_axes
        image, label = training[int(described["--training"].rows[pair.training])]
        mirrored = np.flip(image, axes), None if label is None else np.flip(label, axes)
        ours = generated[int(described["--generated"].rows[pair.generated])]
        shown.append((_projected(*ours), _projected(*mirrored), pair.distance))
    return tuple(shown)


def _distance_entries(
    distances: Distances, facts: MetricFacts, own: Mapping[str, MetricFacts]
) -> dict[str, FolderMetric]:
    """By name; `own` are the facts of those with features of their own, which have others."""
    entries = {}
    for name, value in distances.metrics.items():
        low, high = distances.intervals.get(name, (None, None))
        entry = cast(FolderMetric, {"value": value, "ci_low": low, "ci_high": high, **facts, **own.get(name, {})})
        entries[name] = entry
        if low is None:
            entry["reason"] = f"no interval: {NO_SUBJECTS}"
        if name in distances.sd_kmeans:
            entry["sd_kmeans"] = distances.sd_kmeans[name]
    return entries


def _entries(
    wanted: Sequence[str], values: Mapping[str, float], facts: MetricFacts, reason: str
) -> dict[str, FolderMetric]:
    nothing = {"ci_low": None, "ci_high": None}
    entries = {
        name: {"value": values[name], **facts, **nothing}
        if name in values
        else {"value": None, "n": 0, **nothing, "reason": reason}
        for name in wanted
    }
    return cast(dict[str, FolderMetric], entries)
