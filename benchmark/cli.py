"""The command line."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.cells import cells_of, select
from benchmark.environment import choose_device
from benchmark.loading import find_protocol, load_protocol
from benchmark.plan import CellPlan, Plan, build_plan
from benchmark.protocol import Profile, Protocol
from benchmark.sources import choose_source
from benchmark.store import StageLockedError, Store
from vesselgan.errors import InputError

__all__ = ["main"]

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    name="python -m benchmark",
    help="Check, compare and use 3D generative models of labelled brain-vessel MRI.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# Away from a terminal, tables are for other programs and for logs: nothing is folded at 80 columns.
console = Console(width=None if sys.stdout.isatty() else 200)

ProtocolName = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="A protocol file, or the name of a packaged one: paper")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, PROTOCOL-PROFILE: paper-laptop")]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds runs/ and reports/", file_okay=False)]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="A profile of the protocol; its default one if left out")
]
Expression = Annotated[
    str | None, typer.Option("-k", metavar="EXPR", help="Only cells that match: 'SN and not MP', 's0'")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of labelled TOF-MRA; the embedded phantom if left out")
]
Layout = Annotated[str, typer.Option("--layout", help="How --data names its files: auto, nnunet or pegasus")]
Weights = Annotated[Path | None, typer.Option("--weights", help="MedicalNet's resnet_10_23dataset.pth")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where networks run")]


def main() -> None:
    """Entry point: bad input is told in one line per error, with exit status 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except InputError as error:
        _complain(str(error))
        sys.exit(2)
    except StageLockedError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        _complain(f"{error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(2)


@app.command()
def run(
    protocol: ProtocolName,
    profile: ProfileName = None,
    data: Data = None,
    layout: Layout = "auto",
    weights: Weights = None,
    out: Out = Path(),
    expression: Expression = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Stages at a time; by default what the cores carry")
    ] = None,
    device: Device = "auto",
    engine: Annotated[Literal["local"], typer.Option(help="What runs the stages")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json at the end, and nothing else")] = False,
) -> None:
    """Run a protocol: train, synthesise, score, segment, measure, report. Finished stages are not repeated."""
    from benchmark.pipeline import write_run_folder

    path, plan = _plan(protocol, profile, data, layout, weights, device, None if dry_run else out / "runs/fingerprints")
    chosen = _chosen(plan, expression)
    store = Store(out / "runs")
    if dry_run:
        _show_plan(plan, chosen, store)
        _show_prediction(plan, console)
        return
    if plan.profile.requires.data:
        _show_prediction(plan, Console(stderr=True) if as_json else console)
    write_run_folder(plan, store, out, path.read_text(encoding="utf-8"))
    status = _execute(plan, chosen, store, out, workers, quiet=as_json)
    if status == BAD_INPUT:  # an earlier report of good data stays
        raise typer.Exit(status)
    page = _publish(out, plan.name, quiet=as_json)
    if as_json:
        print((page.parent / "results.json").read_text(encoding="utf-8"))
    raise typer.Exit(status)


@app.command("ls")
def list_cells(protocol: ProtocolName, profile: ProfileName = None, expression: Expression = None) -> None:
    """List a protocol's profiles, cells and claims."""
    loaded = load_protocol(find_protocol(protocol))
    name, settings = _profile(loaded, profile)
    console.print(f"[bold]{escape(loaded.protocol)}[/bold]: {escape(loaded.title)}")
    for other, body in loaded.profiles.items():
        mark = "*" if other == name else " "
        console.print(f" {mark} profile {other}: {escape(body.about.strip())}", soft_wrap=True)
    table = Table("cell", "label", "norm", "precision", "filters", "batch", "recipe", "seed", box=None)
    for column in table.columns:
        column.overflow = "fold"  # names are for copying: nothing of them may be cut off
    for cell in select(cells_of(loaded, settings), expression):
        values = (cell.id, cell.label, cell.norm, cell.precision, cell.filters, cell.batch, cell.recipe_name, cell.seed)
        table.add_row(*("-" if value is None else str(value) for value in values))
    console.print(table)
    for claim in loaded.claims:
        console.print(f"claim: {escape(claim.name)}: {escape(claim.statement)}", soft_wrap=True)


@app.command()
def report(name: RunName, out: Out = Path()) -> None:
    """Write a run's tables, results.json and page again from its files."""
    _publish(out, name, force=True)


@app.command()
def sync(name: RunName, out: Out = Path()) -> None:
    """Rebuild the MLflow mirror of a run from its files."""
    from benchmark.publish import sync_run

    sync_run(out, name)


@app.command()
def ui(
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run to compare; the only one if left out")
    ] = None,
    out: Out = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Start the MLflow UI on 127.0.0.1 and print the address of the page that compares a run's cells."""
    from benchmark.results import load_run
    from benchmark.tracking import compare_url, store_uri

    runs = sorted(path.parent.name for path in (out / "runs").glob("*/run.json"))
    if name is None and len(runs) != 1:
        raise InputError(f"{out / 'runs'}: name the run to compare; runs here: {', '.join(runs) or 'none'}")
    name = load_run(out, name or runs[0]).name
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"port {port} of 127.0.0.1 is taken; choose another with --port")
    console.print(f"compare the cells: {compare_url(out, name, port)}", soft_wrap=True, highlight=False)
    sys.stdout.flush()
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store_uri(out)]
    os.execv(sys.executable, [*server, "--host", "127.0.0.1", "--port", str(port)])


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
        from benchmark.serving import serve as serve_keys

        serve_keys(store)
        return
    if key is None:
        raise InputError("stage: give a KEY; 'run PROTOCOL --dry-run' lists them")
    from benchmark.execution import run_stage

    key = store.find(key)
    already = store.done(key)
    try:
        run_stage(store, key)
    except (InputError, StageLockedError):
        raise
    except Exception as error:
        _complain(f"{key}: {type(error).__name__}: {error} (traceback in {store.folder(key) / 'error.json'})")
        raise typer.Exit(1) from None
    console.print(f"{key}: {'was done already' if already else 'done'}: {store.folder(key)}", soft_wrap=True)


