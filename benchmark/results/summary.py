"""Run folders -> tidy rows -> the content of results.json. Pure: no torch, no plots."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.metrics.asking import chosen
from benchmark.metrics.given import StepCosts
from benchmark.metrics.registry import is_cost, measurements, range_of
from benchmark.results.run_folder import Run
from vesselgan.metrics.estimates import mean_with_interval

__all__ = ["cell_entry", "subject_rows", "summarise"]

ARMS = ("external", "real_subjects", "mixed_with", "untrained", "simulated")  # what a cell may be beside a generator
NO_MASK = "the dataset has no brain mask, so intracranial vessels cannot be told apart"
NO_VALUE = "no test subject has a value"


def subject_rows(run: Run, records: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """One row per cell, split, subject and metric; `value` is NaN where the metric does not exist for the subject."""
    frames = []
    for record in run.cells if records is None else records:
        path = run.file(record, "evaluate", "subjects.csv")
        if path:
            cell = record["cell"]
            frame = pd.read_csv(path)
            frames.append(frame.assign(cell=cell["id"], label=cell["label"], seed=cell["seed"]))
    columns = ["cell", "label", "seed", "split", "subject", "metric", "value", "empty"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def summarise(run: Run, rows: pd.DataFrame) -> dict[str, Any]:
    """Everything of results.json but the claims; `rows` are the run's `subject_rows`."""
    cells = [cell_entry(run, record, rows) for record in run.cells]
    return {
        "protocol": run.plan["protocol"],
        "profile": run.plan["profile"],
        "title": run.plan["title"],
        "data": run.plan["data"],
        "brain_masks": _brain_masks(run),
        "environment": run.environment,
        "settings": run.plan["settings"],
        "cells": cells,
        "groups": _groups(cells),
        "floor": _floor(run),
        "subjects": _plain_rows(rows),
    }


