"""Run folders -> tidy rows -> the content of results.json. Pure: no torch, no plots."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.claims.language import COST_METRICS
from benchmark.store import Store
from benchmark.vocabulary import REGIONS, SEGMENTATION_METRICS
from vesselgan.errors import InputError

__all__ = ["Run", "cell_line", "load_run", "mean_with_interval", "run_names", "subject_rows", "summarise"]

CONFIDENCE = 0.95


class Run:
    """The cells of one run folder with what their finished stages say."""

    def __init__(self, runs: Path, name: str) -> None:
        self.store = Store(runs)
        self.folder = runs / name
        self.name = name
        self.environment: dict[str, Any] = _json(self.folder / "environment.json")
        self.plan: dict[str, Any] = _json(self.folder / "run.json")
        if "cells" not in self.plan:
            raise InputError(f"{self.folder / 'run.json'}: lists no cells; run the protocol again to rebuild it")
        order = {cell_id: index for index, cell_id in enumerate(self.plan["cells"])}
        records = [_json(path) for path in (self.folder / "cells").glob("*.json")]
        self.cells = sorted(records, key=lambda record: order[record["cell"]["id"]])

    def values(self, record: Mapping[str, Any], role: str) -> dict[str, Any] | None:
        """The values of a cell's stage, or None where it is not done."""
        key = record["stages"].get(role)
        result = self.store.result(key) if key else None
        return result["values"] if result else None

    def file(self, record: Mapping[str, Any], role: str, name: str) -> Path | None:
        """A file of a cell's finished stage, or None."""
        key = record["stages"].get(role)
        if key is None or not self.store.done(key):
            return None
        path = self.store.folder(key) / name
        return path if path.is_file() else None

    def seconds(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Wall time of each of the cell's finished stages by role, those shared with other cells included."""
        results = {role: self.store.result(key) for role, key in record["stages"].items()}
        return {role: round(float(result["facts"]["seconds"]), 1) for role, result in results.items() if result}

    def subjects(self) -> Mapping[str, int]:
        """Subjects per split as prepared, or as planned where the data stage has not finished."""
        prepared = (values for record in self.cells if (values := self.values(record, "data")))
        counts: Mapping[str, int] = next(prepared, {}).get("subjects") or self.plan["settings"].get("split", {})
        return counts

    def status(self, record: Mapping[str, Any]) -> str:
        """`done`, `failed` or `unfinished`."""
        keys = record["stages"].values()
        if all(self.store.done(key) for key in keys):
            return "done"
        return "failed" if self.failure(record) else "unfinished"

    def failure(self, record: Mapping[str, Any]) -> str | None:
        """The message of the first stage of the cell that failed."""
        for role, key in record["stages"].items():
            if not self.store.done(key) and (error := self.store.error(key)):
                return f"{role}: {error['message']}"
        return None


def load_run(out: Path, name: str) -> Run:
    """The run folder `runs/NAME`. Raises InputError where there is none."""
    folder = out / "runs" / name
    if not (folder / "run.json").is_file():
        known = run_names(out / "runs") or "none"
        raise InputError(f"{folder}: no run there; runs here: {known} (--out names another folder)")
    return Run(out / "runs", name)


def run_names(runs: Path) -> str:
    """The runs in this folder, with commas between; empty where there is none."""
    return ", ".join(sorted(path.parent.name for path in runs.glob("*/run.json")))


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


def mean_with_interval(values: Sequence[float], unit: str) -> dict[str, Any]:
    """Mean, SD and Student's 95 % interval of the mean over `unit`s; None with a reason where one value is too few."""
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    entry: dict[str, Any] = {
        "value": float(sample.mean()),
        "n": n,
        "unit": unit,
        "sd": None,
        "ci_low": None,
        "ci_high": None,
    }
    if n < 2:
        entry["reason"] = f"no interval from one {unit}"
        return entry
    sd = float(sample.std(ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return entry | {"sd": sd, "ci_low": entry["value"] - half, "ci_high": entry["value"] + half}


def summarise(run: Run, rows: pd.DataFrame) -> dict[str, Any]:
    """Everything of results.json but the claims; `rows` are the run's `subject_rows`."""
    cells = [_cell_entry(run, record, rows) for record in run.cells]
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


def _cell_entry(run: Run, record: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    cell = record["cell"]
    entry = {name: cell[name] for name in ("id", "label", "variant", "norm", "precision", "filters", "batch", "seed")}
    score = run.values(record, "score") or {}
    seconds = run.seconds(record)
    metrics = {**_score_metrics(score), **_cost_metrics(run, record), **_segmentation_metrics(rows, cell["id"])}
    return entry | {
        **{name: cell.get(name) for name in ("external", "real_subjects", "mixed_with")},  # absent from earlier runs
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
    batch = record["cell"]["batch"]
    times = measured["step_time_ms"]
    throughput = [1000 * batch / time for time in times]
    entries = {
        "step_time_ms": _geometric_mean(times) | {"rounds": times},
        "patches_per_s": _geometric_mean(throughput) | {"rounds": throughput},
        "peak_memory_mib": {"value": measured["peak_memory_mib"], "n": 1, "ci_low": None, "ci_high": None},
    }
    entries["peak_memory_mib"]["reason"] = values["memory_definition"]
    if measured["emulated"]:
        for name in ("step_time_ms", "patches_per_s"):
            entries[name]["emulated"] = True
    return entries


def _geometric_mean(rounds: Sequence[float]) -> dict[str, Any]:
    """Times vary by factors, and are positive: mean and interval are of their logarithms; SD is as measured."""
    logs = mean_with_interval(np.log(rounds).tolist(), "interleaved round")
    bounds = {name: math.exp(logs[name]) for name in ("value", "ci_low", "ci_high") if logs[name] is not None}
    return logs | bounds | {"sd": float(np.std(rounds, ddof=1)) if len(rounds) > 1 else None}


def _segmentation_metrics(rows: pd.DataFrame, cell_id: str) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    of_cell = rows[(rows["cell"] == cell_id) & (rows["split"] == "test")]
    if of_cell.empty:
        return entries
    for metric in SEGMENTATION_METRICS:
        for region in REGIONS:
            name = f"{metric}/{region}"
            of_metric = of_cell[of_cell["metric"] == name]
            known = of_metric.dropna(subset="value")
            if known.empty:
                entries[name] = {
                    "value": None,
                    "n": 0,
                    "ci_low": None,
                    "ci_high": None,
                    "reason": "the dataset has no brain mask, so intracranial vessels cannot be told apart",
                }
                continue
            entries[name] = mean_with_interval(known["value"].tolist(), "test subject")
            entries[name]["empty"] = int(known["empty"].sum())
    return entries


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
        if name in COST_METRICS:
            entries[name] = metrics[0]  # measured once for all seeds
        elif values:
            entries[name] = mean_with_interval(values, "seed")
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


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the protocol again to rebuild it") from None
    return content


def cell_line(run: Run, cell_id: str) -> str:
    """One line about a cell for the terminal: its main numbers, or what went wrong."""
    record = next(record for record in run.cells if record["cell"]["id"] == cell_id)
    if message := run.failure(record):
        return f"{cell_id}: {message}"
    if run.status(record) != "done":
        return f"{cell_id}: not run, since a stage before it failed"
    metrics = _cell_entry(run, record, subject_rows(run, [record]))["metrics"]
    shown = {"fid": "FID", "prd_auc": "PRD area", "dsc/all": "DSC all", "dsc/intracranial": "DSC intracranial"}
    parts = [
        f"{text} {metrics[name]['value']:.3g}"
        for name, text in shown.items()
        if metrics.get(name, {}).get("value") is not None
    ]
    if not parts and "step_time_ms" in metrics:
        parts = [f"{metrics['step_time_ms']['value']:.3g} ms a step"]
    return f"{cell_id}: {', '.join(parts)}"
