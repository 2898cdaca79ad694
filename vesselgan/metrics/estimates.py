"""Uncertainty by leaving out whole subjects: the delete-a-group jackknife."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from vesselgan.metrics.inputs import Floats, Parts

__all__ = ["Estimate", "balanced_parts", "jackknife"]


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
    reach = float(stats.t.ppf((1 + level) / 2, count - 1)) * sd
    return Estimate(float(value), sd, max(float(value) - reach, lowest), min(float(value) + reach, highest), level)
