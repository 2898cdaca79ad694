"""`run`: the work of making a protocol's cells."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from benchmark.artifacts.store import DamagedStageError, Store
from benchmark.commands.asked import RunOptions, keep_command
from benchmark.commands.before_run import left, show_plan, show_prediction, show_reasons, weigh
from benchmark.commands.experiment import load
from benchmark.commands.options import PlainConsole, command, complain, console, spacing_of
from benchmark.commands.report import publish_report
from benchmark.commands.seeds import keep_seeds, wanted_seeds
from benchmark.plan import CellPlan, Findings, Plan
from benchmark.protocol.cells import select
from benchmark.run.engines import engine_of
from vesselgan.errors import InputError
from vesselgan.hub import local_weights

if TYPE_CHECKING:
    from benchmark.run.scheduler import Outcome

__all__ = ["run"]

BAD_INPUT = 2


@command
def run(asked: RunOptions) -> None:
    """Run a protocol: train, synthesise, score, segment, measure, report. Finished stages are not repeated."""
    from benchmark.run.scheduler import refuse_other_data, write_run_folder

    out, as_json = asked.out, asked.as_json
    if asked.quiet and asked.verbose:
        raise InputError("--quiet and --verbose: give one of them")
    path, plan_with, before = _planner(asked)
    store = Store(out / "runs")
    plan = _with_findings(plan_with, store)
    chosen = _chosen(plan, asked.expression)
    if not asked.listing:
        _refuse_mispairing(plan, chosen)
    refuse_other_data(plan, out)
    if asked.explain:
        show_reasons(plan, chosen, store, as_json=as_json)
        return
    if asked.dry_run:
        weigh(plan, left(chosen, store), engine_of(asked.engine))
        show_plan(plan, chosen, store, _places(asked, plan, chosen, store), as_json=as_json)
        return
    if plan.profile.requires.data and not asked.quiet:
        show_prediction(plan, chosen, store, PlainConsole(stderr=True) if asked.is_silent else console)

    def settle() -> tuple[Plan, list[CellPlan]]:
        settled = _with_findings(plan_with, store)
        write_run_folder(settled, store, out, path.read_text(encoding="utf-8"))
        keep_seeds(out, settled.name, asked.seeds, before, sorted({cell.cell.seed for cell in settled.cells}))
        chosen = _chosen(settled, asked.expression)
        keep_command(asked, out / "runs" / settled.name, [cell.cell.id for cell in chosen])
        return settled, chosen

    mended: set[str] = set()
    while True:
        status = _execute(asked, plan, chosen, store, settle)
        if status == BAD_INPUT:  # an earlier report of good data stays
            raise typer.Exit(status)
        try:
            page = publish_report(out, plan.name, quiet=asked.is_silent)
            break
        except DamagedStageError as error:
            store.undo(error.key)
            if error.key in mended or not _is_chosen(error.key, chosen):  # a run of all cells makes it
                raise
            mended.add(error.key)
            PlainConsole(stderr=True).print(f"{error.key} is made anew: {error}", soft_wrap=True, highlight=False)
    if as_json:
        print((page.parent / "results.json").read_text(encoding="utf-8"))
    raise typer.Exit(status)


def _planner(asked: RunOptions) -> tuple[Path, Callable[[Findings], Plan], list[int]]:
    """The protocol's file, what plans it for given findings of checks, and the seeds to which `--seeds +3` adds."""
    loaded = load(asked.protocol, asked.profile)
    settings = loaded.profile
    engine = engine_of(asked.engine)
    engine.check(asked.site, asked.engine)
    matrix = settings.matrix or loaded.protocol.matrix
    before = list(matrix.seed)
    if asked.seeds is not None:
        run_name = f"{loaded.protocol.protocol}-{loaded.profile_name}"
        seeds, before = wanted_seeds(asked.seeds, matrix.seed, asked.out, run_name)
        settings = settings.model_copy(update={"matrix": matrix.model_copy(update={"seed": seeds})})
    chosen = settings.score.weights if asked.weights is None else str(asked.weights)
    if chosen and (asked.weights is not None or settings.score.extractor == "medicalnet"):
        found = {"weights": str(local_weights(chosen)), "extractor": "medicalnet"}
        settings = settings.model_copy(update={"score": settings.score.model_copy(update=found)})
    remember = None if asked.dry_run or asked.explain else asked.out / "runs/fingerprints"  # the hashes of files
    experiment = replace(loaded, profile=settings).on(
        asked.data,
        asked.layout,
        remember,
        spacing_mm=spacing_of(asked.spacing),
        scored=loaded.protocol.only != "costs",
    )
    node = engine.node(asked.device, asked.site)
    return loaded.path, lambda found: experiment.plan(node, found), before


