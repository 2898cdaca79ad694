"""Two runs side by side, as the terminal and the page of `compare` show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.claims.two_runs import Difference, RunComparison
from benchmark.report.sections.tables import Column, Entry, Row, Table
from benchmark.report.sections.text import number, signed, unit_of
from benchmark.results.earlier import FoundResults
from benchmark.words import p_words, plural, typed

__all__ = [
    "DifferenceRow",
    "RunComparisonView",
    "change_rows",
    "difference_rows",
    "run_comparison_view",
    "side_lines",
    "stage_line",
]

LONGEST = 60  # letters of a value
GROUPS = ("options", "environment", "data", "kernels")


@dataclass(frozen=True)
class DifferenceRow:
    """A line of the table of results; `cells` begin with label and metric."""

    state: str
    metric: str
    cells: Sequence[str]


@dataclass(frozen=True)
class RunComparisonView:
    """Everything that the page of `compare` shows."""

    sides: Sequence[str]
    regressions: Sequence[str]
    notes: Sequence[str]
    stages: str
    changes: Table
    unchanged: str
    moved: Table
    same: Table
    verdicts: Sequence[str]
    cells: Sequence[str]


def side_lines(first: FoundResults, second: FoundResults) -> list[str]:
    """Which two runs these are."""
    return [f"{letter}: {_side(found)}" for letter, found in (("A", first), ("B", second))]


def _side(found: FoundResults) -> str:
    results = found.results
    environment = results["environment"]
    machine = environment.get("machine", {})
    commit = str(environment.get("commit") or "no commit")[:12] + (", edited" if environment.get("dirty") else "")
    done = sum(cell["status"] == "done" for cell in results["cells"])
    where = f"{machine.get('gpu', machine.get('cpu', 'unknown machine'))}, {plural(machine.get('cores', '?'), 'core')}"
    cells = f"{done} of {plural(len(results['cells']), 'cell')} done"
    return f"{results['protocol']}-{results['profile']}, {cells}; {commit}; {where}; {found.path}"


def change_rows(compared: RunComparison) -> list[tuple[str, str, str, str]]:
    """Group, name and both values; a group without changes says so, and a change of many cells is one line."""
    rows: list[tuple[str, str, str, str]] = []
    for group in GROUPS:
        lines = [
            (group, change.name, _value(change.first), _value(change.second))
            for change in compared.changes
            if change.group == group
        ]
        rows += lines or [(group, "nothing", "", "")]
    return rows


def _value(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def stage_line(compared: RunComparison) -> str:
    """How much of the work is the same by its keys."""
    if not compared.stages:
        return "stages: one of them does not tell its stages"
    return f"stages: {compared.same_stages} of {compared.stages} in B are those of A"


def difference_rows(compared: RunComparison) -> list[DifferenceRow]:
    """All metrics that both runs have, arm by arm."""
    return [DifferenceRow(each.state, each.metric, _cells(each)) for each in compared.differences]


def _cells(each: Difference) -> list[str]:
    decimals, _ = unit_of(each.metric)
    first, second = ("n/a" if value is None else number(value, decimals) for value in (each.first, each.second))
    difference = "" if each.difference is None else signed(each.difference, decimals)
    bounds = ""
    if each.ci_low is not None and each.ci_high is not None:
        bounds = f"[{number(each.ci_low, decimals)}, {number(each.ci_high, decimals)}]"
    count = plural(each.n, each.unit) if each.n else ""
    p = "" if each.p is None else p_words(each.p).removeprefix("= ")
    texts = [first, second, difference, bounds]
    # With the signs of a keyboard, since numbers are copied into other programs.
    plain = [typed(text) for text in texts]
    return [each.label, each.metric, *plain, count, p, each.note or ""]


def run_comparison_view(first: FoundResults, second: FoundResults, compared: RunComparison) -> RunComparisonView:
    """Tables and sentences of the page."""
    rows = difference_rows(compared)
    changed = [row for row in change_rows(compared) if row[1] != "nothing"]
    cells = [f"{cell}: all of its stages are the same, and its results are not" for cell in compared.not_repeated]
    cells += [f"{cell}: only in A" for cell in compared.only_first]
    cells += [f"{cell}: only in B" for cell in compared.only_second]
    return RunComparisonView(
        sides=side_lines(first, second),
        regressions=compared.regressions,
        notes=compared.notes,
        stages=stage_line(compared),
        changes=Table(
            [Column("what", ""), Column("A", ""), Column("B", "")],
            [Row(None, [Entry(text) for text in row[1:]], row[0]) for row in changed],
        ),
        unchanged=", ".join(row[0] for row in change_rows(compared) if row[1] == "nothing"),
        moved=_table([row for row in rows if row.state != "same"]),
        same=_table([row for row in rows if row.state == "same"]),
        verdicts=[f"{each.claim}: {each.first}, then {each.second}" for each in compared.verdicts],
        cells=cells,
    )


def _table(rows: Sequence[DifferenceRow]) -> Table:
    titles = ("metric", "", "A", "B", "B - A", "95 % interval", "n", "p", "remark")
    columns = [Column(title, "") for title in titles]
    lines = [
        Row(None, [Entry(text) for text in (row.cells[1], row.state, *row.cells[2:])], row.cells[0]) for row in rows
    ]
    return Table(columns, lines)
