"""Numbers as a reader wants them, and the labels of a run with their colours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.metrics.registry import find
from benchmark.report.charts import label_colours
from benchmark.results.arms import trained_on

__all__ = [
    "LabelMark",
    "deviation",
    "interval",
    "label_marks",
    "metric_phrase",
    "number",
    "sentence",
    "signed",
    "spread",
    "unit_of",
]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class LabelMark:
    """A label (the paper's name of a variant, or `real`) with the colour that it has throughout the page."""

    name: str
    colour: str
    is_real: bool
    is_synthetic: bool  # neither of the two where real patches and synthetic pairs are mixed


def label_marks(results: Mapping[str, Any]) -> dict[str, LabelMark]:
    """Every label of the run, in the order of the results."""
    learned_from = {cell["label"]: trained_on(cell) for cell in results["cells"]}
    colours = label_colours(learned_from)
    return {
        name: LabelMark(name, colours[name], source == "real", source == "synthetic")
        for name, source in learned_from.items()
    }


def number(value: float, decimals: int) -> str:
    """A fixed number of decimals; a value that would lose all its digits keeps two of them and a power of ten."""
    if value != 0 and abs(value) < 10.0**-decimals:
        mantissa, exponent = f"{value:.1e}".split("e")
        return _minus(f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    return _minus(f"{value:,.{decimals}f}".replace(",", "\N{THIN SPACE}"))


def deviation(value: float, decimals: int) -> str:
    """A standard deviation, which may be too small for the decimals of its mean."""
    least = 10.0**-decimals
    return f"< {least:.{decimals}f}" if 0 < value < least / 2 else f"{value:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """The same with a sign in front of a positive number, for differences."""
    return f"+{number(value, decimals)}" if value > 0 else number(value, decimals)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """`[low, high]`, or nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def metric_phrase(metric: str) -> str:
    """The name of a metric inside a sentence: `intracranial DSC`, `FID`, `training step`."""
    found = find(metric)
    if found is None:
        return metric
    if found.region == "all":
        return f"{found.metric.title} of all vessels"
    return f"{found.region} {found.metric.title}".strip()


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def unit_of(metric: str) -> tuple[int, str]:
    """Decimals and unit of a metric."""
    found = find(metric)
    return (3, "") if found is None else (found.metric.decimals, found.metric.unit)


def spread(values: Sequence[float]) -> float | None:
    """Sample SD, None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _minus(text: str) -> str:
    return text.replace("-", "−")
