"""Uncertainty by leaving out whole subjects: the delete-a-group jackknife."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NotRequired, TypedDict

import numpy as np
import scipy

from vesselgan.metrics.inputs import Floats, Parts

__all__ = ["CONFIDENCE", "Estimate", "MeanValue", "balanced_parts", "jackknife", "mean_with_interval", "student_t"]

CONFIDENCE = 0.95  # of every interval that is told


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, the standard deviation of its sampling error, and the interval [low, high] at a level such as 0.95."""

    value: float
    sd: float
    low: float
    high: float
    level: float


def balanced_parts(members: Parts, parts: int, rng: np.random.Generator) -> Parts:
    """(N,) part of each row: groups (numbers from 0) are dealt out at random, as many to each part, and never split."""
    dealt = rng.permutation(int(members.max()) + 1) % parts
    part_of_row: Parts = dealt[members]
    return part_of_row


def jackknife(
    value: float, leave_outs: Floats, *, level: float, lowest: float = -np.inf, highest: float = np.inf
) -> Estimate:
    """Estimate from the values (G,) that remain when each of G parts of the sample is left out in turn.

    Variance (G - 1) / G sum_g (v_g - mean)^2, interval by Student's t with G - 1 degrees of freedom, cut to the range
    of the metric. It repeats no row: the percentile bootstrap does, and so shifts a Fréchet distance
    above its own interval. Source: Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3.
    """
    count = len(leave_outs)
    sd = float(np.sqrt((count - 1) / count * ((leave_outs - leave_outs.mean()) ** 2).sum()))
    reach = student_t(level, count - 1) * sd
    return Estimate(float(value), sd, max(float(value) - reach, lowest), min(float(value) + reach, highest), level)


@cache
def student_t(level: float, freedom: float) -> float:
    """How many standard errors a two-sided interval of this level reaches to either side."""

    return float(scipy.stats.t.ppf((1 + level) / 2, freedom))


class MeanValue(TypedDict):
    """A mean as it stands in JSON; without SD and interval there is a reason."""

    value: float
    n: int
    unit: str
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    reason: NotRequired[str]


def mean_with_interval(
    values: Sequence[float], unit: str, limits: tuple[float, float] = (-math.inf, math.inf)
) -> MeanValue:
    """Mean, SD and Student's 95 % interval of the mean over `unit`s; None with a reason where one value is too few.

    The interval is cut to `limits`, what the mean cannot leave: that excludes no true mean, so that it covers as often.
    """
    sample = np.asarray(values, dtype=np.float64)
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        none: MeanValue = {"value": mean, "n": n, "unit": unit, "sd": None, "ci_low": None, "ci_high": None}
        return {**none, "reason": f"no interval from one {unit}"}
    sd = float(sample.std(ddof=1))
    half = student_t(CONFIDENCE, n - 1) * sd / math.sqrt(n)
    low, high = max(mean - half, limits[0]), min(mean + half, limits[1])
    return {"value": mean, "n": n, "unit": unit, "sd": sd, "ci_low": low, "ci_high": high}
