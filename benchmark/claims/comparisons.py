"""A claim as comparisons: effects, where each has to lie for the claim to hold, and the evidence for and against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from benchmark.claims.equal_time import at_equal_time
from benchmark.claims.evidence import COUNT, SUBJECT, Evidence, MissingDataError, Pairs, effect_of, obstacle_of
from benchmark.claims.statistics import Effect
from benchmark.metrics.registry import find
from benchmark.protocol.claim import Claim, split_side
from benchmark.results.judgements import Verdict
from benchmark.results.run_folder import PublishedValue

__all__ = ["INFINITE", "Assessment", "Comparison", "comparison_of", "comparisons_of"]

INFINITE = float("inf")
NO_ROWS = pd.DataFrame()  # of subjects: no metric of theirs is compared at equal time


@dataclass(frozen=True)
class Comparison:
    """One effect and where it has to lie for the claim to hold."""

    pairs: Pairs
    low: float
    high: float
    effect: Effect | None
    seeds: int
    columns: int
    obstacle: str | None
    strict: bool = False  # whether the bounds themselves are excluded

    @property
    def mean(self) -> float:
        """Mean difference, first side minus second."""
        return float(np.nanmean(self.pairs.differences)) if self.effect is None else float(self.effect.effect)

    @property
    def is_exact(self) -> bool:
        """Whether it is a count, without any chance in it."""
        return self.pairs.unit == COUNT

    @property
    def can_be_decided(self) -> bool:
        """Whether there are enough units."""
        return self.obstacle is None

    @property
    def clearance(self) -> float:
        """Distance of the effect from the nearest bound in widths of its interval, for telling equal p-values apart."""
        distance = min(abs(self.mean - bound) for bound in (self.low, self.high))
        low, high = (0.0, 0.0) if self.effect is None else (float(end) for end in self.effect.interval())
        return distance / (high - low) if high > low else distance

    def is_met_by_all(self, *, holds: bool) -> bool:
        """Whether the difference of every seed lies where the claim `holds`, or of every one where it does not.

        A verdict about trained models is about each of them: the mean of one that gains and one that loses is neither.
        """
        if self.pairs.unit != SUBJECT:
            return True
        return all((self.low <= mean <= self.high) == holds for mean in self.pairs.by_seed.values())

    @cached_property
    def p_values(self) -> tuple[float, float]:
        """One-sided p-values: for lying in the claimed range, and for lying outside."""
        if self.is_exact:
            inside = self.low < self.mean < self.high if self.strict else self.low <= self.mean <= self.high
            return (0.0, 1.0) if inside else (1.0, 0.0)
        if self.effect is None:
            return 1.0, 1.0
        within: list[float] = []
        outside: list[float] = []
        if self.high < INFINITE:
            within.append(float(self.effect.p_below(self.high)))
            outside.append(float(self.effect.p_above(self.high)))
        if self.low > -INFINITE:
            within.append(float(self.effect.p_above(self.low)))
            outside.append(float(self.effect.p_below(self.low)))
        return max(within), min(outside)


@dataclass(frozen=True)
class Assessment:
    """All comparisons of a claim, with the side to which they lean and the two-sided p."""

    comparisons: Sequence[Comparison]
    leaning: Verdict
    p: float

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> "Assessment":
        """For a claim counts its weakest comparison, against it the strongest, corrected for their number."""
        p_values = [comparison.p_values for comparison in comparisons]
        supporting = max(inside for inside, _ in p_values)
        refuting = min(1.0, len(p_values) * min(outside for _, outside in p_values))
        leaning: Verdict = "supported" if supporting < refuting else "refuted"
        return cls(comparisons, leaning, min(1.0, 2 * min(supporting, refuting)))

    @property
    def deciding(self) -> Comparison:
        """The comparison on which the claim hangs."""
        if self.leaning == "supported":
            return max(self.comparisons, key=lambda comparison: (comparison.p_values[0], -comparison.clearance))
        return min(self.comparisons, key=lambda comparison: (comparison.p_values[1], -comparison.clearance))

    @property
    def split(self) -> Comparison | None:
        """The comparison in which not all trained models lie on the side to which the claim leans, if there is one."""
        if self.leaning == "supported":
            return next((each for each in self.comparisons if not each.is_met_by_all(holds=True)), None)
        return None if self.deciding.is_met_by_all(holds=False) else self.deciding

    @property
    def is_exact(self) -> bool:
        """Whether no chance is in it."""
        return all(comparison.is_exact for comparison in self.comparisons)

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be decided, if so."""
        return next((comparison.obstacle for comparison in self.comparisons if comparison.obstacle), None)


def comparisons_of(claim: Claim, evidence: Evidence, reference: Mapping[str, PublishedValue]) -> list[Comparison]:
    """The comparisons of which a claim is made. Raises MissingDataError where one cannot be made."""
    metric, label = split_side(claim.sides[0])
    if claim.kind == "best":
        rivals = evidence.rivals(label, claim.among)
        if not rivals:
            raise MissingDataError(f"no other synthetic label to compare {label} with")
        return [
            comparison_of(evidence.pairs(metric, label, rival, claim.about), *_better(metric), strict=True)
            for metric in claim.metrics
            for rival in rivals
        ]
    if claim.kind == "compatible":
        published = reference.get(claim.sides[0])
        if published is None:
            raise MissingDataError(f"no published value of {claim.sides[0]}")
        pairs = evidence.against(metric, label, published["value"], claim.about)
    else:
        other = split_side(claim.sides[1])[1]
        if claim.at == "equal time":
            seconds, cells = at_equal_time(evidence.cells, metric, (label, other))
            pairs = replace(Evidence(cells, NO_ROWS).pairs(metric, label, other, claim.about), seconds=seconds)
        else:
            pairs = evidence.pairs(metric, label, other, claim.about)
        pairs = replace(pairs, factors=claim.factors)
    return [comparison_of(pairs, *_range(claim), strict=claim.kind in ("less", "greater"))]


def comparison_of(pairs: Pairs, low: float, high: float, *, strict: bool = False) -> Comparison:
    """Pairs with their effect, and where it has to lie; `strict`: a count on a bound does not lie there."""
    effect, seeds, columns = effect_of(pairs)
    return Comparison(pairs, low, high, effect, seeds, columns, obstacle_of(pairs, seeds, columns), strict)


def _better(metric: str) -> tuple[float, float]:
    found = find(metric)
    assert found is not None  # or the protocol had been refused
    return (-INFINITE, 0.0) if found.metric.better == "lower" else (0.0, INFINITE)


def _range(claim: Claim) -> tuple[float, float]:
    """Where the difference lies if the claim holds."""
    if claim.within is not None:
        return -claim.within, claim.within
    if claim.at_most is not None:
        return -INFINITE, claim.at_most
    return (-INFINITE, 0.0) if claim.kind == "less" else (0.0, INFINITE)
