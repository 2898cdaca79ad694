"""`report`, `sync` and `ui`: what is shown of a run, from its files."""

import os
import socket
import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import Out, RunName, app, console
from benchmark.words import printable
from vesselgan.errors import InputError

__all__ = ["publish_report", "report", "sync", "ui"]


class Format(StrEnum):
    """What `report` makes."""

    html = "html"
    latex = "latex"
    md = "md"
    json = "json"


@app.command()
def report(
    name: RunName,
    out: Out = Path(),
    form: Annotated[
        Format,
        typer.Option("--format", help="html writes the page and its files; latex, md and json are printed instead"),
    ] = Format.html,
) -> None:
    """Write a run's tables, results.json and page again from its files; or print its tables, for a paper."""
    if form is Format.html:
        publish_report(out, name, force=True, mirror=False)
    else:
        from benchmark.report.publish import printed

        print(printed(out, name, form.value), end="")


@app.command()
def sync(name: RunName, out: Out = Path()) -> None:
    """Rebuild the MLflow mirror of a run from its files."""
    from benchmark.report.publish import sync_run

    sync_run(out, name)


@app.command()
def ui(
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run whose cells to compare; all runs if left out")
    ] = None,
    out: Out = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Start the MLflow UI on 127.0.0.1 and print the address of the page that compares a run's cells."""
    if find_spec("mlflow") is None:
        raise InputError("mlflow is not installed, which shows runs: pip install 'mlflow>=3.5,<4'")
    from benchmark.report.mlflow_mirror import all_urls, database, run_urls
    from benchmark.report.mlflow_view import experiments_url
    from benchmark.report.tracking import TRACKER, named_tracker, without_password
    from benchmark.results.run_folder import load_run

    runs = sorted(path.parent.name for path in (out / "runs").glob("*/run.json"))
    if not runs:
        raise InputError(f"{out / 'runs'}: no run there to show; --out names another folder")
    if named := named_tracker():
        shown = without_password(named)
        raise InputError(f"{TRACKER} is set: runs are shown at {shown}; unset it to see those of this folder")
    if name is not None or len(runs) == 1:
        name = load_run(out, name or runs[0]).name
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"port {port} of 127.0.0.1 is taken; choose another with --port")
    if name:
        table, charts, side_by_side = run_urls(out, name, port)
        told = f"compare the cells: {table}\nin charts: {charts}\nside by side: {side_by_side}"
    else:
        lines = [f"{run}: {url}" for run, url in all_urls(out, runs, port).items()]
        told = "\n".join([f"all runs: {experiments_url(port)}", *lines])
    told += "\nMLflow's own list opens runs as GenAI until 'Model training' is chosen once, at the top left"
    console.print(told, soft_wrap=True, highlight=False)
    sys.stdout.flush()
    path = database(out)
    os.chdir(path.parent)  # of an address with quoted signs MLflow would make the folder as it is written
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # nothing here needs its job runners, eight processes
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{path.name}"]
    os.execv(sys.executable, [*server, "--host", "127.0.0.1", "--port", str(port)])


def publish_report(out: Path, name: str, *, force: bool = False, mirror: bool = True, quiet: bool = False) -> Path:
    """Write a run's tables and page, and say where they are; returns the page's path."""
    from benchmark.report.publish import publish

    page = publish(out, name, force=force, mirror=mirror)
    if not quiet:
        print(printable((page.parent / "summary.txt").read_text(encoding="utf-8")))
        console.print(
            f"report: {page}\nMLflow: python -m benchmark ui {name} --out {out}", soft_wrap=True, highlight=False
        )
    return page
