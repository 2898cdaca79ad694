"""Generators at equal seconds of training: what the longer training had reached when the shorter one ended."""

from collections.abc import Sequence

import numpy as np

from benchmark.claims.evidence import MissingDataError
from benchmark.results.format import CellResult, CoursePoint

__all__ = ["at_equal_time"]


def at_equal_time(cells: Sequence[CellResult], metric: str, labels: Sequence[str]) -> tuple[float, list[CellResult]]:
    """The seconds of the shortest of the trainings of `labels`, and their cells with the metric as it was then.

    Between two moments at which a generator was kept, the metric is taken to be linear in the logarithm of time. Raises
    MissingDataError where a label was not kept on its way, was not timed, or was kept later only.
    """
    chosen = [cell for cell in cells if cell["label"] in labels and cell["status"] == "done"]
    for label in labels:
        of_label = [cell for cell in chosen if cell["label"] == label]
        if not of_label:
            raise MissingDataError(f"no {metric} of {label}")
        if not all(len(cell["course"]) > 1 for cell in of_label):
            raise MissingDataError(f"{label} was not kept on its way: give the profile 'at', such as [1/4, 1/2]")
        if any(point["seconds"] is None for cell in of_label for point in cell["course"]):
            raise MissingDataError(f"the time of a step of {label} says nothing here: emulated, or others computed")
    seconds = min(_seconds(cell["course"][-1]) for cell in chosen)
    return seconds, [_at(cell, metric, seconds) for cell in chosen]


def _at(cell: CellResult, metric: str, seconds: float) -> CellResult:
    times = [_seconds(point) for point in cell["course"]]
    if seconds < times[0]:
        raise MissingDataError(
            f"{cell['label']} was first kept after {times[0]:.0f} s; the other training had ended ({seconds:.0f} s)"
        )
    entry = cell["metrics"].get(metric)
    values = [point["metrics"].get(metric) for point in cell["course"]]
    if entry is None or any(value is None for value in values):
        raise MissingDataError(f"no {metric} of {cell['label']}")
    value = float(np.interp(np.log(seconds), np.log(times), np.array(values, dtype=np.float64)))
    return {**cell, "metrics": {**cell["metrics"], metric: {**entry, "value": value}}}


def _seconds(point: CoursePoint) -> float:
    assert point["seconds"] is not None  # or the claim had been refused
    return point["seconds"]
