"""What training steps cost, and mixed precision against full."""

import math
from collections.abc import Sequence

import numpy as np

from benchmark.artifacts.roles import Role
from benchmark.artifacts.values import MeasureValues
from benchmark.metrics.asking import chosen
from benchmark.metrics.given import StepCosts
from benchmark.results.format import CellResult, CostRatio, Measurement, MetricValue
from benchmark.results.metrics import as_metric
from benchmark.results.run_folder import CellRecord, Run
from vesselgan.metrics.estimates import mean_with_interval

__all__ = ["BUSY", "EMULATED", "cost_metrics", "cost_ratios", "measurement_of"]

FULL = ("fp32", "tf32")
EMULATED = "this precision is emulated here: its speed says nothing about hardware that has it, and enters no claim"
BUSY = "measured on a busy machine, so the time enters no claim"


def cost_metrics(run: Run, record: CellRecord) -> dict[str, MetricValue]:
    """What a training step of a cell costs, measured once for all of its seeds."""
    values, batch = run.values(record, Role.MEASURE, MeasureValues), record["cell"]["batch"]
    measured = values["configurations"].get(record["cell"]["label"]) if values else None
    if values is None or measured is None or batch is None:
        return {}
    costs = StepCosts(measured["step_time_ms"], measured["peak_memory_mib"], batch)
    entries: dict[str, MetricValue] = {}
    for name, value in (item for each in chosen("cost", {}) for item in each.by_key(each.call(costs)).items()):
        if isinstance(value, Sequence):
            entries[name] = _geometric_mean(value)
            entries[name]["rounds"] = list(value)
            if measured["emulated"]:
                entries[name]["emulated"] = True
            if busy := measured.get("busy"):
                entries[name]["busy"] = busy
        else:
            definition = values["memory_definition"] if name == "peak_memory_mib" else "an exact count"
            entries[name] = {"value": value, "n": 1, "ci_low": None, "ci_high": None, "reason": definition}
    return entries


def measurement_of(run: Run) -> Measurement | None:
    """How the costs were measured; None where they were not."""
    values = run.first_values(Role.MEASURE, MeasureValues)
    if values is None or not values["configurations"]:
        return None
    some = next(iter(values["configurations"].values()))
    return {
        "threads": values["threads"],
        "others_cores": values.get("others_cores"),
        "rounds": len(some["step_time_ms"]),
        "steps_timed": some["steps_timed"],
        "memory_definition": values["memory_definition"],
    }


def cost_ratios(cells: Sequence[CellResult]) -> list[CostRatio]:
    """Each label in mixed precision over the label that differs from it in nothing else."""
    measured = {cell["label"]: cell for cell in cells if "step_time_ms" in cell["metrics"]}
    return [
        {
            "mixed": mixed["label"],
            "full": full["label"],
            "step_time": _time_ratio(mixed["metrics"]["step_time_ms"], full["metrics"]["step_time_ms"]),
            "peak_memory": _peak(mixed) / _peak(full),
        }
        for mixed in measured.values()
        for full in measured.values()
        if mixed["precision"] not in FULL and full["precision"] in FULL and _axes(mixed) == _axes(full)
    ]


def _axes(cell: CellResult) -> tuple[object, ...]:
    return cell["norm"], cell["filters"], cell["batch"], cell["recipe"]


def _peak(cell: CellResult) -> float:
    peak = cell["metrics"]["peak_memory_mib"]["value"]
    assert peak is not None  # every measurement has it
    return peak


def _time_ratio(mixed: MetricValue, full: MetricValue) -> MetricValue:
    """Round by round, since the machine's speed drifts."""
    both = (mixed, full)
    reason = EMULATED if any(entry.get("emulated") for entry in both) else None
    busy = next((entry["busy"] for entry in both if entry.get("busy")), None)
    reason = reason or (f"{BUSY}: {busy}" if busy else None)
    if reason:
        return {"value": None, "n": 0, "ci_low": None, "ci_high": None, "reason": reason}
    return _geometric_mean([a / b for a, b in zip(mixed["rounds"], full["rounds"], strict=True)])


def _geometric_mean(rounds: Sequence[float]) -> MetricValue:
    """Times and their ratios vary by factors: mean and interval are of their logarithms, so that twice as fast and
    twice as slow cancel. SD is as measured."""
    logs = mean_with_interval(np.log(rounds).tolist(), "interleaved round")
    low, high = (None if end is None else math.exp(end) for end in (logs["ci_low"], logs["ci_high"]))
    sd = float(np.std(rounds, ddof=1)) if len(rounds) > 1 else None
    return as_metric({**logs, "value": math.exp(logs["value"]), "ci_low": low, "ci_high": high, "sd": sd})
