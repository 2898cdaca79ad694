"""`runs`, `gc` and `logs`: what there is, what no run needs, and what a cell's stages said."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import Out, app, complain, console
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.results.run_folder import CellRecord, Run

__all__ = ["gc", "list_all_runs", "logs"]

STYLES = {"done": "green", "failed": "red", "damaged": "red"}
YOUNG_HOURS = 1.0  # what is younger may belong to a run that is being planned


@app.command("runs")
def list_all_runs(
    out: Out = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON, and nothing else")] = False,
) -> None:
    """List the runs here: cells, status, what each takes of the disk and alone would free, date and commit."""
    from benchmark.results.run_list import list_runs

    found = list_runs(out)
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=1, allow_nan=False))
        return
    if not found:
        console.print(f"no run in {out / 'runs'}; 'run PROTOCOL' makes one", soft_wrap=True, highlight=False)
        return
    table = Table("run", "protocol", "profile", "status", "cells", "size", "alone", "date", "commit", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for run in found:
        style = STYLES.get(run.status, "yellow")
        failed = f", {run.failed} failed" if run.failed else ""
        cells = "" if run.error else f"{run.done} of {run.cells}{failed}"
        commit = (run.commit or "-")[:10] + ("*" if run.dirty else "")
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.date))
        sizes = ("", "") if run.error else (_bytes(run.bytes_used), _bytes(run.bytes_alone))
        names = map(escape, (run.name, run.protocol, run.profile))
        table.add_row(*names, f"[{style}]{run.status}[/{style}]", cells, *sizes, date, commit)
    console.print(table)
    for run in found:
        if run.error:
            complain(run.error)


@app.command()
def gc(
    out: Out = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Remove them without asking")] = False,
    older_than: Annotated[
        float,
        typer.Option("--older-than", min=0, metavar="HOURS", help="Only what nothing was written into for so long"),
    ] = YOUNG_HOURS,
) -> None:
    """List the stages that no run here needs, how much they take, and remove them if you agree."""
    from benchmark.artifacts.store import Store
    from benchmark.results.run_list import remove_stage, unneeded_stages

    found = unneeded_stages(out)
    old = [stage for stage in found if stage.hours >= older_than]
    for stage in old:
        console.print(f"{_bytes(stage.bytes_used):>9}  {stage.key}", soft_wrap=True, highlight=False)
    if young := len(found) - len(old):
        console.print(f"{young} more, younger than {older_than:g} h, may belong to a run that begins; --older-than 0")
    if not old:
        console.print("nothing to remove: a run needs every other stage", soft_wrap=True, highlight=False)
        return
    total = _bytes(sum(stage.bytes_used for stage in old))
    stages = "1 stage" if len(old) == 1 else f"{len(old)} stages"
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                f"{out / 'runs/stages'}: {stages} with {total} to remove; give --yes where nobody can be asked"
            )
        if not typer.confirm(f"Remove {stages}, {total}?"):
            return
    store = Store(out / "runs")
    kept = [stage.key for stage in old if not remove_stage(store, stage.key)]
    freed = _bytes(sum(stage.bytes_used for stage in old if stage.key not in kept))
    console.print(f"{len(old) - len(kept)} removed, {freed} freed", highlight=False)
    for key in kept:
        console.print(f"{key}: kept, since another process works on it", soft_wrap=True, highlight=False)


@app.command()
def logs(
    cell: Annotated[
        str | None, typer.Argument(metavar="[CELL]", help="A cell's id: SN_f64_s0; the log of the run if left out")
    ] = None,
    name: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Its run, where several have it")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="ROLE", help="One stage only: gan, unet, score")
    ] = None,
    out: Out = Path(),
) -> None:
    """Print what the stages of a cell said, in their order, and why one failed; without a cell, the log of a run."""
    from benchmark.results.run_folder import load_run, run_names

    names = [name] if name else sorted(path.parent.name for path in (out / "runs").glob("*/run.json"))
    runs = [load_run(out, each) for each in names]
    if cell is None:
        if len(runs) != 1:
            raise InputError(f"{out / 'runs'}: which run? --run NAME; there: {run_names(out / 'runs') or 'none'}")
        _print_file(runs[0].folder / "log.txt", f"{runs[0].name}: no log; runs of earlier versions wrote none")
        return
    found = [(run, record) for run in runs for record in run.cells if record["cell"]["id"] == cell]
    if len(found) != 1:
        if found:
            raise InputError(
                f"{cell}: in several runs ({', '.join(run.name for run, _ in found)}); --run NAME names one"
            )
        known = sorted({record["cell"]["id"] for run in runs for record in run.cells})
        raise InputError(
            f"{cell}: no such cell in {', '.join(names) or 'any run'}; there: {', '.join(known) or 'none'}"
        )
    _print_logs(*found[0], stage)


def _print_logs(run: "Run", record: "CellRecord", only: str | None) -> None:
    if only is not None and only not in record["stages"]:
        raise InputError(f"--stage {only}: {record['cell']['id']} has {', '.join(record['stages'])}")
    for role, key in record["stages"].items():
        if only not in (None, role):
            continue
        error = run.store.error(key)
        state = "done" if run.store.done(key) else "failed" if error else "not done"
        console.print(f"[bold]{role}[/bold] {key}: {state}", markup=True, soft_wrap=True, highlight=False)
        _print_file(run.store.folder(key) / "log.txt", "no log yet")
        if error and state == "failed":
            console.print(error["traceback"].rstrip() or error["message"], soft_wrap=True, highlight=False)


def _print_file(path: Path, missing: str) -> None:
    text = path.read_text(encoding="utf-8", errors="replace").rstrip() if path.is_file() else missing
    console.print(text, soft_wrap=True, highlight=False)


def _bytes(count: int) -> str:
    """`3.4 MB`."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
