"""Distances between real and synthetic patches, and between real and real as their floor."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.stages.context import Context, throttled
from benchmark.stages.pairs import INT16_SCALE
from vesselgan.data import VolumeStore, open_store
from vesselgan.features import Extractor, medicalnet, random_resnet10
from vesselgan.metrics import (
    SmallSampleWarning,
    frechet_distance,
    kernel_distance,
    max_f_beta_pair,
    prd_area,
    prd_curves,
    precision_recall_density_coverage,
)

__all__ = ["reference", "score"]

Features = NDArray[np.float64]
BATCH = 16
HELD_OUT = ("validation", "test")


def reference(context: Context) -> dict[str, Any]:
    """Write `features.npy` of real reference patches; score real patches of other subjects against them: the floor."""
    store = open_store(context.inputs["data"] / "store")
    extractor = _extractor(context)
    train = store.patches("train")
    held_out = np.concatenate([store.patches(split) for split in HELD_OUT])
    wanted = min(int(context.options["samples"]), len(train), len(held_out))
    rng = np.random.default_rng(context.options["seed"])
    chosen = {
        name: np.sort(rng.choice(indices, wanted, replace=False))
        for name, indices in (("train", train), ("held_out", held_out))
    }
    progress = throttled(context.progress)
    features = {
        name: extractor(_real_batches(store, indices, context, lambda done: progress(done, wanted, "real features")))
        for name, indices in chosen.items()
    }
    kind = context.recipe.reference
    other = "held_out" if kind == "train" else "train"
    np.save(context.folder / "features.npy", features[kind])
    values, curves = _distances(features[kind], features[other], context)
    np.savez(context.folder / "prd.npz", **curves)
    return {
        "metrics": values["metrics"],
        "warnings": values["warnings"],
        "facts": _facts(extractor, wanted, kind),
        "meaning": "training subjects against held-out subjects, both real, the same number of patches each",
    }


def score(context: Context) -> dict[str, Any]:
    """Distances between the reference features and as many synthetic patches; `prd.npz` holds the curve of each run."""
    real = np.load(context.inputs["reference"] / "features.npy")
    images = np.load(context.inputs["pairs"] / "images.npy", mmap_mode="r")
    extractor = _extractor(context)
    count = min(len(real), len(images))
    progress = throttled(context.progress)
    generated = extractor(_synthetic_batches(images[:count], lambda done: progress(done, count, "synthetic features")))
    # Equal counts; features lie in the order of subjects, so a smaller set is drawn and not cut off.
    drawn = np.random.default_rng(context.options["seed"]).permutation(len(real))[:count]
    values, curves = _distances(real[np.sort(drawn)], generated, context)
    np.savez(context.folder / "prd.npz", **curves)
    store = open_store(context.inputs["data"] / "store")
    labels = np.load(context.inputs["pairs"] / "labels.npy", mmap_mode="r")
    held_out = np.concatenate([store.patches(split) for split in HELD_OUT])
    real_share = float(np.mean([store.cut_pairs([index], "volume")[1].mean() for index in held_out]))
    return {
        **values,
        "facts": _facts(extractor, count, context.recipe.reference),
        "labels": {"vessel_share_synthetic": float(labels.mean()), "vessel_share_real": real_share},
    }


def _extractor(context: Context) -> Extractor:
    noise = context.recipe.feature_noise
    if context.options["extractor"] == "medicalnet":
        return medicalnet(Path(context.where["weights"]), noise=noise, device=context.device)
    return random_resnet10(noise=noise, device=context.device)


def _facts(extractor: Extractor, samples: int, kind: str) -> dict[str, Any]:
    return {
        "samples": samples,
        "extractor": extractor.name,
        "extractor_version": extractor.version,
        "weights_sha256": extractor.weights_sha256,
        "reference": kind,
    }


def _real_batches(
    store: VolumeStore, indices: NDArray[np.intp], context: Context, report: Any
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(indices), BATCH):
        yield store.cut_pairs(indices[start : start + BATCH], context.recipe.intensity_scaling)[0]
        report(min(start + BATCH, len(indices)))


def _synthetic_batches(images: NDArray[np.int16], report: Any) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH].astype(np.float32) / np.float32(INT16_SCALE)
        report(min(start + BATCH, len(images)))


def _distances(real: Features, generated: Features, context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """The protocol's metrics of two equally large sets, the SD over k-means runs, and the PRD curves."""
    wanted: Mapping[str, Any] = context.options["metrics"]
    metrics: dict[str, float] = {}
    spread: dict[str, float] = {}
    curves: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SmallSampleWarning)
        if wanted.get("fid") is not None:
            metrics["fid"] = frechet_distance(real=real, generated=generated)
    if wanted.get("kid") is not None:
        metrics["kid"] = kernel_distance(real=real, generated=generated)
    if (prd := wanted.get("prd")) is not None:
        precision, recall = prd_curves(
            real=real, generated=generated, clusters=prd["clusters"], runs=prd["runs"], seed=context.options["seed"]
        )
        if context.recipe.prd_arguments == "swapped":
            precision, recall = recall, precision
        curves = {"precision": precision, "recall": recall}
        metrics |= _prd_values(precision.mean(axis=0), recall.mean(axis=0))
        runs = [_prd_values(p, r) for p, r in zip(precision, recall, strict=True)]
        spread = {name: float(np.std([run[name] for run in runs], ddof=1)) for name in runs[0]} if len(runs) > 1 else {}
    if (neighbours := wanted.get("neighbours")) is not None:
        metrics |= precision_recall_density_coverage(real=real, generated=generated, k=neighbours["k"])
    return {"metrics": metrics, "sd_kmeans": spread, "warnings": [str(item.message) for item in caught]}, curves


def _prd_values(precision: Features, recall: Features) -> dict[str, float]:
    f8, f1_8 = max_f_beta_pair(precision, recall)
    return {"prd_f8": f8, "prd_f1_8": f1_8, "prd_auc": prd_area(precision, recall)}