def _terminate(*_: object) -> None:
    """Leave in good order. A second signal must not break into the way out: process managers send more than one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _plan(
    protocol: str,
    profile: str | None,
    data: Path | None,
    layout: str,
    weights: Path | None,
    device: str,
    remember: Path | None,
) -> tuple[Path, Plan]:
    path = find_protocol(protocol)
    loaded = load_protocol(path)
    name, settings = _profile(loaded, profile)
    if weights is not None:
        score = settings.score.model_copy(update={"weights": str(weights), "extractor": "medicalnet"})
        settings = settings.model_copy(update={"score": score})
    cells = cells_of(loaded, settings)
    source = choose_source(name, settings, data, layout, remember)
    return path, build_plan(loaded, name, settings, cells, source, choose_device(device))


def _profile(protocol: Protocol, name: str | None) -> tuple[str, Profile]:
    name = name or protocol.default_profile
    if name not in protocol.profiles:
        raise InputError(f"protocol {protocol.protocol}: no profile {name!r}; it has {', '.join(protocol.profiles)}")
    return name, protocol.profiles[name]


def _chosen(plan: Plan, expression: str | None) -> list[CellPlan]:
    ids = {cell.id for cell in select([cell_plan.cell for cell_plan in plan.cells], expression)}
    return [cell_plan for cell_plan in plan.cells if cell_plan.cell.id in ids]


def _execute(plan: Plan, chosen: list[CellPlan], store: Store, out: Path, workers: int | None, *, quiet: bool) -> int:
    from benchmark.pipeline import default_workers, execute
    from benchmark.progress import RunDisplay
    from benchmark.results import load_run
    from benchmark.workers import LocalEngine

    keys = {key for cell in chosen for key in cell.stages.values()}
    to_do = sum(not store.done(key) for key in keys)
    workers = workers or default_workers(plan)
    target = Console(quiet=True) if quiet else console
    target.print(
        f"{plan.name}: {len(chosen)} cells, {len(keys)} stages ({to_do} to do) on {plan.device}, {workers} at a time; "
        f"data: {escape(plan.source.description)}",
        soft_wrap=True,
        highlight=False,
    )
    engine = LocalEngine(store, workers)
    try:
        with RunDisplay(plan, load_run(out, plan.name), target, to_do, len(chosen)) as display:
            outcome = execute(plan, chosen, store, engine, display)
    except KeyboardInterrupt:
        _complain("interrupted; finished stages are kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        engine.close()
    for message in outcome.bad_input:
        _complain(message)
    return outcome.exit_status


def _publish(out: Path, name: str, *, force: bool = False, quiet: bool = False) -> Path:
    from benchmark.publish import publish

    page = publish(out, name, force=force)
    if not quiet:
        print((page.parent / "summary.txt").read_text(encoding="utf-8"))
        console.print(
            f"report: {page}\nMLflow: python -m benchmark ui {name} --out {out}", soft_wrap=True, highlight=False
        )
    return page


def _show_plan(plan: Plan, chosen: list[CellPlan], store: Store) -> None:
    table = Table("cell", "stage", "key", "state", box=None)
    for cell in chosen:
        for role, key in cell.stages.items():
            table.add_row(cell.cell.id, role, key, "done" if store.done(key) else "to do")
    console.print(table)


def _show_prediction(plan: Plan, target: Console) -> None:
    from benchmark.prediction import predict

    for line in predict(plan).lines():
        target.print(line, soft_wrap=True, highlight=False)


def _complain(text: str) -> None:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
