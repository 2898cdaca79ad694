"""results.json -> tables that people paste: CSV, Markdown and plain text."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.claims.answer import summary_lines
from benchmark.claims.utility import worth_in_words
from benchmark.metric_names import METRIC_NAMES
from benchmark.results.format import GroupResult, MetricValue, Results
from vesselgan.files import write_text

__all__ = ["flatten", "write_tables"]

OF_CELL = ("id", "label", "variant", "norm", "precision", "filters", "batch", "seed", "recipe", "status")
OF_METRIC = ("value", "sd", "n", "unit", "ci_low", "ci_high", "empty", "reason")
IN_SUMMARY = (
    "dsc/all",
    "dsc/intracranial",
    "bavd_voxel/all",
    "bavd_voxel/intracranial",
    "fid",
    "prd_auc",
    "step_time_ms",
)


def write_tables(results: Results, folder: Path) -> None:
    """Write `cells.csv`, `groups.csv`, `subjects.csv`, `claims.csv`, `table.md` and `summary.txt`."""
    write_text(folder / "cells.csv", _cells(results).to_csv(index=False))
    write_text(folder / "groups.csv", _groups(results).to_csv(index=False))
    write_text(folder / "subjects.csv", pd.DataFrame(results["subjects"]).to_csv(index=False))
    write_text(folder / "claims.csv", _claims(results).to_csv(index=False))
    write_text(folder / "table.md", _markdown(results))
    write_text(folder / "summary.txt", _summary(results))


def _cells(results: Results) -> pd.DataFrame:
    """One row per cell and metric, with n, SD and interval."""
    rows = [
        [*_some(cell, OF_CELL), metric, *_some(entry, OF_METRIC)]
        for cell in results["cells"]
        for metric, entry in cell["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=[*OF_CELL, "metric", *OF_METRIC])


def _groups(results: Results) -> pd.DataFrame:
    """One row per label and metric, over seeds."""
    rows = [
        [group["label"], metric, *_some(entry, OF_METRIC)]
        for group in results["groups"]
        for metric, entry in group["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=["label", "metric", *OF_METRIC])


def _some(row: Mapping[str, object], names: Sequence[str]) -> list[object]:
    return [row.get(name) for name in names]


def _claims(results: Results) -> pd.DataFrame:
    """One row per claim without the lists behind it, which stand in results.json."""
    rows = [
        {name: value for name, value in flatten(claim) if not isinstance(value, list)} for claim in results["claims"]
    ]
    return pd.DataFrame(rows)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, each with its dotted name."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _wide(groups: Sequence[GroupResult], shown: Collection[str]) -> tuple[list[str], list[list[str]]]:
    """A line per arm, a column per metric of those shown that any arm has."""
    metrics = [name for name in METRIC_NAMES if name in shown and any(name in group["metrics"] for group in groups)]
    known = [group for group in groups if not group["metrics"].keys().isdisjoint(metrics)]
    header = ["", *(_title(name) for name in metrics)]
    return header, [[g["label"], *(_cell(g["metrics"].get(name), name) for name in metrics)] for g in known]


def _title(metric: str) -> str:
    name, _, unit = METRIC_NAMES[metric]
    return f"{name} ({unit})" if unit else name


def _cell(entry: MetricValue | None, metric: str) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "n/a"
    decimals, sd = METRIC_NAMES[metric][1], entry.get("sd")
    spread = f" ± {sd:.{decimals}f}" if sd is not None else ""
    return f"{entry['value']:.{decimals}f}{spread}"


def _markdown(results: Results) -> str:
    header, lines = _wide(results["groups"], METRIC_NAMES)
    first, *others = zip(header, *lines, strict=True)  # a line per metric: there are more of them than arms
    table = "\n".join("| " + " | ".join(row) + " |" for row in (first, ["---"] * len(first), *others))
    return f"# {results['title']}: {results['profile']}\n\nMean ± SD over seeds (costs: over rounds).\n\n{table}\n"


def _summary(results: Results) -> str:
    """The segmentation table and the verdicts, for a terminal."""
    header, lines = _wide(results["groups"], IN_SUMMARY)
    widths = [max(len(row[column]) for row in [header, *lines]) for column in range(len(header))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *lines]
    ]
    claims = [f"  {claim['wording']:<14} {claim['name']}" for claim in results["claims"]]
    failed = [f"  {cell['id']}: {cell['error']}" for cell in results["cells"] if cell["status"] == "failed"]
    times = {cell["label"]: cell["metrics"].get("step_time_ms") for cell in results["cells"]}
    emulated = {label for label, time in times.items() if time and time.get("emulated")}
    notes = [f"{', '.join(sorted(emulated))}: emulated precision, so its speed enters no claim"] if emulated else []
    worth = [f"  {worth_in_words(arm)}" for entry in results["utility"][:1] for arm in entry["arms"]]
    answer = summary_lines(results["answer"])
    parts = ["", *table, *notes, "", *(["the answer:", *(f"  {line}" for line in answer), ""] if answer else [])]
    parts += [f"by {METRIC_NAMES[results['utility'][0]['metric']][0]}:", *worth, ""] if worth else []
    parts += ["claims:", *claims] if claims else []
    parts += ["failed:", *failed] if failed else []
    return "\n".join(parts) + "\n"
