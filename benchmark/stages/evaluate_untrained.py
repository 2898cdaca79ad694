"""Rules without learning, scored on the same subjects and by the same metrics as U-Nets are."""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.error_maps import save_maps
from benchmark.artifacts.options import OwnMetrics
from benchmark.artifacts.values import EvaluationValues
from benchmark.metrics.asking import Wanted
from benchmark.stages.context import Context
from benchmark.stages.evaluate import SPLITS, ScoreRow, score_rows, write_scores
from benchmark.stages.train_unet import scaled_volume
from vesselgan.data import StoredSubject, VolumeStore, open_store
from vesselgan.untrained import UntrainedRule, segment

__all__ = ["evaluate_untrained"]

Mask = NDArray[np.bool_]
INTRACRANIAL = "intracranial"
NO_RULE = "no training subject has vessels inside a brain mask, so there is no rule for them"


def evaluate_untrained(context: Context[OwnMetrics]) -> EvaluationValues:
    """Write `subjects.csv` and the maps of the test subjects, as `evaluate` does.

    Each region has a rule of its own, and is scored on what that rule marks. The maps are of the rule for all vessels.
    A region without a rule has empty values, and its reason is returned.
    """
    store = open_store(context.inputs["data"] / "store")
    fitted = json.loads((context.inputs["rules"] / "rules.json").read_text(encoding="utf-8"))
    rules = {region: UntrainedRule.from_dict(values) for region, values in fitted.items()}
    subjects = [subject for subject in store.subjects if subject.split in SPLITS]
    rows: list[ScoreRow] = []
    for index, subject in enumerate(subjects):
        context.progress(index, len(subjects), "volumes segmented")
        image, truth = scaled_volume(store, subject, "volume"), np.asarray(store.label(subject.key))
        marked = {region: segment(rule, image, spacing_mm=subject.spacing_mm) for region, rule in rules.items()}
        rows += _rows(store, subject, truth, marked, context.options.get("metrics", {}))
        if subject.split == "test":
            affine, placement = np.asarray(subject.affine), store.placement(subject.key)
            save_maps(context.folder, subject.key, truth, marked["all"], affine, subject.spacing_mm, placement)
    write_scores(context.folder, rows)
    counts = {split: sum(subject.split == split for subject in subjects) for split in SPLITS}
    return {"subjects": counts, "reasons": {} if INTRACRANIAL in rules else {INTRACRANIAL: NO_RULE}}


def _rows(
    store: VolumeStore, subject: StoredSubject, truth: Mask, marked: Mapping[str, Mask], metrics: Wanted
) -> list[ScoreRow]:
    """Each region's rows from the prediction of its own rule."""
    mask = store.mask(subject.key) if INTRACRANIAL in marked else None
    rows = score_rows(subject, truth, marked["all"], mask, metrics)
    if mask is not None:
        inside = score_rows(subject, truth, marked[INTRACRANIAL], mask, metrics)
        rows = [
            own if own["metric"].endswith(f"/{INTRACRANIAL}") else row for row, own in zip(rows, inside, strict=True)
        ]
    return rows