def _with_findings(plan_with: Callable[[Findings], Plan], store: Store) -> Plan:
    """The plan that knows what the numerics checks found so far, which decides how other stages compute."""
    from benchmark.run.scheduler import findings

    plan = plan_with({})
    found = findings(plan, store)
    return plan_with(found) if found else plan


def _chosen(plan: Plan, expression: str | None) -> list[CellPlan]:
    ids = {cell.id for cell in select([cell_plan.cell for cell_plan in plan.cells], expression)}
    return [cell_plan for cell_plan in plan.cells if cell_plan.cell.id in ids]


def _is_chosen(key: str, chosen: list[CellPlan]) -> bool:
    return any(key in cell.stages.values() for cell in chosen)


def _refuse_mispairing(plan: Plan, chosen: list[CellPlan]) -> None:
    """D6 shows a fault of the paper's code, and a run that has it by mistake is days of nonsense."""
    listed = [cell.cell.id for cell in chosen if cell.cell.recipe.pairing == "listing_order"]
    if listed and plan.source.mispaired:
        subjects = sum(map(len, plan.source.split.values()))
        named = all("D6" in cell_id for cell_id in listed) and len(listed) < len(plan.cells)
        remedy = "leave such cells out (-k 'not D6')" if named else "choose a recipe without D6"
        raise InputError(
            f"cell {listed[0]}: its recipe pairs files by their places in a listing (D6), which gives "
            f"{plan.source.mispaired} of {subjects} images here the label of another subject; {remedy}, or insist with "
            "--pair-by-listing"
        )


def _execute(
    asked: RunOptions,
    plan: Plan,
    chosen: list[CellPlan],
    store: Store,
    settle: Callable[[], tuple[Plan, list[CellPlan]]],
) -> int:
    """Read the user's files and check the machine; then settle the plan and the run folder, and do the rest.

    Bad files leave an earlier run as it was.
    """
    from benchmark.commands.page_so_far import PageSoFar
    from benchmark.commands.progress import RunDisplay
    from benchmark.commands.run_log import MachineWatch, RunConsole, RunLog
    from benchmark.results.run_folder import load_run
    from benchmark.run.scheduler import execute, first_stages, needed_stages

    keys = needed_stages(plan, chosen)
    to_do = sum(not store.done(key) for key in keys)
    kind = engine_of(asked.engine)
    workers = asked.workers or kind.default_workers(plan, asked.site)
    target = PlainConsole(quiet=True) if asked.is_silent else RunConsole(width=console.width)
    log = RunLog(target, asked.level)
    log.say(
        f"{escape(plan.name)}: {len(chosen)} cells, {len(keys)} stages ({to_do} to do) on {plan.device}, "
        f"{workers} at a time; data: {escape(plan.source.description)}"
    )
    engine = kind.open(store, workers, asked.site)
    try:
        first = first_stages(plan, chosen)
        with RunDisplay(plan, None, log, sum(len(cell.stages) for cell in first), 0) as display:
            for key in [key for cell in first for key in cell.stages]:
                store.plan(plan.specs[key])
            outcome = execute(plan, first, store, engine, display)
        if outcome.bad_input:
            complain("\n".join(outcome.bad_input))
            return outcome.exit_status
        plan, chosen = settle()
        weigh(plan, left(chosen, store), kind)
        folder = asked.out / "runs" / plan.name
        log.open(folder)
        page = PageSoFar(asked.out, plan.name)
        for attempt in range(2):
            to_do = sum(not store.done(key) for key in needed_stages(plan, chosen))
            run = load_run(asked.out, plan.name, is_running=True)
            with MachineWatch(folder), RunDisplay(plan, run, log, to_do, len(chosen), page) as display:
                outcome = execute(plan, chosen, store, engine, display)
            if attempt or not _lost_inputs(plan, store, outcome):
                break
            for message in outcome.bad_input:
                log.say(f"[yellow]made anew[/yellow] {escape(message)}", "trouble")
    finally:
        engine.close()
    for message in outcome.bad_input:
        complain(message)
    return outcome.exit_status


def _lost_inputs(plan: Plan, store: Store, outcome: "Outcome") -> bool:
    """Whether stages were refused because files that they need had changed: those are not done any more."""
    needs = {need for key in outcome.failed for need in plan.specs[key].needs}
    lost = {need for need in needs - outcome.failed.keys() - set(outcome.not_run) if not store.done(need)}
    return bool(outcome.bad_input and lost)


def _places(asked: RunOptions, plan: Plan, chosen: list[CellPlan], store: Store) -> Mapping[str, str]:
    """Where the engine would put what is left to do, as far as it says."""
    to_do = left(chosen, store)
    return engine_of(asked.engine).places(plan, [key for key in plan.specs if key in to_do], asked.site)
