"""Charts as inline SVG: text stays text, colours of axes follow the page, equal input gives equal bytes.

Charts have no legend of their own: the page shows one above each group of them, which a phone can wrap.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from benchmark.protocol.cells import Kind

__all__ = [
    "Curve",
    "Level",
    "Line",
    "Points",
    "arm_colours",
    "course_chart",
    "prd_chart",
    "subject_chart",
    "training_chart",
    "utility_chart",
]

REAL_COLOUR = "#808080"  # real data are the reference everywhere, so they have no hue
UNTRAINED_COLOURS = ("#8a6d4b", "#b9986a")
# Order of seaborn's colour-blind palette in which neighbours differ most; its yellow and pinks vanish on white.
HUES = (0, 1, 2, 4, 9, 3, 5)
MOST_NAMED = 75  # labels below a chart: more would lie over each other
_INK = "#010203"  # becomes currentColor, so that axes and text are legible in a dark page too
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may contain a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # shipped with matplotlib, so the layout is the same on every machine
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": 9,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "path.simplify": True,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Curve:
    """A label's PRD: per seed (runs, angles) arrays of precision and recall."""

    colour: str
    precision: Sequence[NDArray[np.float64]]
    recall: Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Line:
    """One seed's course over training steps, or over another measure of what was spent."""

    colour: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """What U-Nets reach that learned from so many real subjects: each seed's value."""

    colour: str
    number: int
    values: Sequence[float]


@dataclass(frozen=True)
class Level:
    """A synthetic set: each seed's value, how many real subjects it is worth, and the interval of that, as drawn."""

    colour: str
    values: Sequence[float]
    worth: float | None
    interval: tuple[float, float] | None


def arm_colours(kinds: Mapping[str, Kind]) -> dict[str, str]:
    """A colour per arm, told apart by colour-blind readers too, given what it learns from.

    What learns from real data is grey, and what does not learn at all is brown.
    """
    palette = [mpl.colors.to_hex(colour) for colour in sns.color_palette("colorblind")]
    hues = iter([palette[index] for index in HUES])
    fallback = iter([mpl.colors.to_hex(colour) for colour in sns.color_palette("husl", max(1, len(kinds)))])
    browns = cycle(UNTRAINED_COLOURS)
    colours = {}
    for arm, kind in kinds.items():
        if kind == "real":
            colours[arm] = REAL_COLOUR
        elif kind == "untrained":
            colours[arm] = next(browns)
        else:
            colours[arm] = next(hues, None) or next(fallback)
    return colours


def prd_chart(curves: Mapping[str, Curve], floor: Curve | None, title: str) -> str:
    """Precision over recall: the mean over seeds and k-means runs, its band, and thin lines for several seeds.

    The points of all runs at one angle lie on one ray from the origin, so mean and SD per angle are taken along it.
    """
    with _style(title):
        figure, axes = _figure(4.2, 3.9)
        for name, curve in ([("", floor)] if floor else []) + list(curves.items()):
            is_floor = not name
            _prd_curve(axes, curve, "--" if is_floor else "-", band=not is_floor)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="recall", ylabel="precision", aspect="equal")
        sns.despine(ax=axes)
        return _svg(figure, title)


def _prd_curve(axes: Axes, curve: Curve, style: str, *, band: bool) -> None:
    thin = slice(None, None, 10)  # 1001 angles are ten times more than the eye can tell apart
    seeds = [(p.mean(axis=0)[thin], r.mean(axis=0)[thin]) for p, r in zip(curve.precision, curve.recall, strict=True)]
    if len(seeds) > 1:
        for precision, recall in seeds:
            axes.plot(recall, precision, style, color=curve.colour, linewidth=0.6, alpha=0.6)
    precision, recall = (np.mean([seed[part] for seed in seeds], axis=0) for part in (0, 1))
    if band:
        p_sd = np.mean([runs.std(axis=0)[thin] for runs in curve.precision], axis=0)
        r_sd = np.mean([runs.std(axis=0)[thin] for runs in curve.recall], axis=0)
        outer = np.column_stack([recall + r_sd, precision + p_sd])
        inner = np.column_stack([recall - r_sd, precision - p_sd])[::-1]
        corners = np.clip(np.concatenate([outer, inner]), 0, 1)
        axes.fill(corners[:, 0], corners[:, 1], color=curve.colour, alpha=0.15, linewidth=0)
    axes.plot(recall, precision, style, color=curve.colour, linewidth=1.6)


