"""Run folders -> tidy rows -> the measured part of results.json. Pure: no torch, no plots."""

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmark.artifacts.reading import read_arrays
from benchmark.artifacts.roles import Role
from benchmark.artifacts.values import (
    EvaluationValues,
    GANValues,
    LabelMeans,
    PreparedValues,
    ReferenceValues,
    ScoreValues,
    UNetValues,
    VesselLabels,
)
from benchmark.protocol.cells import kind_of
from benchmark.results.conditions import conditions
from benchmark.results.costs import cost_metrics, cost_ratios, measurement_of
from benchmark.results.course import course_of
from benchmark.results.format import (
    BrainMasks,
    CellResult,
    ClosePatch,
    Conventions,
    GroupResult,
    Measured,
    RealLabels,
    Spread,
    Training,
)
from benchmark.results.metrics import over_seeds, score_metrics, segmentation_metrics
from benchmark.results.numerics import numerics_sentences
from benchmark.results.reproduction import reproduction_of
from benchmark.results.rows import over_subjects, plain_rows, ranking, sample_sd
from benchmark.results.run_folder import CellRecord, Run
from benchmark.scoring.conventions import mask_conventions, metric_options, patch_conventions

__all__ = ["cell_result", "summarise"]

SPLITS = ("train", "validation", "test")


def summarise(run: Run, rows: pd.DataFrame, scans: pd.DataFrame) -> Measured:
    """Everything of results.json but what claims/ draws from it, of the run's `subject_rows` and `scan_rows`."""
    plan, by_cell, none = run.plan, dict(iter(rows.groupby("cell", sort=False))), rows.iloc[:0]
    cells = [cell_result(run, record, by_cell.get(record["cell"]["id"], none)) for record in run.cells]
    prepared, subjects = run.first_values(Role.DATA, PreparedValues), run.subjects()
    return {
        "format": 1,
        "protocol": plan["protocol"],
        "profile": plan["profile"],
        "title": plan["title"],
        "about": plan.get("about", ""),
        "only": plan.get("only"),
        # Before profiles said it, their name did.
        "is_trial": bool(plan["settings"].get("trial", plan["profile"] == "smoke")),
        "data": plan["data"],
        "split": {split: subjects[split] for split in SPLITS if split in subjects},
        "prepared": prepared,
        "brain_masks": _brain_masks(prepared),
        "environment": run.environment,
        "reproduce": reproduction_of(run),
        "is_running": run.is_running,
        "numerics": numerics_sentences(run.environment.get("numerics", [])),
        "conditions": conditions(run),
        "conventions": _conventions(run),
        "settings": plan["settings"],
        "work_seconds": sum(cell["seconds"] for cell in cells),
        "cells": cells,
        "groups": _groups(cells, rows),
        "floor": run.first_values(Role.REFERENCE, ReferenceValues),
        "real_labels": _real_labels(cells),
        "measurement": measurement_of(run),
        "cost_ratios": cost_ratios(cells),
        "subjects": plain_rows(scans),
        "subject_ranking": ranking(scans),
    }


def cell_result(run: Run, record: CellRecord, rows: pd.DataFrame) -> CellResult:
    """A cell of results.json; `rows` are the run's `subject_rows`, or those of the cell."""
    cell = record["cell"]
    score = run.values(record, Role.SCORE, ScoreValues)
    gan, unet = run.values(record, Role.GAN, GANValues), run.values(record, Role.UNET, UNetValues)
    evaluation: EvaluationValues = run.values(record, Role.EVALUATE, EvaluationValues) or {}
    seconds = run.seconds(record)
    rejected = {"gan": gan and gan.get("steps_rejected"), "unet": unet and unet.get("steps_rejected")}
    return {
        "id": cell["id"],
        "label": cell["label"],
        "family": cell.get("family"),
        "variant": cell["variant"],
        "norm": cell["norm"],
        "precision": cell["precision"],
        "filters": cell["filters"],
        "batch": cell["batch"],
        "seed": cell["seed"],
        "kind": kind_of(cell),
        "external": cell.get("external"),
        "real_subjects": cell.get("real_subjects"),
        "mixed_with": cell.get("mixed_with"),
        "untrained": cell.get("untrained"),
        "simulated": cell.get("simulated"),
        "recipe": cell["recipe_name"],
        "recipe_options": cell["recipe"],
        "status": run.status(record),
        "error": run.failure(record),
        "seconds": round(sum(seconds.values()), 1),
        "stage_seconds": seconds,
        "warnings": score.get("warnings", []) if score else [],
        "labels": score.get("labels") if score else None,
        "memorisation": score.get("memorisation", {}) if score else {},
        "closest": _closest(run, record),
        "privacy": gan.get("privacy") if gan else None,
        "trainings": _trainings(run, record, gan, unet),
        # Nothing of a training of an earlier version, which did not count them.
        "steps_rejected": {role: counts for role, counts in rejected.items() if counts is not None},
        "stages": record["stages"],
        "course": course_of(run, record),
        "metrics": {
            **(score_metrics(score) if score else {}),
            **cost_metrics(run, record),
            **segmentation_metrics(rows, cell["id"], evaluation.get("reasons", {})),
        },
    }


