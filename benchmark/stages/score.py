"""Distances between real and synthetic patches, and between real and real as their floor; labels; memorisation."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.options import ScoreOptions
from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.values import OwnFacts, ScoreFacts
from benchmark.metrics.asking import values_of
from benchmark.metrics.given import Audits
from benchmark.scoring.nearly_empty import LeftOut, left_out_warnings
from benchmark.scoring.own_features import FEWEST_ROWS, OwnMetric, OwnRows, own_metrics, with_floor
from benchmark.scoring.patch_sets import (
    FEWEST_SUBJECTS,
    FLOOR_ROWS,
    AuditValues,
    ComparedLabels,
    Described,
    Distances,
    Floor,
    audit_memory,
    audit_values,
    compare_features,
    compare_labels,
    floor_of,
    load_label_statistics,
    save_label_statistics,
)
from benchmark.stages.context import Context, throttled
from vesselgan.data import VolumeStore, open_store
from vesselgan.errors import InputError
from vesselgan.features import Extractor, holds_enough, medicalnet, random_resnet10
from vesselgan.metrics import block_means, label_statistics

__all__ = ["reference", "score"]

Images = NDArray[np.float32]
BATCH = 16
HELD_OUT = ("validation", "test")


class ExtractorFacts(ScoreFacts):
    """What distances were computed with."""

    extractor_version: int
    weights_sha256: str


class Reference(Floor):
    """The values of `reference`."""

    facts: ExtractorFacts


class Scored(TypedDict):
    """The values of `score`."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    sd_kmeans: dict[str, float]
    warnings: list[str]
    facts: ExtractorFacts
    labels: ComparedLabels | None
    memorisation: AuditValues


def reference(context: Context[ScoreOptions]) -> Reference:
    """Write what all generators of a run are compared with, once; the values are the floor, real against real.

    `train.npz` and `held_out.npz` hold, for each real patch of those subjects, its row of the patch table, subject,
    features and block means; `drawn.npy` the rows of the reference set; `labels.npz` the statistics of its labels;
    `features-NAME.npz` the features that a metric of that name brings itself, of some of the reference set.
    Patches that are nearly empty are not among them, but for the paper's way (D9), in which noise fills them.
    Raises InputError where too few are left.
    """
    store = open_store(context.inputs["data"] / "store")
    extractor = _extractor(context)
    patches = {
        "train": store.patches("train"),
        "held_out": np.concatenate([store.patches(split) for split in HELD_OUT]),
    }
    total, done = sum(map(len, patches.values())), 0
    progress = throttled(context.progress)
    real, left_out = {}, {}
    for name, indices in patches.items():
        progress(done, total, "real features")
        features, blocks, counted = _described(extractor, _real_batches(store, indices, context), context)
        subjects = store.people[store.patch_table[indices, 0]]
        rows = {"indices": indices, "subjects": subjects, "features": features, "blocks": blocks}
        real[name] = {what: values[counted] for what, values in rows.items()}
        left_out[f"real ({name.replace('_', '-')})"] = LeftOut(int((~counted).sum()), len(counted))
        if not counted.all() and counted.sum() < FEWEST_ROWS:
            raise InputError(
                f"{counted.sum()} of {len(counted)} real patches ({name}) are not nearly empty; cut others"
            )
        np.savez(context.folder / f"{name}.npz", allow_pickle=False, **real[name])
        done += len(indices)
    progress(done, total, "real features")

    kind = context.recipe.reference
    chosen = real[kind]
    counts = {name: len(each["indices"]) for name, each in real.items()}
    wanted = min(int(context.options["samples"]), *counts.values())
    rng = np.random.default_rng(context.options["seed"])
    drawn = {name: np.sort(rng.choice(count, wanted, replace=False)) for name, count in counts.items()}
    np.save(context.folder / "drawn.npy", drawn[kind])
    statistics = label_statistics(
        label for index in chosen["indices"][drawn[kind]] for label in store.cut_pairs([index], "volume")[1]
    )
    save_label_statistics(context.folder / "labels.npz", statistics)

    metrics, seed = context.options["metrics"], context.options["seed"]
    other = real["held_out" if kind == "train" else "train"]
    apart = compare_features(
        chosen["features"][drawn[kind]],
        other["features"][drawn["held_out" if kind == "train" else "train"]],
        metrics,
        real_subjects=chosen["subjects"][drawn[kind]],
        seed=seed,
    )
    np.savez(context.folder / "prd.npz", allow_pickle=False, **apart.curves)
    features, subjects = (np.concatenate([real[name][what] for name in real]) for what in ("features", "subjects"))
    if len(np.unique(subjects)) >= FEWEST_SUBJECTS:
        floor = floor_of(features, subjects, metrics, count=wanted, seed=seed)
    else:
        few = f"the floor is one comparison: fewer than {FEWEST_SUBJECTS} subjects cannot be halved in several ways"
        floor = {
            "metrics": apart.metrics,
            "sd": {},
            "warnings": [*apart.warnings, few],
            "meaning": "training subjects against held-out subjects, both real, the same number of patches each",
        }
    for metric in own_metrics(metrics):
        floor = _own_reference(metric, real, drawn[kind], floor, context)
    warnings = [*left_out_warnings(left_out), *floor["warnings"]]
    return {**floor, "warnings": warnings, "facts": _facts(extractor, wanted, kind)}


