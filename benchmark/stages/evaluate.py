"""Whole-volume segmentation of validation and test subjects, scored per subject."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.error_maps import save_maps
from benchmark.artifacts.options import EvaluateOptions
from benchmark.artifacts.values import EvaluationValues
from benchmark.metrics.asking import Wanted
from benchmark.scoring.masks import mask_rows
from benchmark.stages.context import Context
from benchmark.stages.train_unet import open_unet, scaled_volume
from vesselgan.data import StoredSubject, open_store
from vesselgan.inference import segment_volume
from vesselgan.training import choose_precision

__all__ = ["SPLITS", "ScoreRow", "evaluate", "score_rows", "write_scores"]

SPLITS = ("validation", "test")


class ScoreRow(TypedDict):
    """A row of `subjects.csv`: one metric of one subject, "" where it does not exist; `empty` is 0 or 1."""

    split: str
    subject: str
    metric: str
    value: float | str
    empty: int


def evaluate(context: Context[EvaluateOptions]) -> EvaluationValues:
    """Write `subjects.csv` (one row per subject and metric) and the maps of the test subjects, see `save_maps`.

    Distances are in voxels and in millimetres. Where truth or prediction is empty, the row is marked; where both
    are, its value is empty, as `benchmark.metrics.segmentation` says. A subject without brain mask has empty values for
    intracranial vessels.
    """
    store = open_store(context.inputs["data"] / "store")
    unet, facts = open_unet(context.inputs["unet"], context.device)
    precision = choose_precision(facts["precision"], context.device)
    inference = context.options["inference"]
    subjects = [subject for subject in store.subjects if subject.split in SPLITS]
    rows: list[ScoreRow] = []
    for index, subject in enumerate(subjects):
        context.progress(index, len(subjects), "volumes segmented")
        image = scaled_volume(store, subject, context.recipe.intensity_scaling)
        probability = segment_volume(unet, image, context.options["patch"], precision=precision, **inference)
        prediction, truth = probability > facts["threshold"], np.asarray(store.label(subject.key))
        rows += score_rows(subject, truth, prediction, store.mask(subject.key), context.options.get("metrics", {}))
        if subject.split == "test":
            affine, placement = np.asarray(subject.affine), store.placement(subject.key)
            save_maps(context.folder, subject.key, truth, prediction, affine, subject.spacing_mm, placement)
    write_scores(context.folder, rows)
    return {"subjects": {split: sum(s.split == split for s in subjects) for split in SPLITS}}


def write_scores(folder: Path, rows: Iterable[ScoreRow]) -> None:
    """Write `subjects.csv` of what `score_rows` gave."""
    with (folder / "subjects.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["split", "subject", "metric", "value", "empty"])
        writer.writeheader()
        writer.writerows(rows)


def score_rows(
    subject: StoredSubject,
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None,
    metrics: Wanted,
) -> list[ScoreRow]:
    """Every metric of one prediction (X, Y, Z) in every region; without mask, empty values inside the brain."""
    return [
        {
            "split": subject.split,
            "subject": subject.key,
            "metric": name,
            "value": "" if value is None else value,
            "empty": int(empty),
        }
        for name, value, empty in mask_rows(truth, prediction, mask, subject.spacing_mm, metrics)
    ]