def subject_chart(
    values: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], title: str, ylabel: str
) -> str:
    """Label -> subject -> value: a dot per subject, thin lines that follow a subject, a bar at each label's mean."""
    names = list(values)
    with _style(title):
        figure, axes = _figure(4.2, 2.9)
        for subject in dict.fromkeys(subject for column in values.values() for subject in column):
            known = [(x, values[name][subject]) for x, name in enumerate(names) if subject in values[name]]
            axes.plot(*zip(*known, strict=True), color=_INK, alpha=0.16, linewidth=0.6, zorder=1)
        for x, name in enumerate(names):
            heights = list(values[name].values())
            axes.scatter([x] * len(heights), heights, s=13, color=colours[name], alpha=0.8, linewidths=0, zorder=2)
            if heights:
                mean = float(np.mean(heights))
                axes.plot([x - 0.28, x + 0.28], [mean, mean], color=colours[name], linewidth=2.2, zorder=3)
        rotation = 0 if len(names) < 7 else 30 if len(names) < 13 else 90
        if len(names) <= MOST_NAMED:
            axes.set_xticks(range(len(names)), names, rotation=rotation, fontsize=8 if rotation < 90 else 4)
        else:
            axes.set_xticks([])
            axes.set_xlabel(f"{len(names)} labels, too many to be named here")
        axes.set(xlim=(-0.5, len(names) - 0.5), ylabel=ylabel, title=title)
        axes.margins(y=0.08)
        axes.tick_params(axis="x", length=0)
        sns.despine(ax=axes)
        return _svg(figure, title)


def utility_chart(
    curve: Sequence[Points], levels: Sequence[Level], mixed: Sequence[Sequence[Points]], title: str, ylabel: str
) -> str:
    """DSC over the number of real subjects (log): the curve of real data, synthetic sets as levels, mixtures dashed.

    Dots are seeds, lines join means, bands are +- SD over seeds. A diamond stands where a level meets the curve; the
    thick part of the level is the interval of that place.
    """
    with _style(title):
        figure, axes = _figure(4.2, 3.2)
        for level in levels:
            mean, sd = float(np.mean(level.values)), _sd(level.values)
            axes.axhspan(mean - sd, mean + sd, color=level.colour, alpha=0.12, linewidth=0)
            axes.axhline(mean, color=level.colour, linewidth=1.2)
            if level.interval:
                axes.plot(level.interval, [mean, mean], color=level.colour, linewidth=4, alpha=0.55)
            if level.worth:
                axes.plot([level.worth, level.worth], [0, mean], ":", color=level.colour, linewidth=1)
                axes.plot([level.worth], [mean], "D", color=level.colour, markersize=5, zorder=4)
        numbers = [points.number for points in curve]
        means = np.array([np.mean(points.values) for points in curve])
        sds = np.array([_sd(points.values) for points in curve])
        axes.fill_between(numbers, means - sds, means + sds, color=REAL_COLOUR, alpha=0.15, linewidth=0)
        for line, style in ((curve, "-"), *((points, "--") for points in mixed)):
            _seed_points(axes, line, style)
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        shown = [value for level in levels for value in level.values]
        shown += [value for line in (curve, *mixed) for points in line for value in points.values]
        margin = 0.08 * (max(shown) - min(shown)) + 0.01
        axes.set(xlim=(numbers[0] / 1.12, numbers[-1] * 1.12), ylim=(min(shown) - margin, max(shown) + margin))
        axes.set(xlabel="real subjects that a U-Net learns from (log scale)", ylabel=ylabel, title=title)
        sns.despine(ax=axes)
        return _svg(figure, title)


