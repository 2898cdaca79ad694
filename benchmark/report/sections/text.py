"""Numbers as a reader wants them, and the arms of a run with their colours."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.metrics.registry import find
from benchmark.protocol.cells import SYNTHETIC_KINDS, Kind
from benchmark.report.charts import arm_colours
from benchmark.results.format import CellResult
from benchmark.words import typeset

__all__ = [
    "ArmMark",
    "arm_marks",
    "deviation",
    "interval",
    "metric_phrase",
    "number",
    "sentence",
    "signed",
    "unit_of",
]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class ArmMark:
    """An arm (a variant of the paper, or `real`), by the label of its cells, with its colour throughout the page."""

    name: str
    colour: str
    kind: Kind

    @property
    def is_real(self) -> bool:
        """Whether its U-Nets learn from real patches alone."""
        return self.kind == "real"

    @property
    def is_synthetic(self) -> bool:
        """Whether they learn from generated pairs alone."""
        return self.kind in SYNTHETIC_KINDS


def arm_marks(cells: Iterable[CellResult]) -> dict[str, ArmMark]:
    """Every arm of the run by its label, in the order of the results."""
    kinds = {cell["label"]: cell["kind"] for cell in cells}
    colours = arm_colours(kinds)
    return {name: ArmMark(name, colours[name], kind) for name, kind in kinds.items()}


def number(value: float, decimals: int) -> str:
    """A fixed number of decimals; a value that would lose all its digits keeps two of them and a power of ten."""
    if value != 0 and abs(value) < 10.0**-decimals:
        mantissa, exponent = f"{value:.1e}".split("e")
        return typeset(f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    return typeset(f"{value:,.{decimals}f}")


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
