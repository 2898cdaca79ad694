"""What a training step costs, and mixed precision against full."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.metrics.registry import names
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table, column
from benchmark.report.sections.text import LabelMark, interval, number, unit_of
from benchmark.results.run_folder import Run
from benchmark.words import plural
from vesselgan.metrics.estimates import mean_with_interval

__all__ = ["CostView", "cost_view"]

FULL = ("fp32", "tf32")
EMULATED = "this precision is emulated here: its speed says nothing about hardware that has it, and enters no claim"

BUSY = "measured on a busy machine, so the time enters no claim"


@dataclass(frozen=True)
class CostView:
    """Both tables and what their numbers mean."""

    table: Table
    ratios: Table | None
    measured_on: str
    memory_definition: str
    precision_note: str | None


def cost_view(run: Run, results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> CostView | None:
    """Step time, throughput and memory per label, or None where nothing was measured."""
    measured = next((values for record in run.cells if (values := run.values(record, "measure"))), None)
    cells = {cell["label"]: cell for cell in results["cells"] if "step_time_ms" in cell["metrics"]}
    if measured is None or not cells:
        return None
    notes = Footnotes()
    rows = [Row(marks[label], list(_entries(cell, notes))) for label, cell in cells.items()]
    columns = [
        Column("critic", "norm"),
        Column("precision"),
        Column("filters"),
        Column("batch"),
        *(column(metric) for metric in names("cost")),
    ]
    some = next(iter(cells.values()))
    device = results["environment"].get("device", "cpu")
    others = measured.get("others_cores")
    alone = "" if others is None else f", while other programs used {number(others, 2)} cores"
    times = some["metrics"]["step_time_ms"]["rounds"]
    steps = measured["configurations"][some["label"]]["steps_timed"]
    return CostView(
        table=Table(columns, rows, notes.lines()),
        ratios=_ratios(cells, marks),
        measured_on=(
            f"Measured on {_machine(results['environment'])} with {plural(measured['threads'], 'thread')}, no other "
            f"stage at its side{alone}: {plural(len(times), 'round')} in which all configurations took turns, "
            f"{plural(steps, 'step')} each in all after a warm-up. One step trains a generator once, and a critic "
            "beside it, if there is one."
        ),
        memory_definition=measured["memory_definition"],
        precision_note=(
            "bf16 on a CPU is not the paper's fp16 on a GPU: neither the times nor the ratios say anything about the "
            "paper's own hardware."
            if device == "cpu" and any(cell["precision"] not in FULL for cell in cells.values())
            else None
        ),
    )


def _entries(cell: Mapping[str, Any], notes: Footnotes) -> Iterator[Entry]:
    yield Entry(str(cell["norm"] or "–"))  # not every generator has a critic
    emulated = bool(cell["metrics"]["step_time_ms"].get("emulated"))
    yield Entry(str(cell["precision"]), "emulated" if emulated else "", notes.mark(EMULATED if emulated else None))
    yield Entry(str(cell["filters"]))
    yield Entry(str(cell["batch"]))
    for metric in names("cost"):
        entry = cell["metrics"].get(metric)
        if entry is None:
            yield Entry("–")
            continue
        decimals = unit_of(metric)[0]
        mark = notes.mark(f"{BUSY}: {entry['busy']}" if entry.get("busy") else None)
        yield Entry(number(entry["value"], decimals), interval(entry["ci_low"], entry["ci_high"], decimals), mark)


def _machine(environment: Mapping[str, Any]) -> str:
    machine = environment.get("machine", {})
    if environment.get("device") == "cuda" and "gpu" in machine:
        return f"{machine['gpu']} ({machine.get('gpu_memory_gib', '?')} GiB)"
    return f"{machine.get('cpu', 'an unknown CPU')} ({plural(machine.get('cores', 0), 'core')})"


def _ratios(cells: Mapping[str, Mapping[str, Any]], marks: Mapping[str, LabelMark]) -> Table | None:
    """Each label in mixed precision over the label that differs from it in nothing else."""
    notes = Footnotes()
    rows = []
    for mixed in cells.values():
        for full in cells.values():
            same = all(mixed[axis] == full[axis] for axis in ("norm", "filters", "batch", "recipe"))
            if same and mixed["precision"] not in FULL and full["precision"] in FULL:
                name = f"{mixed['label']} / {full['label']}"
                rows.append(Row(None, [_time_ratio(mixed, full, notes), _memory_ratio(mixed, full)], name))
    columns = [
        Column("step time", "mixed / full", "↓", "below 1 is faster"),
        Column("peak tensor memory", "mixed / full", "↓", "below 1 is smaller"),
    ]
    return Table(columns, rows, notes.lines()) if rows else None


def _time_ratio(mixed: Mapping[str, Any], full: Mapping[str, Any], notes: Footnotes) -> Entry:
    times = [cell["metrics"]["step_time_ms"] for cell in (mixed, full)]
    if any(entry.get("emulated") for entry in times):
        return Entry("n/a", "", notes.mark(EMULATED))
    if busy := next((entry["busy"] for entry in times if entry.get("busy")), None):
        return Entry("n/a", "", notes.mark(f"{BUSY}: {busy}"))
    rounds: Sequence[float] = [a / b for a, b in zip(times[0]["rounds"], times[1]["rounds"], strict=True)]
    # Ratios are averaged as logarithms, so that twice as fast and twice as slow cancel.
    entry = mean_with_interval([math.log(ratio) for ratio in rounds], "round")
    low, high = (None if entry[end] is None else math.exp(entry[end]) for end in ("ci_low", "ci_high"))
    return Entry(number(math.exp(entry["value"]), 2), interval(low, high, 2))


def _memory_ratio(mixed: Mapping[str, Any], full: Mapping[str, Any]) -> Entry:
    counts = [cell["metrics"]["peak_memory_mib"]["value"] for cell in (mixed, full)]
    return Entry(number(counts[0] / counts[1], 2), "exact count")
