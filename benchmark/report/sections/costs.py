"""What a training step costs, and mixed precision against full."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.metrics.registry import names
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table, column, winners
from benchmark.report.sections.text import ArmMark, interval, number, unit_of
from benchmark.results.costs import BUSY, EMULATED
from benchmark.results.format import CellResult, CostRatio, MetricValue, Results
from benchmark.results.run_folder import RunEnvironment
from benchmark.words import plural

__all__ = ["CostView", "cost_view"]

METRICS = ("step_time_ms", "patches_per_s", "peak_memory_mib")


@dataclass(frozen=True)
class CostView:
    """Both tables and what their numbers mean."""

    table: Table
    ratios: Table | None
    measured_on: str
    memory_definition: str
    precision_note: str | None


def cost_view(results: Results, marks: Mapping[str, ArmMark]) -> CostView | None:
    """Step time, throughput and memory per arm, or None where nothing was measured."""
    measurement, ratios = results["measurement"], results["cost_ratios"]
    cells = {cell["label"]: cell for cell in results["cells"] if "step_time_ms" in cell["metrics"]}
    if measurement is None or not cells:
        return None
    notes, best = Footnotes(), winners(results)
    rows = [Row(marks[label], list(_entries(cell, notes, best))) for label, cell in cells.items()]
    columns = [
        Column("critic", "norm"),
        Column("precision"),
        Column("filters"),
        Column("batch"),
        *(column(metric) for metric in names("cost")),
    ]
    environment, others = results["environment"], measurement["others_cores"]
    alone = "" if others is None else f", while other programs used {number(others, 2)} cores"
    return CostView(
        table=Table(columns, rows, notes.lines(), "Time, throughput and memory of one training step"),
        ratios=_ratios(ratios) if ratios else None,
        measured_on=(
            f"Measured on {_machine(environment)} with {plural(measurement['threads'], 'thread')}, no other "
            f"stage at its side{alone}: {plural(measurement['rounds'], 'round')} in which all configurations took "
            f"turns, {plural(measurement['steps_timed'], 'step')} each in all after a warm-up. One step trains a "
            "generator once, and a critic beside it, if there is one."
            + (" Not yet measured on a GPU." if environment["device"] == "cpu" else "")
        ),
        memory_definition=measurement["memory_definition"],
        precision_note=(
            "bf16 on a CPU is not the paper's fp16 on a GPU: neither the times nor the ratios say anything about the "
            "paper's own hardware."
            if environment["device"] == "cpu" and ratios
            else None
        ),
    )


def _entries(cell: CellResult, notes: Footnotes, best: Collection[tuple[str, str]]) -> Iterator[Entry]:
    yield Entry(str(cell["norm"] or "–"))  # not every generator has a critic
    emulated = bool(cell["metrics"]["step_time_ms"].get("emulated"))
    yield Entry(str(cell["precision"]), "emulated" if emulated else "", notes.mark(EMULATED if emulated else None))
    yield Entry(str(cell["filters"]), value=cell["filters"])
    yield Entry(str(cell["batch"]), value=cell["batch"])
    for metric in names("cost"):
        entry = cell["metrics"].get(metric)
        if entry is None:
            yield Entry("–")
            continue
        decimals, value = unit_of(metric)[0], entry["value"]
        assert value is not None  # every measurement has it
        mark = notes.mark(f"{BUSY}: {entry['busy']}" if entry.get("busy") else None)
        bounds, is_best = interval(entry["ci_low"], entry["ci_high"], decimals), (metric, cell["label"]) in best
        yield Entry(number(value, decimals), bounds, mark, value, is_best)


def _machine(environment: RunEnvironment) -> str:
    machine = environment["machine"]
    if environment["device"] == "cuda" and "gpu" in machine:
        return f"{machine['gpu']} ({machine.get('gpu_memory_gib', '?')} GiB)"
    return f"{machine['cpu']} ({plural(machine['cores'], 'core')})"


def _ratios(ratios: Sequence[CostRatio]) -> Table:
    """Each arm in mixed precision over the arm that differs from it in nothing else."""
    notes = Footnotes()
    rows = [
        Row(None, [_time_ratio(ratio["step_time"], notes), _memory_ratio(ratio)], f"{ratio['mixed']} / {ratio['full']}")
        for ratio in ratios
    ]
    columns = [
        Column("step time", "mixed / full", "↓", "below 1 is faster"),
        Column("peak tensor memory", "mixed / full", "↓", "below 1 is smaller"),
    ]
    return Table(columns, rows, notes.lines(), "Mixed over full precision, round by round", "pair")


def _time_ratio(ratio: MetricValue, notes: Footnotes) -> Entry:
    if ratio["value"] is None:
        return Entry("n/a", "", notes.mark(ratio.get("reason")))
    bounds = interval(ratio["ci_low"], ratio["ci_high"], 2)
    return Entry(number(ratio["value"], 2), bounds, value=ratio["value"])


def _memory_ratio(ratio: CostRatio) -> Entry:
    return Entry(number(ratio["peak_memory"], 2), "exact count", value=ratio["peak_memory"])