def cell_entry(run: Run, record: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """A cell of results.json; `rows` are the run's `subject_rows`."""
    cell = record["cell"]
    entry = {name: cell[name] for name in ("id", "label", "variant", "norm", "precision", "filters", "batch", "seed")}
    score = run.values(record, "score") or {}
    seconds = run.seconds(record)
    reasons = (run.values(record, "evaluate") or {}).get("reasons", {})
    segmentation = _segmentation_metrics(rows, cell["id"], reasons)
    metrics = {**_score_metrics(score), **_cost_metrics(run, record), **segmentation}
    return entry | {
        **{name: cell.get(name) for name in ARMS},  # absent from earlier runs
        "recipe": cell["recipe_name"],
        "recipe_options": cell["recipe"],
        "status": run.status(record),
        "error": run.failure(record),
        "seconds": round(sum(seconds.values()), 1),
        "stage_seconds": seconds,
        "warnings": score.get("warnings", []),
        "labels": score.get("labels"),
        "privacy": (run.values(record, "gan") or {}).get("privacy"),
        "steps_rejected": _rejected(run, record),
        "stages": record["stages"],
        "metrics": metrics,
    }


def _rejected(run: Run, record: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """By role, the steps of its trainings that were not applied; nothing of a training of an earlier version."""
    found = {role: (run.values(record, role) or {}).get("steps_rejected") for role in ("gan", "unet")}
    return {role: counts for role, counts in found.items() if counts is not None}


def _score_metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    facts, intervals = values.get("facts", {}), values.get("intervals", {})
    entries = {}
    for name, value in values.get("metrics", {}).items():
        low, high = intervals.get(name, (None, None))
        # Whose sampling the interval is about; a training repeated with another seed is not in it.
        about = {"interval": "jackknife over subjects and synthetic patches, one trained model"}
        absent = {"reason": "one trained model gives one value: its uncertainty is the spread over seeds"}
        entries[name] = {
            "value": value,
            "n": facts["samples"],
            "unit": "synthetic patches, one trained model",
            "ci_low": low,
            "ci_high": high,
            **(absent if low is None else about),
            **{key: facts[key] for key in ("extractor", "reference") if key in facts},
            **({"sd_kmeans": values["sd_kmeans"][name]} if name in values.get("sd_kmeans", {}) else {}),
        }
    return entries


def _cost_metrics(run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    values = run.values(record, "measure")
    if not values:
        return {}
    measured = values["configurations"][record["cell"]["label"]]
    costs = StepCosts(measured["step_time_ms"], measured["peak_memory_mib"], record["cell"]["batch"])
    marks: dict[str, Any] = {"emulated": True} if measured["emulated"] else {}
    if busy := measured.get("busy"):
        marks["busy"] = busy
    entries = {}
    for name, value in (item for each in chosen("cost", {}) for item in each.by_key(each.call(costs)).items()):
        if isinstance(value, Sequence):
            entries[name] = _geometric_mean(value) | {"rounds": list(value)} | marks
        else:
            definition = values["memory_definition"] if name == "peak_memory_mib" else "an exact count"
            entries[name] = {"value": value, "n": 1, "ci_low": None, "ci_high": None, "reason": definition}
    return entries


def _geometric_mean(rounds: Sequence[float]) -> dict[str, Any]:
    """Times vary by factors, and are positive: mean and interval are of their logarithms; SD is as measured."""
    logs = mean_with_interval(np.log(rounds).tolist(), "interleaved round")
    bounds = {name: math.exp(logs[name]) for name in ("value", "ci_low", "ci_high") if logs[name] is not None}
    return logs | bounds | {"sd": float(np.std(rounds, ddof=1)) if len(rounds) > 1 else None}


def _segmentation_metrics(rows: pd.DataFrame, cell_id: str, reasons: Mapping[str, str]) -> dict[str, Any]:
    """`reasons` says of a region why its metrics have no value, where that is not for lack of brain masks."""
    entries: dict[str, Any] = {}
    of_cell = rows[(rows["cell"] == cell_id) & (rows["split"] == "test")]
    if of_cell.empty:
        return entries
    for name in _subject_metrics(of_cell):
        known = of_cell[of_cell["metric"] == name].dropna(subset="value")
        if known.empty:
            region = name.partition("/")[2]
            nothing = bool(of_cell[of_cell["metric"] == name]["empty"].any())
            reason = reasons.get(region) or (NO_VALUE if region == "all" or nothing else NO_MASK)
            entries[name] = {"value": None, "n": 0, "ci_low": None, "ci_high": None, "reason": reason}
            continue
        entries[name] = mean_with_interval(known["value"].tolist(), "test subject", range_of(name))
        entries[name]["empty"] = int(known["empty"].sum())
        of_metric = of_cell[of_cell["metric"] == name]
        if left_out := int(of_metric["empty"].sum()) - entries[name]["empty"]:  # both masks empty: nothing to compare
            entries[name]["left_out"] = left_out
    return entries


def _subject_metrics(rows: pd.DataFrame) -> list[str]:
    """The built-in ones, and whatever else the rows have, also where it is not loaded now."""
    built_in = (each for each in measurements("subject") if each.is_built_in)
    return list(dict.fromkeys([*(named.name for each in built_in for named in each.named), *rows["metric"]]))


def _brain_masks(run: Run) -> dict[str, int] | None:
    """How many subjects have a brain mask of the dataset, a computed one, and none; the intracranial values rest on it.

    None before the data are prepared.
    """
    data = next((values for record in run.cells if (values := run.values(record, "data"))), None)
    if data is None:
        return None
    computed, masks = data["brain_mask_computed"], data["with_brain_mask"]
    return {"dataset": masks - computed, "computed": computed, "none": sum(data["subjects"].values()) - masks}


def _groups(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per label, each metric over the seeds: the mean of the cells' values and its interval over trained models."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(cell["label"], []).append(cell)
    return [
        {
            "label": label,
            "seeds": [cell["seed"] for cell in members],
            "failed": sum(cell["status"] == "failed" for cell in members),
            "metrics": _over_seeds(members),
        }
        for label, members in groups.items()
    ]


def _over_seeds(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for cell in members for name in cell["metrics"])
    entries = {}
    for name in names:
        metrics = [cell["metrics"][name] for cell in members if name in cell["metrics"]]
        values = [metric["value"] for metric in metrics if metric["value"] is not None]
        if is_cost(name):
            entries[name] = metrics[0]  # measured once for all seeds
        elif values:
            entries[name] = mean_with_interval(values, "seed", range_of(name))
        else:
            entries[name] = metrics[0]
    return entries


def _floor(run: Run) -> dict[str, Any] | None:
    """What two sets of real patches of different subjects score against each other."""
    for record in run.cells:
        values = run.values(record, "reference")
        if values:
            return values
    return None


def _plain_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    plain = rows.drop(columns=["label", "seed"]).astype(object)
    plain = plain.where(plain.notna(), None)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False, name=None)]
