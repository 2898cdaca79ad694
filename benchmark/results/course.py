"""Quality against budget: what a generator was worth after shares of its training."""

import numpy as np

from benchmark.artifacts.roles import Role, at_share
from benchmark.artifacts.values import GANValues, MeasureValues, ScoreValues
from benchmark.results.format import CoursePoint
from benchmark.results.run_folder import CellRecord, Run

__all__ = ["course_of"]

TERA = 1e12


def course_of(run: Run, record: CellRecord) -> list[CoursePoint]:
    """The points of a cell that are finished, in the order of its training; none where it was not kept on its way."""
    gan = run.values(record, Role.GAN, GANValues)
    if gan is None or "kept" not in gan:
        return []
    seconds, flops = _step_seconds(run, record), gan.get("step_flops")
    moments = [(float(share), steps, at_share(Role.SCORE, float(share))) for share, steps in gan["kept"].items()]
    points: list[CoursePoint] = []
    for share, steps, role in [*moments, (1.0, gan["steps"], Role.SCORE)]:
        score = run.values(record, role, ScoreValues)
        if score is None:
            continue
        labels = score.get("labels")
        pieces = labels.get("means", {}).get("component_count") if labels else None
        points.append(
            {
                "share": share,
                "steps": steps,
                "seconds": None if seconds is None else seconds * steps,
                "tflop": None if flops is None else flops * steps / TERA,
                "metrics": score["metrics"],
                "pieces": pieces["generated"] if pieces else None,
            }
        )
    return points


def _step_seconds(run: Run, record: CellRecord) -> float | None:
    """Of a training step, by the median over rounds; None where the format is emulated, or the machine was busy."""
    values = run.values(record, Role.MEASURE, MeasureValues)
    measured = values["configurations"].get(record["cell"]["label"]) if values else None
    if measured is None or measured["emulated"] or measured.get("busy"):
        return None
    return float(np.median(measured["step_time_ms"])) / 1000
