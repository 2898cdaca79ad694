"""Run a plan: which stage is ready, skip what is done, go on when something fails."""

import json
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from benchmark.artifacts.store import Store, canonical_json
from benchmark.artifacts.values import CheckFindings
from benchmark.environment import environment
from benchmark.plan import CellPlan, Plan
from benchmark.results.run_folder import DataFacts, RunPlan, Settings
from benchmark.run.engine import Engine, Event, Observer
from benchmark.scoring.conventions import metric_options
from vesselgan.errors import InputError
from vesselgan.files import text_sha256, write_text

__all__ = [
    "Outcome",
    "execute",
    "findings",
    "first_stages",
    "needed_stages",
    "refuse_other_data",
    "write_run_folder",
]

LOCK_WAIT_S = 1.0
TIMED = "speed_against_wider_format"  # of a numerics check


@dataclass
class Outcome:
    """What became of the stages of a run."""

    computed: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # key -> message
    bad_input: list[str] = field(default_factory=list)  # messages
    not_run: list[str] = field(default_factory=list)  # stages behind a failed one

    @property
    def exit_status(self) -> int:
        """0 all done, 1 some failed, 2 bad input."""
        return 2 if self.bad_input else 1 if self.failed else 0


def findings(plan: Plan, store: Store) -> dict[str, CheckFindings]:
    """The values of those numerics checks of a plan that are done, by their keys; `refused` of those that failed."""
    found: dict[str, CheckFindings] = {}
    for key in plan.checks:
        if result := store.result(key):
            found[key] = cast(CheckFindings, result["values"])
        elif error := store.error(key):
            found[key] = {"refused": error["message"]}
    return found


def write_run_folder(plan: Plan, store: Store, out: Path, protocol_text: str) -> None:
    """Write the protocol, the resolved settings, the environment, each cell's stage keys, and every stage's spec.

    `run.json` lists the cells: what it lists is there at any moment, however this ends.
    """
    folder = out / "runs" / plan.name
    write_text(folder / "protocol.lock.yaml", protocol_text)
    checks = [plan.findings[key] for key in sorted(plan.specs) if "faults" in plan.findings.get(key, {})]
    # Without what was timed, which no other run of the same would repeat.
    numerics = [{name: value for name, value in check.items() if name != TIMED} for check in checks]
    node = {name: getattr(plan.node, name) for name in ("machine", "device", "instructions")}
    facts = environment("cpu") | node | {"numerics": numerics}  # versions and commit are the driver's
    write_text(folder / "environment.json", json.dumps(facts, indent=1))
    cells = folder / "cells"
    for cell_plan in plan.cells:
        content = {"cell": asdict(cell_plan.cell), "stages": dict(cell_plan.stages)}
        write_text(cells / f"{cell_plan.cell.id}.json", json.dumps(content, indent=1))
    for spec in plan.specs.values():
        store.plan(spec)
    write_text(folder / "run.json", json.dumps(_description(plan), indent=1))
    names = {f"{cell_plan.cell.id}.json" for cell_plan in plan.cells}
    for old in cells.glob("*.json"):
        if old.name not in names:
            old.unlink()


def refuse_other_data(plan: Plan, out: Path) -> None:
    """Raises InputError where the run folder of this name is of other files: it would be replaced."""
    folder = out / "runs" / plan.name
    try:
        earlier = json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no run, or none that could be lost
    if earlier.get("phantom") and not plan.source.has_files:
        return  # simulated subjects belong to the protocol, which may change
    now = _data(plan)
    same = (
        earlier["sha256"] == now["sha256"] if "sha256" in earlier else earlier.get("description") == now["description"]
    )
    if not same:
        contents = [f"{data['description']} (content {str(data.get('sha256'))[:8]})" for data in (earlier, now)]
        raise InputError(
            f"{folder}: holds a run on {contents[0]}; this one is on {contents[1]}: give it a folder of its own with "
            "--out DIR, or remove that run first"
        )


def first_stages(plan: Plan, cells: Sequence[CellPlan]) -> list[CellPlan]:
    """The cells' stages that run before the plan is settled, each as a cell of its own, so that none stops another.

    Those that read a user's files, so that bad ones end a run before anything of it is written; and numerics checks,
    which decide how the others compute.
    """
    keys = needed_stages(plan, cells)
    keys |= {other for key in keys for other in plan.same_check.get(key, ())}
    first = [
        key
        for key, spec in plan.specs.items()
        if key in keys and ((spec.where and not spec.inputs) or key in plan.checks)
    ]
    return [CellPlan(cells[0].cell, {key: key}) for key in first]


def needed_stages(plan: Plan, cells: Iterable[CellPlan]) -> set[str]:
    """Keys of these cells' stages and of all that they need: a measurement rests on the checks of other cells, too."""
    needed: set[str] = set()
    left = {key for cell in cells for key in cell.stages.values()}
    while left:
        needed |= left
        left = {need for key in left for need in plan.specs[key].needs} - needed
    return needed


def _data(plan: Plan) -> DataFacts:
    return {
        "description": plan.source.description,
        "phantom": not plan.source.has_files,
        "sha256": text_sha256(canonical_json(plan.source.options)),
        "mispaired": plan.source.mispaired,  # where D6 pairs them
    }