def _seed_points(axes: Axes, points: Sequence[Points], style: str) -> None:
    """Means joined in the colour of the last, each with its seeds in its own."""
    axes.plot(
        [each.number for each in points],
        [np.mean(each.values) for each in points],
        style,
        color=points[-1].colour,
        linewidth=1.6,
        zorder=3,
    )
    for each in points:
        across = [each.number] * len(each.values)
        axes.scatter(across, each.values, s=13, color=each.colour, alpha=0.8, linewidths=0, zorder=3)
        axes.plot(each.number, np.mean(each.values), "_", color=each.colour, markersize=11, zorder=3)


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def course_chart(lines: Sequence[Line], floor: float | None, title: str, axes_names: tuple[str, str]) -> str:
    """A dot for each moment at which a generator was kept, one line per seed, over a budget (log): see `Line`.

    `floor` is what real data reach.
    """
    with _style(title):
        figure, axes = _figure(4.2, 2.9)
        for line in lines:
            axes.plot(line.steps, line.values, ".-", color=line.colour, linewidth=1, markersize=5, alpha=0.85)
        if floor is not None:
            axes.axhline(floor, linestyle="--", color=REAL_COLOUR, linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1], title=title, ylim=(0, None))
        sns.despine(ax=axes)
        return _svg(figure, title)


def training_chart(lines: Sequence[Line], title: str, ylabel: str, *, log: bool = False) -> str:
    """A line per seed over training steps, thinned to block means."""
    with _style(title):
        figure, axes = _figure(4.2, 2.6)
        known = [line for line in lines if np.isfinite(line.values).any()]
        courses = [np.column_stack(_blocks(line.steps, line.values)) for line in known]
        # As one collection: a plot of its own for each of a thousand cells takes many seconds.
        colours = [line.colour for line in known]
        lines_at_once = LineCollection(
            courses, colors=colours, linewidths=1, alpha=0.85, capstyle="projecting", joinstyle="round"
        )
        axes.add_collection(lines_at_once)
        if log and known and all((line.values[np.isfinite(line.values)] > 0).all() for line in lines):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set(xlabel="training step", ylabel=ylabel, title=title)
        axes.margins(x=0.02)
        axes.autoscale_view()
        sns.despine(ax=axes)
        return _svg(figure, title)


def _blocks(
    steps: NDArray[np.float64], values: NDArray[np.float64], wanted: int = 120
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over at most `wanted` equal blocks, of the values that are numbers."""
    finite = np.isfinite(values)
    groups = np.array_split(np.flatnonzero(finite), min(wanted, max(1, int(finite.sum()))))
    filled = [group for group in groups if group.size]
    return np.array([steps[group].mean() for group in filled]), np.array([values[group].mean() for group in filled])


@contextmanager
def _style(title: str) -> Iterator[None]:
    """The settings of a chart, for as long as it is drawn and written; ids in it are unique per title."""
    settings: dict[Any, Any] = {**sns.axes_style("ticks"), **_STYLE, "svg.hashsalt": title}
    with mpl.rc_context(settings):
        yield


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, title: str) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names of parts repeat from chart to chart; ids of clips, markers and collections (C0_0_) are hashes and stay.
    text = re.sub(r' id="(?!C\d+_)[\w.]+_\d+"', "", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    # Two decimals of a point are enough for coordinates; the text between the tags keeps its digits.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group()), text)
    text = text.replace(_INK, "currentColor").replace("\n", " ")
    text = re.sub(r"  +|(?<=>) (?=<)", lambda blank: " " if len(blank.group()) > 1 else "", text)
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None  # matplotlib writes one
    opening = f'<svg class="chart" role="img" aria-label="{html.escape(title)}" {view.group()}>'
    return opening + text[text.index(">") + 1 :].strip()
