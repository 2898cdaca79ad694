"""`stage`: one planned stage in this process."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmark.artifacts.store import StageLockedError, Store, environment_for
from benchmark.commands.options import Out, app, complain, console
from vesselgan.errors import InputError

__all__ = ["stage"]


@app.command()
def stage(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A stage's key or the start of it")] = None,
    out: Out = Path(),
    serve: Annotated[bool, typer.Option("--serve", hidden=True)] = False,
    runs: Annotated[Path | None, typer.Option("--runs", hidden=True)] = None,
) -> None:
    """Run one planned stage in this process."""
    store = Store(runs or out / "runs")
    if serve:
        from benchmark.run.worker import serve as serve_keys

        serve_keys(store)
        return
    if key is None:
        raise InputError("stage: give a KEY; 'run PROTOCOL --dry-run' lists them")
    from benchmark.run.run_stage import run_stage, what_failed

    key = store.find(key)
    variables = environment_for(store.spec(key))
    if variables.items() - os.environ.items():
        # They count from the start of a process, so this one starts again.
        os.execve(sys.executable, [sys.executable, "-m", "benchmark", *sys.argv[1:]], {**os.environ, **variables})
    already = store.done(key)
    try:
        run_stage(store, key)
    except (InputError, StageLockedError):
        raise
    except Exception as error:
        complain(f"{key}: {what_failed(error)} (traceback in {store.folder(key) / 'error.json'})")
        raise typer.Exit(1) from None
    console.print(f"{key}: {'was done already' if already else 'done'}: {store.folder(key)}", soft_wrap=True)
