"""How many real subjects a synthetic set is worth: charts, a sentence per set, and the budget that all share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from markupsafe import Markup

from benchmark.claims.utility import worth_in_words
from benchmark.metrics.registry import REGION_NAMES, every
from benchmark.report.charts import REAL_COLOUR, Level, Points, utility_chart
from benchmark.report.sections.tables import Column, Entry, Row, Table, column
from benchmark.report.sections.text import ArmMark, deviation, metric_phrase, number, sentence
from benchmark.results.format import Results, Training
from benchmark.results.judgements import CurvePoint, UtilityArm, UtilityCurve, Worth
from benchmark.words import join, plural

__all__ = ["Utility", "UtilityMetric", "utility_view"]

DECIMALS = 3


@dataclass(frozen=True)
class UtilityMetric:
    """One metric: its name in a sentence, what the synthetic sets alone are worth, a sentence per set, the chart."""

    name: str
    answer: str
    sentences: Sequence[tuple[ArmMark, str]]
    chart: Markup


@dataclass(frozen=True)
class Utility:
    """Everything of the section."""

    marks: Sequence[ArmMark]
    metrics: Sequence[UtilityMetric]
    table: Table
    budget: str
    interpolation: str
    seeds: str
    all_real: int
    has_mixed: bool


def utility_view(results: Results, marks: Mapping[str, ArmMark]) -> Utility | None:
    """None where no U-Nets learned from fewer real subjects."""
    entries = results["utility"]
    if not entries:
        return None
    several = len({entry["recipe"] for entry in entries}) > 1
    weighed = {row["label"] for entry in entries for row in _rows(entry)}
    seeds = sorted({cell["seed"] for cell in results["cells"] if cell["label"] in weighed})
    arms = [arm for entry in entries for arm in entry["arms"]]
    return Utility(
        marks=[marks[name] for name in dict.fromkeys(arm["label"] for arm in arms)],
        metrics=[_metric(entry, marks, f", recipe {entry['recipe']}" if several else "") for entry in entries],
        table=_table(results, marks),
        budget=_budget(results),
        interpolation=entries[0]["interpolation"],
        seeds=f"{plural(len(seeds), 'seed')} ({join(map(str, seeds))})",
        all_real=results["split"].get("train", 0),
        has_mixed=any(arm["mixed_with"] for arm in arms),
    )


def _rows(entry: UtilityCurve) -> Iterable[CurvePoint | UtilityArm]:
    return chain(entry["curve"], entry["arms"])


def _metric(entry: UtilityCurve, marks: Mapping[str, ArmMark], recipe: str) -> UtilityMetric:
    levels = []
    mixed: dict[str, list[Points]] = {}
    for arm in entry["arms"]:
        colour, worth = marks[arm["label"]].colour, arm["worth"]
        if arm["mixed_with"]:
            mixed.setdefault(arm["mixed_with"], []).append(_points(arm, colour))
        else:
            levels.append(Level(colour, _values(arm), worth["value"], _drawn_interval(worth)))
    lines = [sorted(points, key=lambda each: each.number) for points in mixed.values()]
    curve = [_points(point, REAL_COLOUR) for point in entry["curve"]]
    where = REGION_NAMES[every()[entry["metric"]].region]
    title = f"DSC by number of real subjects, {where}{recipe}"
    chart = utility_chart(curve, levels, lines, title, "DSC (test subjects)")
    return UtilityMetric(
        f"{metric_phrase(entry['metric'])}{recipe}",
        " ".join(worth_in_words(arm) for arm in entry["arms"] if not arm["mixed_with"]),
        [(marks[arm["label"]], worth_in_words(arm)) for arm in entry["arms"]],
        Markup(chart),
    )


def _points(row: CurvePoint | UtilityArm, colour: str) -> Points:
    return Points(colour, row["real_subjects"], _values(row))


def _values(row: CurvePoint | UtilityArm) -> Sequence[float]:
    return list(row["by_seed"].values())


def _drawn_interval(worth: Worth) -> tuple[float, float] | None:
    """Open ends run to the ends of the curve."""
    if worth["reason"]:
        return None
    low, high = worth["ci_low"], worth["ci_high"]
    return (worth["smallest"] if low is None else low, worth["largest"] if high is None else high)


def _table(results: Results, marks: Mapping[str, ArmMark]) -> Table:
    """Every arm: what a U-Net learned from, for how many steps, and what it reached."""
    entries = results["utility"]
    trained: dict[str, list[Training]] = {}
    for cell in results["cells"]:
        if "unet" in cell["trainings"]:
            trained.setdefault(cell["label"], []).append(cell["trainings"]["unet"])
    rows = []
    by_metric = [{row["label"]: row for row in _rows(entry)} for entry in entries]
    for arm, row in {arm: row for of_metric in by_metric for arm, row in of_metric.items()}.items():
        unets = trained.get(arm, [])
        entry = [Entry(str(row["real_subjects"]))]
        for kind in ("real", "synthetic"):
            counts = sorted({unet["samples"].get(kind, 0) for unet in unets})
            entry.append(Entry(join(str(count) for count in counts) if counts else "–"))
        steps = [unet["steps"] for unet in unets]
        entry.append(Entry(_range(steps), f"best {_range([unet['best_step'] for unet in unets])}" if unets else ""))
        for of_metric in by_metric:
            reached = of_metric.get(arm)
            entry.append(_reached(reached) if reached else Entry("–"))
        rows.append(Row(marks[arm], entry))
    columns = [
        Column("real subjects"),
        Column("real", "patches"),
        Column("synthetic", "pairs"),
        Column("U-Net steps", "over seeds"),
        *(column(entry["metric"]) for entry in entries),
    ]
    caption = "What each U-Net learned from, and what it reached: mean ± SD over seeds"
    return Table(columns, rows, caption=caption, corner="learned from")


def _reached(row: CurvePoint | UtilityArm) -> Entry:
    sd = f"± {deviation(row['sd'], DECIMALS)}" if row["sd"] is not None else ""
    return Entry(f"{number(row['value'], DECIMALS)} {sd}".strip(), value=row["value"])


def _range(values: Sequence[int]) -> str:
    if not values:
        return "–"
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}–{max(values)}"


def _budget(results: Results) -> str:
    unet = results["settings"]["unet"]
    chosen = unet.get("threshold") == "validation"
    score = "mean DSC inside the brain, at the best threshold," if chosen else "mean soft Dice"
    return sentence(
        f"every U-Net has the same budget, whatever it learns from: at most {unet['steps']} steps of "
        f"{unet['batch']} patches, validated after every {unet['validate_every']}; it stops after "
        f"{plural(unet['patience'], 'validation')} without a gain, and its best weights are kept. A validation is the "
        f"{score} over the whole volumes of {plural(results['split'].get('validation', 0), 'subject')}"
    )