def _conventions(run: Run) -> Conventions:
    """What a run of before did not say of its metrics is not known."""
    metrics = metric_options(run.plan.get("metrics", {}))
    recipes = {record["cell"]["recipe_name"]: record["cell"]["recipe"] for record in run.cells}
    neighbours = metrics.get("contours", {}).get("neighbours")
    noise = {name: str(recipe.get("feature_noise", "none")) for name, recipe in recipes.items()}
    return {
        "metrics": metrics,
        "patches": {name: patch_conventions(each) for name, each in noise.items()},
        "masks": mask_conventions(
            run.plan.get("vessels"),
            both_empty=run.plan.get("both_empty", "leave-out"),
            contours=neighbours if isinstance(neighbours, int) else None,
        ),
    }


def _trainings(run: Run, record: CellRecord, gan: GANValues | None, unet: UNetValues | None) -> dict[str, Training]:
    trainings: dict[str, Training] = {}
    if gan:
        course = run.file(record, Role.GAN, "course.npz")
        pictured: list[int] = read_arrays(course, ["steps"])["steps"].tolist() if course else []
        trainings["gan"] = {"steps": gan["steps"], "pictured": pictured}
    if unet:
        best, samples = unet["best_step"], unet["training_samples"]
        trainings["unet"] = {"steps": unet["steps"], "best_step": best, "samples": samples}
    return trainings


def _closest(run: Run, record: CellRecord) -> list[ClosePatch]:
    path = run.file(record, Role.SCORE, "closest.npz")
    if path is None:
        return []
    arrays = read_arrays(path, ["distance", "threshold"])
    threshold = float(arrays["threshold"])
    return [
        {"distance": distance, "over_threshold": distance / threshold if threshold else None}
        for distance in arrays["distance"].tolist()
    ]


def _brain_masks(prepared: PreparedValues | None) -> BrainMasks | None:
    """What the intracranial values rest on; None before the data are prepared."""
    if prepared is None:
        return None
    computed, masks = prepared["brain_mask_computed"], prepared["with_brain_mask"]
    return {"dataset": masks - computed, "computed": computed, "none": sum(prepared["subjects"].values()) - masks}


def _groups(cells: Iterable[CellResult], rows: pd.DataFrame) -> list[GroupResult]:
    """Per arm, each metric over the seeds: the mean of the cells' values and its interval over trained models."""
    groups: dict[str, list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell["label"], []).append(cell)
    by_label, none = dict(iter(rows.groupby("label", sort=False))), rows.iloc[:0]
    return [
        {
            "label": arm,
            "seeds": [cell["seed"] for cell in members],
            "done": sum(cell["status"] == "done" for cell in members),
            "failed": sum(cell["status"] == "failed" for cell in members),
            "test_subjects": _test_subjects(members),
            "metrics": over_seeds(members),
            "over_subjects": over_subjects(by_label.get(arm, none), arm),
            "vessel_share": _vessel_share(members),
            "label_means": _label_means(members),
        }
        for arm, members in groups.items()
    ]


def _test_subjects(members: Sequence[CellResult]) -> int | None:
    counts = [cell["metrics"]["dsc/all"]["n"] for cell in members if "dsc/all" in cell["metrics"]]
    return max(counts, default=None)


def _vessel_share(members: Sequence[CellResult]) -> Spread | None:
    shares = [cell["labels"]["vessel_share_synthetic"] for cell in members if cell["labels"]]
    return {"value": sum(shares) / len(shares), "sd": sample_sd(shares)} if shares else None


def _label_means(members: Sequence[CellResult]) -> dict[str, float | None] | None:
    """Of each statistic of the generated vessel labels; None where no cell has any."""
    means = [_means_of(cell["labels"]) for cell in members]
    known = [each for each in means if each]
    if not known:
        return None
    return {name: _mean([each[name]["generated"] for each in known if name in each]) for name in known[0]}


def _real_labels(cells: Sequence[CellResult]) -> RealLabels | None:
    """All cells are compared with the same real patches."""
    labels = [cell["labels"] for cell in cells if cell["labels"]]
    if not labels:
        return None
    means = next((means for each in labels if (means := _means_of(each))), None)
    real = {name: both["real"] for name, both in means.items()} if means else None
    return {"vessel_share": labels[0]["vessel_share_real"], "means": real}


def _means_of(labels: VesselLabels | None) -> dict[str, LabelMeans]:
    return labels.get("means", {}) if labels else {}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
