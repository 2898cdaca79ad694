"""`claims`: the verdicts of a run, for a terminal, a program or a CI job."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import Out, RunName, app, complain, console
from benchmark.words import typed

if TYPE_CHECKING:
    from benchmark.results.judgements import ClaimResult

__all__ = ["claims"]

MUST_HOLD_REFUTED = 3
STYLES = {"supported": "green", "refuted": "red", "inconclusive": "dim"}


@app.command()
def claims(
    name: RunName,
    out: Out = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the claims of results.json, and nothing else")] = False,
) -> None:
    """Judge a run's claims from its files. Exit status 3 if one that must hold is refuted."""
    from benchmark.report.results_json import results_of
    from benchmark.results.run_folder import load_run

    judged = results_of(load_run(out, name))["claims"]
    if as_json:
        print(json.dumps(judged, indent=1, allow_nan=False))
    else:
        _show(judged)
    broken = [claim["name"] for claim in judged if claim["must_hold"] and claim["verdict"] == "refuted"]
    for text in broken:
        complain(f"refuted, though it must hold: {text}")
    if broken:
        raise typer.Exit(MUST_HOLD_REFUTED)


def _show(judged: "Sequence[ClaimResult]") -> None:
    from benchmark.claims.wording import remarks_of, unit_words
    from benchmark.report.sections.text import signed, unit_of

    if not judged:
        console.print("this protocol makes no claims")
        return
    table = Table("verdict", "claim", "effect", "95 % interval", "n", "test", "p", "Holm", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for claim in judged:
        decimals = unit_of(claim["metric"])[0]
        table.add_row(
            f"[{STYLES[claim['verdict']]}]{claim['wording']}[/]",
            escape(claim["name"]) + (" (must hold)" if claim["must_hold"] else ""),
            "" if claim["effect"] is None else typed(signed(claim["effect"], decimals)),
            _interval(claim, decimals),
            unit_words(claim),
            claim["test"] or "",
            _p(claim["p"]),
            _p(claim["p_corrected"]),
        )
    console.print(table)
    for claim in judged:
        remarks = remarks_of(claim)
        if remarks:
            console.print(f"\n{claim['name']}:", highlight=False, soft_wrap=True)
        for remark in remarks:
            console.print(f"  {remark}", highlight=False, soft_wrap=True)


def _interval(claim: "ClaimResult", decimals: int) -> str:
    from benchmark.report.sections.text import interval

    if claim["ci_low"] is None or claim["test"] is None:
        return ""
    return typed(interval(claim["ci_low"], claim["ci_high"], decimals)).replace("[", r"\[", 1)


def _p(p: float | None) -> str:
    from benchmark.words import p_words

    return "" if p is None else p_words(p).removeprefix("= ")
