"""Run folder -> reports/NAME: results.json, tables, the page; and the MLflow mirror."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmark import __version__
from benchmark.report.results_json import results_of
from benchmark.report.tracking import first_line, named_tracker, without_password
from benchmark.results.format import Results
from benchmark.results.run_folder import Run, load_run
from benchmark.words import printable
from vesselgan.errors import InputError
from vesselgan.files import text_sha256, write_text

__all__ = ["printed", "publish", "publish_so_far", "sync_run"]

STAMP = ".stamp"  # what was written and mirrored
# How long a run waits for a server, and for the database in its own folder; of a longer run this share of its work.
PATIENCE_S, OWN_PATIENCE_S, SHARE = 10.0, 60.0, 0.02


def publish(out: Path, name: str, *, force: bool = False, mirror: bool = True) -> Path:
    """Write `reports/NAME` and mirror the run, unless nothing has changed since; return the page's path.

    `force` writes it all the same. Without `mirror`, the next one that mirrors does it.
    """
    run = load_run(out, name)
    results = results_of(run)
    text = json.dumps(results, indent=1, allow_nan=False)
    folder = out / "reports" / name
    page, stamp = folder / "index.html", folder / STAMP
    content = text_sha256(f"{__version__}\n{text}")
    if not force and page.is_file() and stamp.is_file() and stamp.read_bytes() == content.encode():
        return page
    _write(folder, run, results, text)
    if not mirror:
        return page
    if find_spec("mlflow") is None:  # it is large, and machines with a GPU may do without
        print("no mirror written: mlflow is not installed", file=sys.stderr)
        return page
    if reason := _mirror(out, name, results):
        told = f"warning: the MLflow mirror was not written ({reason}); rebuild it with 'sync {name}'"
        print(printable(told), file=sys.stderr)
        return page
    write_text(stamp, content)
    return page


def publish_so_far(out: Path, name: str) -> Path:
    """Write what a run has while it goes on, without its mirror; return the page's path."""
    run = load_run(out, name, is_running=True)
    results = results_of(run)
    folder = out / "reports" / name
    _write(folder, run, results, json.dumps(results, indent=1, allow_nan=False))
    return folder / "index.html"


def _write(folder: Path, run: Run, results: Results, text: str) -> None:
    """The files of a report; `text` is that of results.json. From now on nobody takes it for mirrored."""
    # Plots and pages take seconds to import: only a run with news pays for them.
    from benchmark.report.exports import write_tables
    from benchmark.report.run_page import render_report

    (folder / STAMP).unlink(missing_ok=True)
    write_text(folder / "results.json", text)
    write_tables(results, folder)
    render_report(run, results, folder)


def printed(out: Path, name: str, form: str) -> str:
    """The tables of a run's page as `latex` or `md`, or its results.json as `json`. Raises InputError."""
    results = results_of(load_run(out, name))
    if form == "json":
        return json.dumps(results, indent=1, allow_nan=False) + "\n"
    from benchmark.report.run_page import tables_of
    from benchmark.report.table_formats import as_latex, as_markdown

    write = as_latex if form == "latex" else as_markdown
    return "\n".join(write(table, table.caption) for table in tables_of(results))


def _mirror(out: Path, name: str, results: Results) -> str | None:
    """Show a run in its tracker; the reason where that could not be done. Nothing of the run depends on it.

    A server may be dead, slow or hang, so a process of its own talks to it, which is ended after a while.
    """
    share_s = SHARE * results["work_seconds"]
    if (tracker := named_tracker()) is None:
        from benchmark.report.mlflow_mirror import sync

        patience_s = max(OWN_PATIENCE_S, share_s)
        try:
            sync(out, name, results, patience_s)
        except TimeoutError:
            return f"{out / 'runs/mlflow.db'} was not done within {patience_s:.0f} s"
        except Exception as error:  # whatever MLflow's database does, the files are there and the run has not failed
            return first_line(error)
        return None
    patience_s = max(PATIENCE_S, share_s)
    command = [sys.executable, "-m", "benchmark", "sync", name, "--out", str(out)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience_s, check=False)
    except subprocess.TimeoutExpired:
        return f"{without_password(tracker)} was not done within {patience_s:.0f} s"
    lines = done.stderr.decode(errors="replace").splitlines()
    return None if done.returncode == 0 else (lines or [f"exit status {done.returncode}"])[-1].removeprefix("error: ")


def sync_run(out: Path, name: str) -> None:
    """Rebuild the MLflow mirror of a run from its files. Raises InputError."""
    if find_spec("mlflow") is None:
        raise InputError("mlflow is not installed, which writes the mirror: pip install 'mlflow>=3.5,<4'")
    from benchmark.report.mlflow_mirror import sync

    results = results_of(load_run(out, name))
    try:
        sync(out, name, results)
    except Exception as error:  # of many kinds, SQLite's and MLflow's
        place = without_password(named_tracker() or str(out / "runs/mlflow.db"))
        raise InputError(f"{place}: the MLflow mirror was not written ({first_line(error)})") from error