def _description(plan: Plan) -> RunPlan:
    protocol, asked = plan.protocol, plan.protocol.metrics.model_dump(mode="json")
    return {
        "protocol": protocol.protocol,
        "profile": plan.profile_name,
        "title": protocol.title,
        "about": protocol.about,
        "only": protocol.only,
        "data": _data(plan),
        "device": plan.device,
        "settings": cast(Settings, plan.profile.model_dump(mode="json")),
        "cells": [cell_plan.cell.id for cell_plan in plan.cells],
        "metrics": metric_options(asked),
        "vessels": plan.source.options.get("reading", {}).get("vessels"),
        "both_empty": protocol.both_empty,
        "claims": [claim.model_dump(mode="json") for claim in protocol.claims],
        "reference": {name: {"value": item.value, "source": item.source} for name, item in protocol.reference.items()},
    }


def execute(plan: Plan, cells_wanted: Sequence[CellPlan], store: Store, engine: Engine, observer: Observer) -> Outcome:
    """Compute every stage of these cells that is not done. A failed stage stops only what needs it.

    One that another run works on is asked for again now and then; meanwhile others have their turn.
    """
    outcome = Outcome()
    cells = _CellWatch(cells_wanted, observer.cell_finished)
    queue = _Queue(plan, needed_stages(plan, cells_wanted))
    for key in list(queue.waiting):
        if store.done(key):
            outcome.reused.append(key)
            queue.done(key)
            cells.ended(key, "done")
    running: set[str] = set()
    locked: dict[str, float] = {}  # by another run; when to ask again
    while queue.waiting or running:
        for key in queue.ready():
            if locked.get(key, 0.0) > time.monotonic():
                continue
            if not engine.free(plan.resources[key]):
                break  # in the plan's order: one that waits to be alone would be overtaken for ever
            queue.started(key)
            running.add(key)
            if locked.pop(key, None) is None:
                observer.stage_started(key)
            engine.submit(key, plan.resources[key])
        if not running and not locked:  # nothing would ever happen again
            raise RuntimeError(f"{', '.join(queue.waiting)}: what they need is not in the plan")
        if not running:
            time.sleep(LOCK_WAIT_S)
            continue
        event = engine.next_event()
        if event.kind == "locked" and store.done(event.key):
            event = Event("done", event.key)  # the other run was done in the meantime
        observer.stage_event(event)
        if event.kind in ("progress", "notice"):
            continue
        running.remove(event.key)
        if event.kind == "locked":  # another run computes it, or just died and its worker is leaving
            locked[event.key] = time.monotonic() + LOCK_WAIT_S
            queue.again(event.key)
            continue
        if event.kind == "done":
            queue.done(event.key)
            outcome.computed.append(event.key)
            cells.ended(event.key, "done")
            continue
        if store.error(event.key) is None:  # the worker died before it could write one
            with suppress(OSError):  # or could not, and no more can this process
                store.fail(event.key, event.text, "")
        lost = queue.behind(event.key)
        if event.kind == "bad_input":  # a person has to act first: what runs may end, nothing else starts
            outcome.bad_input.append(event.text)
            lost = list(queue.waiting)
        outcome.failed[event.key] = event.text
        for key in lost:
            queue.started(key)
            locked.pop(key, None)
        outcome.not_run += lost
        for key in (event.key, *lost):
            cells.ended(key, "failed")
    return outcome


class _Queue:
    """The stages that wait, in the plan's order, and which of them have all that they need."""

    def __init__(self, plan: Plan, keys: Collection[str]) -> None:
        self._place = {key: place for place, key in enumerate(plan.specs)}
        self.waiting = dict.fromkeys(sorted(keys, key=self._place.__getitem__))
        self._missing = {key: set(plan.specs[key].needs) for key in self.waiting}
        self._needed_by: dict[str, list[str]] = {}
        for key in self.waiting:
            for need in self._missing[key]:
                self._needed_by.setdefault(need, []).append(key)
        self._ready = [key for key in self.waiting if not self._missing[key]]

    def ready(self) -> list[str]:
        """A copy, since starting one changes it."""
        return list(self._ready)

    def started(self, key: str) -> None:
        del self.waiting[key]
        if not self._missing[key]:
            self._ready.remove(key)

    def again(self, key: str) -> None:
        self.waiting[key] = None
        insort(self._ready, key, key=self._place.__getitem__)

    def done(self, key: str) -> None:
        if key in self.waiting:
            self.started(key)
        for behind in self._needed_by.get(key, ()):
            self._missing[behind].discard(key)
            if not self._missing[behind] and behind in self.waiting:
                insort(self._ready, behind, key=self._place.__getitem__)

    def behind(self, key: str) -> list[str]:
        """Those that need this one, directly or not, in the plan's order."""
        found: set[str] = set()
        left = {key}
        while left:
            left = {behind for one in left for behind in self._needed_by.get(one, ())} - found
            found |= left
        return sorted(found & self.waiting.keys(), key=self._place.__getitem__)


class _CellWatch:
    """Tells once when all stages of a cell have ended."""

    def __init__(self, cells: Sequence[CellPlan], finished: Callable[[CellPlan, str], None]) -> None:
        self._finished = finished
        self._cells_of: dict[str, list[CellPlan]] = {}
        for cell in cells:
            for key in set(cell.stages.values()):
                self._cells_of.setdefault(key, []).append(cell)
        self._open = Counter({cell.cell.id: len(set(cell.stages.values())) for cell in cells})
        self._failed: set[str] = set()

    def ended(self, key: str, status: str) -> None:
        for cell in self._cells_of.get(key, ()):
            if status == "failed":
                self._failed.add(cell.cell.id)
            self._open[cell.cell.id] -= 1
            if not self._open[cell.cell.id]:
                self._finished(cell, "failed" if cell.cell.id in self._failed else "done")
