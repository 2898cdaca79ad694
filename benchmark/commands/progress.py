"""What a person sees while a run goes on: bars with the time left, and a line per finished cell."""

import time
from types import TracebackType
from typing import Literal

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmark.artifacts.roles import Role
from benchmark.artifacts.values import ReferenceValues
from benchmark.claims.realism import cell_warning
from benchmark.commands.page_so_far import PageSoFar
from benchmark.commands.run_log import RunLog
from benchmark.plan import CellPlan, Plan
from benchmark.results.rows import subject_rows
from benchmark.results.run_folder import Run
from benchmark.results.summary import cell_result
from benchmark.run.engine import Event

__all__ = ["RunDisplay", "cell_line"]


class RunDisplay:
    """The observer of a run in a terminal. Where output is not a terminal, only the lines are written.

    While its files are read there is no `run` yet, and no cell to tell of.
    """

    def __init__(
        self, plan: Plan, run: Run | None, log: RunLog, stages: int, cells: int, page: PageSoFar | None = None
    ) -> None:
        self._plan = plan
        self._run = run
        self._log = log
        self._page = page
        self._page_is_told = False
        self._stages, self._stages_done = stages, 0
        self._cells, self._cells_done = cells, 0
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeRemainingColumn(),
            console=log.console,
            disable=not log.console.is_terminal or self._log.level == "quiet",
        )
        self._all = self._progress.add_task(plan.name, total=stages, what="stages")
        self._bars: dict[str, TaskID] = {}
        self._told: set[str] = set()

    def __enter__(self) -> "RunDisplay":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage_started(self, key: str) -> None:
        """Add a bar."""
        cells = [cell.cell.id for cell in self._plan.cells if key in cell.stages.values()]
        owner = cells[0] if len(cells) == 1 else "shared"
        stage = self._plan.specs[key].stage
        self._bars[key] = self._progress.add_task(f"  {stage} ({owner})", total=None, what="")
        self._log.say(f"[dim]begins[/dim] {escape(key)} ({escape(owner)})", "detail")

    def stage_event(self, event: Event) -> None:
        """Move or remove the bar."""
        if event.kind == "progress":
            self._progress.update(self._bars[event.key], completed=event.done, total=event.total, what=event.text)
            where = f"{escape(event.key)}: {escape(event.text)} {event.done} of {event.total}"
            self._log.beat(f"{self._clock()} {self._stages_done} of {self._stages} stages; {where}")
        elif event.kind == "notice":
            self._log.say(f"[yellow]warning[/yellow] {escape(event.key)}: {escape(event.text)}", "trouble")
        elif event.kind != "locked":
            self._progress.remove_task(self._bars.pop(event.key))
            self._progress.advance(self._all)
            self._stages_done += 1
            if event.kind == "done":
                self._log.say(f"[dim]done[/dim] {escape(event.key)}", "detail")
                self._warn(event.key)
            if event.kind == "failed":  # of bad input the command tells, in lines of its own
                self._log.say(f"[red]failed[/red] {escape(event.key)}: {escape(event.text)}", "trouble")

    def _warn(self, key: str) -> None:
        """Tell of pairs that are far from real ones as soon as they are scored: their U-Net is still to come."""
        if self._run is None:
            return
        for record in self._run.cells:
            if record["stages"].get(Role.SCORE) == key:
                cell = cell_result(self._run, record, subject_rows(self._run, [record]))
                if text := cell_warning(cell, self._run.values(record, Role.REFERENCE, ReferenceValues)):
                    line = escape(f"{cell['id']}: {text}")
                    self._log.say(f"[yellow]warning[/yellow] {line}", "trouble")

    def cell_finished(self, cell: CellPlan, status: str) -> None:
        """Print the cell's line; a reason that it shares with an earlier cell is not repeated."""
        if self._run is None:
            return
        self._cells_done += 1
        place = f"[{self._cells_done}/{self._cells} {self._clock()}]"
        colour = "green" if status == "done" else "red"
        line = cell_line(self._run, cell.cell.id)
        name, _, reason = line.partition(": ")
        if status != "done":
            line = f"{name}: for the same reason" if reason in self._told else line
            self._told.add(reason)
        kind: Literal["usual", "trouble"] = "usual" if status == "done" else "trouble"
        self._log.say(f"{escape(place)} [{colour}]{status}[/{colour}] {escape(line)}", kind)
        if self._page and self._cells_done < self._cells:
            path = self._page.cell_finished()
            if path and not self._page_is_told:
                self._log.say(f"the page so far: {escape(str(path))}")
                self._page_is_told = True

    def _clock(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        return f"{minutes}:{seconds:02d}"


def cell_line(run: Run, cell_id: str) -> str:
    """One line about a cell for the terminal: its main numbers, or what went wrong."""
    record = next(record for record in run.cells if record["cell"]["id"] == cell_id)
    if message := run.failure(record):
        return f"{cell_id}: {message}"
    if run.status(record) != "done":
        return f"{cell_id}: not run, since a stage before it failed"
    metrics = cell_result(run, record, subject_rows(run, [record]))["metrics"]
    shown = {"fid": "FID", "prd_auc": "PRD area", "dsc/all": "DSC all", "dsc/intracranial": "DSC intracranial"}
    parts = [
        f"{text} {entry['value']:.3g}"
        for name, text in shown.items()
        if (entry := metrics.get(name)) and entry["value"] is not None
    ]
    if not parts and "step_time_ms" in metrics:
        parts = [f"{metrics['step_time_ms']['value']:.3g} ms a step"]
    return f"{cell_id}: {', '.join(parts)}"
