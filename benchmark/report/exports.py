"""results.json -> tables that people paste: CSV, Markdown and plain text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.claims.answer import summary_lines
from benchmark.claims.utility import worth_in_words
from benchmark.metrics.registry import Named, every
from vesselgan.files import write_text

__all__ = ["cell_rows", "claim_rows", "flatten", "group_rows", "write_tables"]


def write_tables(results: Mapping[str, Any], folder: Path) -> None:
    """Write `cells.csv`, `groups.csv`, `subjects.csv`, `claims.csv`, `table.md` and `summary.txt`."""
    groups = group_rows(results)
    write_text(folder / "cells.csv", pd.DataFrame(cell_rows(results)).to_csv(index=False))
    write_text(folder / "groups.csv", pd.DataFrame(groups).to_csv(index=False))
    write_text(folder / "subjects.csv", pd.DataFrame(results["subjects"]).to_csv(index=False))
    write_text(folder / "claims.csv", pd.DataFrame(claim_rows(results)).to_csv(index=False))
    write_text(folder / "table.md", _markdown(results, groups))
    write_text(folder / "summary.txt", _summary(results, groups))


def cell_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per cell and metric, with n, SD and interval."""
    facts = ("id", "label", "variant", "norm", "precision", "filters", "batch", "seed", "recipe", "status")
    return [
        {**{name: cell[name] for name in facts}, "metric": metric, **_numbers(entry)}
        for cell in results["cells"]
        for metric, entry in cell["metrics"].items()
    ]


def group_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per label and metric, over seeds."""
    return [
        {"label": group["label"], "metric": metric, **_numbers(entry)}
        for group in results["groups"]
        for metric, entry in group["metrics"].items()
    ]


def claim_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per claim without the lists behind it, which stand in results.json."""
    return [
        {name: value for name, value in flatten(claim) if not isinstance(value, list)} for claim in results["claims"]
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, each with its dotted name."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("value", "sd", "n", "unit", "ci_low", "ci_high", "empty", "reason")}


def _wide(groups: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A line per label, a column per metric that any label has."""
    metrics = [named for named in every().values() if any(row["metric"] == named.name for row in groups)]
    labels = list(dict.fromkeys(row["label"] for row in groups))
    by_place = {(row["label"], row["metric"]): row for row in groups}
    header = ["", *(named.title_with_unit for named in metrics)]
    lines = [[label, *(_cell(by_place.get((label, each.name)), each) for each in metrics)] for label in labels]
    return header, lines


def _cell(row: Mapping[str, Any] | None, named: Named) -> str:
    if row is None:
        return ""
    if row["value"] is None:
        return "n/a"
    decimals = named.metric.decimals
    spread = f" ± {row['sd']:.{decimals}f}" if row["sd"] is not None else ""
    return f"{row['value']:.{decimals}f}{spread}"


def _markdown(results: Mapping[str, Any], groups: list[dict[str, Any]]) -> str:
    header, lines = _wide(groups)
    first, *others = zip(header, *lines, strict=True)  # a line per metric: there are more of them than labels
    table = "\n".join("| " + " | ".join(row) + " |" for row in (first, ["---"] * len(first), *others))
    return f"# {results['title']}: {results['profile']}\n\nMean ± SD over seeds (costs: over rounds).\n\n{table}\n"


def _summary(results: Mapping[str, Any], groups: list[dict[str, Any]]) -> str:
    """The segmentation table and the verdicts, for a terminal."""
    shown = (
        "dsc/all",
        "dsc/intracranial",
        "bavd_voxel/all",
        "bavd_voxel/intracranial",
        "fid",
        "prd_auc",
        "step_time_ms",
    )
    header, lines = _wide([row for row in groups if row["metric"] in shown])
    widths = [max(len(row[column]) for row in [header, *lines]) for column in range(len(header))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *lines]
    ]
    claims = [f"  {claim['wording']:<14} {claim['name']}" for claim in results["claims"]]
    failed = [f"  {cell['id']}: {cell['error']}" for cell in results["cells"] if cell["status"] == "failed"]
    emulated = {cell["label"] for cell in results["cells"] if cell["metrics"].get("step_time_ms", {}).get("emulated")}
    notes = [f"{', '.join(sorted(emulated))}: emulated precision, so its speed enters no claim"] if emulated else []
    worth = [f"  {worth_in_words(arm)}" for entry in results["utility"][:1] for arm in entry["arms"]]
    answer = summary_lines(results["answer"])
    parts = ["", *table, *notes, "", *(["the answer:", *(f"  {line}" for line in answer), ""] if answer else [])]
    parts += [f"by {every()[results['utility'][0]['metric']].title}:", *worth, ""] if worth else []
    parts += ["claims:", *claims] if claims else []
    parts += ["failed:", *failed] if failed else []
    return "\n".join(parts) + "\n"
