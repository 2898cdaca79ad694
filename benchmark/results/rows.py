"""The scores of single subjects: read, and taken over seeds. Pure: no torch, no plots."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.artifacts.reading import REMEDY
from benchmark.artifacts.roles import Role
from benchmark.metrics.registry import every
from benchmark.results.format import OverSubjects, RankedSubject, SubjectRow
from benchmark.results.run_folder import CellRecord, Run
from benchmark.scoring.masks import best_values
from vesselgan.errors import InputError

__all__ = ["of_people", "over_subjects", "plain_rows", "ranking", "sample_sd", "scan_rows", "subject_rows"]

# What `evaluate` writes; no value where the metric does not exist for the subject.
COLUMNS = {"split": str, "subject": str, "metric": str, "value": np.float64, "empty": np.int64}
RANKED_BY = "dsc/all"


def subject_rows(run: Run, records: Sequence[CellRecord] | None = None) -> pd.DataFrame:
    """One row per cell, split, person and metric; `value` is NaN where the metric does not exist for the person."""
    return of_people(scan_rows(run, records), run.persons())


def of_people(rows: pd.DataFrame, persons: Mapping[str, str]) -> pd.DataFrame:
    """The rows of scans with the mean over a person's scans in place of them: what is drawn at random are people.

    `empty` is set where one of the scans has it.
    """
    if not persons:
        return rows
    named = rows.assign(subject=[persons.get(key, key) for key in rows["subject"]])
    by = [name for name in rows.columns if name not in ("value", "empty")]
    return named.groupby(by, sort=False, as_index=False).agg(value=("value", "mean"), empty=("empty", "max"))


def scan_rows(run: Run, records: Sequence[CellRecord] | None = None) -> pd.DataFrame:
    """One row per cell, split, scan and metric; `value` is NaN where the metric does not exist for the scan."""
    frames = []
    for record in run.cells if records is None else records:
        path = run.file(record, Role.EVALUATE, "subjects.csv")
        if path:
            cell = record["cell"]
            frames.append(_read(path).assign(cell=cell["id"], label=cell["label"], seed=cell["seed"]))
    columns = ["cell", "label", "seed", *COLUMNS]
    if not frames:
        return pd.DataFrame(columns=columns)
    rows = pd.concat(frames, ignore_index=True)[columns]
    return _perfect_where_empty(rows) if run.plan.get("both_empty") == "perfect" else rows


def plain_rows(rows: pd.DataFrame) -> list[SubjectRow]:
    """The same for JSON."""
    plain = rows[["cell", *COLUMNS]].astype(object)
    plain = plain.where(plain.notna(), None)
    return [
        {"cell": cell, "split": split, "subject": subject, "metric": metric, "value": value, "empty": empty}
        for cell, split, subject, metric, value, empty in plain.itertuples(index=False, name=None)
    ]


def over_subjects(rows: pd.DataFrame, arm: str) -> dict[str, OverSubjects]:
    """Of the arm of this label, by metric: each test subject's mean over seeds; mean and SD over subjects."""
    of_arm = rows[(rows["label"] == arm) & (rows["split"] == "test")].dropna(subset="value")
    values: dict[str, dict[str, list[float]]] = {}
    for metric, subject, value in zip(*(of_arm[name] for name in ("metric", "subject", "value")), strict=True):
        values.setdefault(metric, {}).setdefault(subject, []).append(float(value))
    return {metric: _over(subjects) for metric, subjects in values.items()}


def ranking(rows: pd.DataFrame) -> list[RankedSubject]:
    """The test subjects from the lowest mean over each arm's first cell to the highest."""
    first = rows.drop_duplicates("label")["cell"]
    known = rows[rows["cell"].isin(first) & (rows["split"] == "test") & (rows["metric"] == RANKED_BY)]
    values: dict[str, list[float]] = {}
    for subject, value in zip(known["subject"], known["value"], strict=True):
        if value == value:
            values.setdefault(subject, []).append(float(value))
    means = {subject: float(np.mean(column)) for subject, column in values.items()}
    return [{"subject": key, "value": means[key]} for key in sorted(means, key=lambda key: (means[key], key))]


def sample_sd(values: Sequence[float]) -> float | None:
    """None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _perfect_where_empty(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of regions in which truth and prediction are both empty, so that not even a DSC exists, made perfect."""
    missing = rows["value"].isna() & (rows["empty"] == 1)
    regions = rows["metric"].str.rpartition("/")[2]
    places = pd.MultiIndex.from_arrays([rows["cell"], rows["split"], rows["subject"], regions])
    nothing = places.isin(places[missing & rows["metric"].str.startswith("dsc/")])
    has_mm = any(rows.loc[rows["metric"] == name, "value"].notna().any() for name in _in_mm())
    best = rows["metric"].map(best_values(has_mm=has_mm))
    return rows.assign(value=rows["value"].mask(nothing & missing, best))


def _in_mm() -> list[str]:
    return [name for name, named in every("subject").items() if named.metric.unit == "mm"]


def _over(subjects: Mapping[str, Sequence[float]]) -> OverSubjects:
    means = {subject: sum(seeds) / len(seeds) for subject, seeds in subjects.items()}
    return {"value": float(np.mean(list(means.values()))), "sd": sample_sd(list(means.values())), "subjects": means}


def _read(path: Path) -> pd.DataFrame:
    try:
        # A subject may be called 007, or NA.
        frame = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values={"value": [""]})
        if missing := [name for name in COLUMNS if name not in frame]:
            raise ValueError(f"no column {', '.join(missing)}")
        if np.isinf(frame["value"]).any():
            raise ValueError("a value is not finite")
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: is no table of scores ({' '.join(str(error).split())}); {REMEDY}") from None
    return frame
