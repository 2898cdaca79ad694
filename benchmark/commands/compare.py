"""`compare`: two runs, two commits or two machines, or a run and a published one, by their results."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import Name, Out, command, complain, console
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.claims.two_runs import RunComparison, Tolerance
    from benchmark.results.earlier import FoundResults

__all__ = ["CompareOptions", "compare"]

REGRESSION = 3
STYLES = {"regression": "red", "lost": "red", "better": "green", "worse": "yellow", "same": "dim"}


@dataclass(frozen=True)
class CompareOptions:
    """What `compare` is asked for."""

    first: Annotated[
        str,
        typer.Argument(metavar="A", help="A run's name, a folder with its report or its run, or a results.json"),
    ]
    second: Annotated[str, typer.Argument(metavar="B", help="The same, for what is judged against A")]
    out: Out = Path()
    html: Annotated[bool, typer.Option("--html", help="Write a page and comparison.json under reports/, too")] = False
    name: Name = None
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="[METRIC=]LIMIT",
            help="How much worse is no regression: 5%, or for one metric dsc/all=0.01 or step_time_ms=20%; repeat it",
        ),
    ] = None
    every: Annotated[bool, typer.Option("--all", help="Print every metric that both runs have")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and nothing else")] = False


@command
def compare(asked: CompareOptions) -> None:
    """Say what changed from run A to run B, and what got worse. Exit status 3 if something did beyond the tolerance."""
    from benchmark.claims.two_runs import compare_runs
    from benchmark.results.earlier import find_results

    tolerance = _tolerance(asked.tolerance or [])
    first, second = (find_results(source, asked.out) for source in (asked.first, asked.second))
    if first.path.resolve() == second.path.resolve():
        raise InputError(f"{first.path}: named twice; there is nothing to compare a run with itself by")
    compared = compare_runs(first.results, second.results, tolerance)
    if asked.html:
        from benchmark.report.comparison_page import write_run_comparison

        page = write_run_comparison(first, second, compared, asked.out / "reports" / _folder(asked, first, second))
    if asked.as_json:
        print(json.dumps({"first": str(first.path), "second": str(second.path), **asdict(compared)}, indent=1))
    else:
        _show(first, second, compared, everything=asked.every)
        if asked.html:
            console.print(f"page: {page}", soft_wrap=True, highlight=False)
    for line in compared.regressions:
        complain(f"regression: {line}")
    if compared.regressions:
        raise typer.Exit(REGRESSION)


def _folder(asked: CompareOptions, first: "FoundResults", second: "FoundResults") -> str:
    names = [each.path.resolve().parent.name for each in (first, second)]
    chosen = asked.name or f"compare-{names[0]}-{names[1]}"
    if Path(chosen).name != chosen or chosen in ("", ".", ".."):
        raise InputError(f"--name {chosen!r}: give a name without /, for a folder in {asked.out / 'reports'}")
    return chosen


def _tolerance(given: Sequence[str]) -> "Tolerance":
    """Raises InputError for what is no limit, or of no metric."""
    from benchmark.claims.two_runs import Tolerance
    from benchmark.metrics.registry import every
    from vesselgan.errors import did_you_mean

    usual = Tolerance()
    share, shares, amounts = usual.share, dict(usual.shares), {}
    for text in given:
        metric, _, limit = text.rpartition("=")
        try:
            value = float(limit.removesuffix("%"))
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise InputError(f"--tolerance {text!r}: give a limit such as 5%, dsc/all=0.01 or step_time_ms=20%")
        if metric and metric not in every():
            raise InputError(f"--tolerance {text!r}: no metric {metric!r}{did_you_mean(metric, list(every()))}")
        if limit.endswith("%"):
            if metric:
                shares[metric] = value / 100
            else:
                share = value / 100
        elif metric:
            amounts[metric] = value
        else:
            raise InputError(
                f"--tolerance {text!r}: an amount is of one metric, such as dsc/all={text}; all share a 5%"
            )
    return Tolerance(share, shares, amounts)


def _show(first: "FoundResults", second: "FoundResults", compared: "RunComparison", *, everything: bool) -> None:
    from benchmark.claims.two_runs import JUDGED
    from benchmark.report.sections.run_comparison import change_rows, difference_rows, side_lines, stage_line

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    for line in [*side_lines(first, second), *compared.notes]:
        say(line)
    say("\nwhat changed")
    rows = change_rows(compared)
    table = Table("", "", "A", "B", box=None, pad_edge=False, show_header=bool(rows))
    for group, name, before, after in rows:
        table.add_row(group, *map(escape, (name, before, after)))
    console.print(table)
    say(stage_line(compared))
    for cell in compared.not_repeated:
        say(f"{cell}: all of its stages are the same, and its results are not")
    for what, cells in (("A", compared.only_first), ("B", compared.only_second)):
        if cells:
            say(f"only in {what}: {', '.join(cells)}")
    shown = [
        row
        for row in difference_rows(compared)
        if everything or row.state in ("regression", "lost") or (row.metric in JUDGED and row.state != "same")
    ]
    say("\nresults" if shown else "\nresults: none of the main metrics moved")
    why = {row.cells[-1]: None for row in shown if row.cells[-1].startswith("no test")}  # said once, below
    columns = ("", "label", "metric", "A", "B", "B - A", "95 % interval", "n", "p", "")
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in shown:
        style = STYLES.get(row.state, "")
        cells = [escape(text) for text in (*row.cells[:-1], "" if row.cells[-1] in why else row.cells[-1])]
        table.add_row(f"[{style}]{row.state}[/{style}]" if style else row.state, *cells)
    if shown:
        console.print(table)
    for reason in why:
        say(reason)
    for verdict in compared.verdicts:
        say(f"claim: {verdict.claim}: {verdict.first} -> {verdict.second}")
    count = len(compared.regressions)
    say(f"\n{'no regression' if not count else '1 regression' if count == 1 else f'{count} regressions'}")