def _own_reference(
    metric: OwnMetric,
    real: Mapping[str, Mapping[str, NDArray[Any]]],
    drawn: NDArray[np.intp],
    floor: Floor,
    context: Context[ScoreOptions],
) -> Floor:
    """Keep what scores of this metric are compared with; the floor, with its value.

    `drawn` are rows of the reference set. Others are read for the floor alone, more than it needs: halves of the
    subjects do not have equally many.
    """
    store, seed, kind = open_store(context.inputs["data"] / "store"), context.options["seed"], context.recipe.reference
    other = real["held_out" if kind == "train" else "train"]
    spacing_mm = store.usual_spacing_mm("train")
    progress = throttled(context.progress)

    def extracted(of: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> OwnRows:
        def cut(rows: NDArray[np.intp]) -> Iterator[Images]:
            for done, batch in enumerate(_real_batches(store, of["indices"][rows], context)):
                progress(min(done * BATCH, len(rows)), len(rows), f"real features for {metric.name}")
                yield batch

        return metric.extract(rows, cut, spacing_mm)

    ours = extracted(real[kind], metric.drawn(drawn, seed))
    theirs = extracted(other, metric.drawn(np.arange(len(other["indices"])), seed, FLOOR_ROWS - 1))
    subjects = [real[kind]["subjects"][ours.rows], other["subjects"][theirs.rows]]
    np.savez(
        context.folder / f"features-{metric.name}.npz",
        allow_pickle=False,
        features=ours.features,
        rows=ours.rows,
        left_out=np.array(ours.left_out),
    )
    both = OwnRows(np.concatenate([ours.features, theirs.features]), np.arange(len(ours.rows) + len(theirs.rows)), 0)
    found = metric.floor(both, np.concatenate(subjects), count=len(ours.rows), seed=seed)
    if found is None:
        apart = metric.distances(ours, theirs, subjects=subjects[0], seed=seed)
        found = {"metrics": apart.metrics, "sd": {}, "warnings": [], "meaning": ""}
    return with_floor(floor, found)


def score(context: Context[ScoreOptions]) -> Scored:
    """Compare synthetic pairs with the reference: distances, labels, and how near they lie to the training patches.

    `prd.npz` holds the curve of each k-means run, `closest.npz` the synthetic patches nearest to a training patch.
    """
    folder, seed, metrics = context.inputs["reference"], context.options["seed"], context.options["metrics"]
    images = np.load(context.inputs["pairs"] / "images.npy", mmap_mode="r")
    labels = np.load(context.inputs["pairs"] / "labels.npy", mmap_mode="r")
    real = {name: dict(np.load(folder / f"{name}.npz")) for name in ("train", "held_out")}
    chosen, drawn = real[context.recipe.reference], np.load(folder / "drawn.npy")
    looked_at = min(len(drawn), len(images))
    extractor = _extractor(context)
    progress = throttled(context.progress)
    features, blocks, counted = _described(
        extractor,
        _synthetic_batches(images[:looked_at], lambda done: progress(done, looked_at, "synthetic features")),
        context,
    )
    warnings = left_out_warnings({"generated": LeftOut(int((~counted).sum()), looked_at)})
    if not counted.all() and counted.sum() < FEWEST_ROWS:  # nothing else is there to be scored
        warnings = [f"generated: {(~counted).sum()} of {looked_at} patches are nearly empty, so they count as they are"]
        counted[:] = True
    rows = np.flatnonzero(counted)
    features, blocks, count = features[rows], blocks[rows], len(rows)
    # Equal counts; rows lie in the order of subjects, so a smaller set is drawn and not cut off.
    drawn = np.sort(np.random.default_rng(seed).permutation(drawn)[:count])
    distances = compare_features(
        chosen["features"][drawn],
        features,
        metrics,
        real_subjects=chosen["subjects"][drawn],
        seed=seed,
        swap_prd=context.recipe.prd_arguments == "swapped",
    )
    own_facts: dict[str, OwnFacts] = {}
    for metric in own_metrics(metrics):
        found, facts = _own_distances(metric, images, rows, chosen["subjects"], context)
        distances, own_facts = distances.and_also(found), own_facts | facts
    np.savez(context.folder / "prd.npz", allow_pickle=False, **distances.curves)
    label_metrics: dict[str, float] = {}
    label_facts: ComparedLabels | None = None
    if context.recipe.label_metrics == "scored":
        label_metrics, label_facts = compare_labels(
            load_label_statistics(folder / "labels.npz"), label_statistics(labels[:looked_at]), metrics
        )
    audits = audit_memory(
        training=_audited(real["train"]),
        held_out=_audited(real["held_out"]),
        generated={"features": features, "blocks": blocks},
    )
    store = open_store(context.inputs["data"] / "store")
    _save_closest(context.folder / "closest.npz", audits, (images, rows), real["train"]["indices"], store, context)
    told = _facts(extractor, count, context.recipe.reference)
    if own_facts:
        told["own"] = own_facts
    return {
        "metrics": {**distances.metrics, **label_metrics, **values_of("audit", audits, metrics)},
        "intervals": distances.intervals,
        "sd_kmeans": distances.sd_kmeans,
        "warnings": [*warnings, *distances.warnings],
        "facts": told,
        "labels": label_facts,
        "memorisation": audit_values(audits),
    }


def _own_distances(
    metric: OwnMetric,
    images: NDArray[np.int16],
    rows: NDArray[np.intp],
    subjects: NDArray[Any],
    context: Context[ScoreOptions],
) -> tuple[Distances, dict[str, OwnFacts]]:
    """Of some of the rows that count, to what `reference` kept; subjects are those of all real rows."""
    with np.load(context.inputs["reference"] / f"features-{metric.name}.npz") as kept:
        real = OwnRows(kept["features"], kept["rows"], int(kept["left_out"]))
    spacing_mm = open_store(context.inputs["data"] / "store").usual_spacing_mm("train")
    seed = context.options["seed"]
    wanted = metric.drawn(rows, seed)
    progress = throttled(context.progress)

    def cut(rows: NDArray[np.intp]) -> Iterator[Images]:
        what = f"synthetic features for {metric.name}"
        return _synthetic_batches(images[rows], lambda done: progress(done, len(rows), what))

    generated = metric.extract(wanted, cut, spacing_mm)
    count = min(len(real.rows), len(generated.rows))
    found = metric.distances(real, generated, subjects=subjects[real.rows], seed=seed)
    return found, metric.facts(count, spacing_mm)


def _audited(arrays: Mapping[str, NDArray[np.float64]]) -> Described:
    return {"features": arrays["features"], "blocks": arrays["blocks"]}


def _save_closest(
    path: Path,
    audits: Audits,
    generated: tuple[NDArray[np.int16], NDArray[np.intp]],
    training: NDArray[np.intp],
    store: VolumeStore,
    context: Context[ScoreOptions],
) -> None:
    """The closest pairs of the audit in image space, each with its training patch, mirrored as it was found.

    `generated` are all images, and the rows of those that were audited.
    """
    pairs, (images, rows) = audits.images.pairs, generated
    near = store.cut_pairs([training[pair.training] for pair in pairs], context.recipe.intensity_scaling)[0]
    mirrored = [np.flip(image, pair.mirrored_axes) for image, pair in zip(near, pairs, strict=True)]
    np.savez(
        path,
        allow_pickle=False,
        generated=decoded(np.stack([images[rows[pair.generated]] for pair in pairs])),
        training=np.stack(mirrored),
        distance=np.array([pair.distance for pair in pairs]),
        threshold=np.array(audits.images.threshold),
    )


def _extractor(context: Context[ScoreOptions]) -> Extractor:
    noise = context.recipe.feature_noise
    if context.options["extractor"] == "medicalnet":
        return medicalnet(Path(context.where["weights"]), noise=noise, device=context.device)
    return random_resnet10(noise=noise, device=context.device)


def _facts(extractor: Extractor, samples: int, kind: str) -> ExtractorFacts:
    return {
        "samples": samples,
        "extractor": extractor.name,
        "extractor_version": extractor.version,
        "weights_sha256": extractor.weights_sha256,
        "reference": kind,
    }


def _described(
    extractor: Extractor, batches: Iterable[Images], context: Context[ScoreOptions]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Features and block means of the same patches, which pass by once, and which of them count."""
    blocks: list[NDArray[np.float64]] = []
    counted: list[NDArray[np.bool_]] = []
    all_count = context.recipe.feature_noise == "noise"  # D9: noise takes the place of an empty patch's background

    def watched() -> Iterator[Images]:
        for batch in batches:
            blocks.append(block_means(batch))
            counted.append(holds_enough(batch) | all_count)
            yield batch

    features = extractor(watched())
    return features, np.concatenate(blocks), np.concatenate(counted)


def _real_batches(store: VolumeStore, indices: NDArray[np.intp], context: Context[ScoreOptions]) -> Iterator[Images]:
    for start in range(0, len(indices), BATCH):
        yield store.cut_pairs(indices[start : start + BATCH], context.recipe.intensity_scaling)[0]


def _synthetic_batches(images: NDArray[np.int16], report: Callable[[int], None]) -> Iterator[Images]:
    for start in range(0, len(images), BATCH):
        yield decoded(images[start : start + BATCH])
        report(min(start + BATCH, len(images)))
