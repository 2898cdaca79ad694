"""results.json -> tables that people paste: CSV, Markdown and plain text."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmark.claims.answer import summary_lines
from benchmark.claims.utility import worth_in_words
from benchmark.metrics.registry import Named, every
from benchmark.results.format import GroupResult, MetricValue, Results
from benchmark.words import left_out_words
from vesselgan.files import write_text

__all__ = ["flatten", "write_tables"]

OF_CELL = ("id", "label", "variant", "norm", "precision", "filters", "batch", "seed", "recipe", "status")
OF_METRIC = ("value", "sd", "n", "unit", "ci_low", "ci_high", "empty", "left_out", "reason")
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


def flatten(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings, each with its dotted name."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _wide(groups: Sequence[GroupResult], shown: Collection[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """A line per arm, a column per metric (of those `shown`) that any arm has."""
    metrics = [
        named
        for named in every().values()
        if (shown is None or named.name in shown) and any(named.name in group["metrics"] for group in groups)
    ]
    header = ["", *(named.title_with_unit for named in metrics)]
    known = [group for group in groups if any(named.name in group["metrics"] for named in metrics)]
    lines = [[group["label"], *(_cell(group["metrics"].get(each.name), each) for each in metrics)] for group in known]
    return header, lines


def _cell(entry: MetricValue | None, named: Named) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "n/a"
    decimals, sd = named.metric.decimals, entry.get("sd")
    spread = f" ± {sd:.{decimals}f}" if sd is not None else ""
    return f"{entry['value']:.{decimals}f}{spread}"


def _markdown(results: Results) -> str:
    header, lines = _wide(results["groups"])
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
    notes += [
        f"{group['label']}, {every()[name].title_with_unit}: {left_out_words(left_out)}"
        for group in results["groups"]
        for name in ("dsc/all", "dsc/intracranial")
        if name in group["metrics"] and (left_out := group["metrics"][name].get("left_out_segmentations"))
    ]
    worth = [f"  {worth_in_words(arm)}" for entry in results["utility"][:1] for arm in entry["arms"]]
    answer = summary_lines(results["answer"])
    if results["is_trial"]:
        notes.insert(
            0, f"! the {results['profile']} profile only shows that every part works: these numbers mean nothing"
        )
    parts = ["", *table, *notes, "", *(["the answer:", *(f"  {line}" for line in answer), ""] if answer else [])]
    parts += [f"by {every()[results['utility'][0]['metric']].title}:", *worth, ""] if worth else []
    parts += ["claims:", *claims] if claims else []
    parts += ["failed:", *failed] if failed else []
    return "\n".join(parts) + "\n"
