"""Quality against budget: what generators are worth after shares of their training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from markupsafe import Markup

from benchmark.metrics.registry import every
from benchmark.report.charts import Line, course_chart
from benchmark.report.sections.tables import Column, Entry, Row, Table, column, spread_entry
from benchmark.report.sections.text import ArmMark, number, unit_of
from benchmark.results.format import CellResult, CoursePoint, Results
from benchmark.results.rows import sample_sd

__all__ = ["BudgetView", "budget_view"]

METRICS = ("fid", "prd_auc")
Spent = Callable[[CoursePoint], float | None]
BUDGETS: tuple[tuple[str, Spent, str], ...] = (
    ("seconds", lambda point: point["seconds"], "seconds of training steps (log scale)"),
    ("operations", lambda point: point["tflop"], "TFLOP (log scale)"),
)


@dataclass(frozen=True)
class BudgetView:
    """Everything of the section."""

    marks: Sequence[ArmMark]
    charts: Sequence[Markup]
    table: Table
    timed_with: str
    untimed: bool


def budget_view(results: Results, marks: Mapping[str, ArmMark]) -> BudgetView | None:
    """None where no generator was kept on its way."""
    cells = [cell for cell in results["cells"] if cell["course"]]
    if not cells:
        return None
    measurement = results["measurement"]
    return BudgetView(
        marks=[marks[label] for label in dict.fromkeys(cell["label"] for cell in cells)],
        charts=[Markup(chart) for chart in _charts(results, cells, marks)],
        table=Table(_columns(), list(_rows(cells, marks)), caption="Quality against budget: mean ± SD over seeds"),
        timed_with=f"{measurement['threads']}" if measurement else "",
        untimed=any(point["seconds"] is None for cell in cells for point in cell["course"]),
    )


def _charts(results: Results, cells: Sequence[CellResult], marks: Mapping[str, ArmMark]) -> Iterator[str]:
    floor = results["floor"]["metrics"] if results["floor"] else {}
    for metric in METRICS:
        for name, spent, axis in BUDGETS:
            lines = [line for cell in cells if (line := _line(cell, metric, spent, marks[cell["label"]].colour))]
            if lines:
                title = every()[metric].title
                yield course_chart(lines, floor.get(metric), f"{title} against {name}", (axis, title))


def _line(cell: CellResult, metric: str, spent: Spent, colour: str) -> Line | None:
    points = [(spent(point), point["metrics"].get(metric)) for point in cell["course"]]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return Line(colour, *np.array(known, dtype=np.float64).T) if known else None


def _columns() -> list[Column]:
    return [
        Column("of the training"),
        Column("steps"),
        Column("time", "s"),
        Column("operations", "TFLOP"),
        *(column(metric) for metric in METRICS),
        Column("pieces", "of vessel in a label"),
    ]


def _rows(cells: Sequence[CellResult], marks: Mapping[str, ArmMark]) -> Iterator[Row]:
    for label in dict.fromkeys(cell["label"] for cell in cells):
        points = [point for cell in cells if cell["label"] == label for point in cell["course"]]
        for share in sorted({point["share"] for point in points}):
            of_share = [point for point in points if point["share"] == share]
            yield Row(marks[label], list(_entries(share, of_share)))


def _entries(share: float, points: Sequence[CoursePoint]) -> Iterator[Entry]:
    """All seeds have the same steps, and so the same budget."""
    first = points[0]
    yield Entry(str(Fraction(share).limit_denominator(1000)), value=share)
    yield Entry(str(first["steps"]), value=first["steps"])
    yield _number(first["seconds"])
    yield _number(first["tflop"])
    for metric in METRICS:
        yield _over_seeds(
            [value for point in points if (value := point["metrics"].get(metric)) is not None], unit_of(metric)[0]
        )
    yield _over_seeds([value for point in points if (value := point["pieces"]) is not None], 1)


def _over_seeds(values: Sequence[float], decimals: int) -> Entry:
    if not values:
        return Entry("n/a")
    return spread_entry(sum(values) / len(values), sample_sd(values), decimals)


def _number(value: float | None) -> Entry:
    return Entry("n/a") if value is None else Entry(number(value, 1), value=value)
