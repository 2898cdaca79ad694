"""How many more seeds, subjects or rounds would decide what is undecided, and how long they would take.

The answer takes the observed effect and spread for the true ones, which a few units know badly: beside the number stand
those for effect and spread one standard error to the good and to the bad. Near a bound there is no number at all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from benchmark.artifacts.roles import Role
from benchmark.claims.evidence import ROUND, SEED, SUBJECT
from benchmark.claims.statistics import (
    DRAWS,
    EXACT_PAIRS,
    LEAST_PAIRS,
    LEAST_SEEDS,
    Crossed,
    Effect,
    SignFlip,
    satterthwaite,
)
from benchmark.results.format import CellResult
from benchmark.results.judgements import Needed

__all__ = ["POWER", "Design", "design_of", "hours_of", "plan", "power", "units_needed"]

POWER = 0.8
MOST = 500  # units; more is no plan
SHARED = (Role.DATA, Role.REFERENCE, Role.MEASURE)  # stages that a further seed does not repeat


@dataclass(frozen=True)
class Design:
    """What power depends on: the variance of one unit's difference, by source, and how many units there are."""

    unit: str
    exact: bool  # judged by sign flips
    units: int
    variance: float  # of one unit (of one seed, its residual over the subjects included, where subjects vary too)
    subjects: int = 0  # where both vary
    subject_variance: float = 0.0


def design_of(effect: Effect, unit: str) -> Design:
    """The design behind an effect."""
    differences = effect.differences
    if isinstance(effect, Crossed):
        of_seeds, of_subjects, _ = effect.variances()
        seeds, subjects = differences.shape
        return Design(unit, False, seeds, float(of_seeds) * seeds, subjects, float(of_subjects) * subjects)
    variance = float(np.var(differences, ddof=1))
    return Design(unit, isinstance(effect, SignFlip), len(differences), variance)


def power(design: Design, distance: float, level: float, units: int, subjects: int | None = None) -> float:
    """Chance that a two-sided test at `level` finds an effect at `distance` from the bound, on its side."""
    subjects = design.subjects if subjects is None else subjects
    variance, freedom = design.variance / units, units - 1.0
    if design.subjects:
        # The residual's share of a seed's variance would shrink with more subjects; it is left in, on the safe side.
        by_subjects = design.subject_variance / subjects
        freedom = float(satterthwaite(variance, by_subjects, units, subjects))
        variance += by_subjects
    if design.exact:  # only so many levels exist
        patterns = 2**units if units <= EXACT_PAIRS else DRAWS + 1
        level = 2 * int(level / 2 * patterns) / patterns
    if level <= 0 or distance <= 0:
        return 0.0
    noncentrality = distance / np.sqrt(variance) if variance > 0 else np.inf
    if noncentrality > 30:
        critical = float(scipy.stats.t.ppf(1 - level / 2, freedom))
        return float(scipy.stats.norm.sf(critical - min(noncentrality, 1e6)))
    return float(scipy.stats.nct.sf(scipy.stats.t.ppf(1 - level / 2, freedom), freedom, noncentrality))


def units_needed(chance: Callable[[int], float], least: int) -> int | None:
    """The fewest units, at least `least`, with which `chance` reaches 80 %; None beyond 500."""
    if chance(MOST) < POWER:
        return None
    low, high = least - 1, max(least, MOST)
    while high - low > 1:  # chance grows with the units, up to the steps of an exact test
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return high


def plan(design: Design, distances: Sequence[float], standard_error: float, level: float) -> Needed:
    """What would decide a claim, without hours and sentence.

    `distances` are those of the effect from the bounds that matter, positive on the side that is tested; a claim with
    two bounds needs both.
    """

    def needed(off: int, by_subjects: bool) -> int | None:
        seeds = max(design.units, LEAST_SEEDS)
        moved = _with_spread(design, off)

        def chance(count: int) -> float:
            args = (seeds, count) if by_subjects else (count, None)
            return 1 - sum(1 - power(moved, d + off * standard_error, level, *args) for d in distances)

        least = LEAST_SEEDS if design.unit == SEED else LEAST_PAIRS
        return units_needed(chance, 2 if by_subjects else least)

    by_subjects = False
    count = needed(0, False)
    if count is None and design.subjects:
        count, by_subjects = needed(0, True), True
    unit, have = (SUBJECT, design.subjects) if by_subjects else (design.unit, design.units)
    entry: Needed = {
        "unit": unit,
        "power": POWER,
        "level": level,
        "more": None,
        "low": None,
        "high": None,
        "with_seeds": max(design.units, LEAST_SEEDS) if by_subjects else None,
        "reason": None,
    }
    if count is None:
        what = "seeds or test subjects" if design.subjects else f"{design.unit}s"
        reason = f"the effect lies so near to the bound that {MOST} {what} would not decide it either"
        return {**entry, "reason": reason}
    low, high = needed(1, by_subjects), needed(-1, by_subjects)
    return {
        **entry,
        "more": max(1, count - have),
        "low": None if low is None else max(1, low - have),
        "high": None if high is None else max(1, high - have),
    }


def _with_spread(design: Design, off: int) -> Design:
    """Variances one standard error smaller (+1) or larger (-1) than estimated, by their chi-squared distribution."""

    def moved(variance: float, units: int) -> float:
        freedom = units - 1
        return variance * freedom / float(scipy.stats.chi2.ppf(scipy.stats.norm.cdf(off), freedom)) if off else variance

    by_subjects = moved(design.subject_variance, design.subjects) if design.subjects else 0.0
    return replace(design, variance=moved(design.variance, design.units), subject_variance=by_subjects)


def hours_of(unit: str, more: int, labels: Iterable[str], cells: Sequence[CellResult]) -> float | None:
    """Hours of one worker for that many more units of these labels, from the measured seconds of their cells."""
    wanted = set(labels)
    chosen = [cell for cell in cells if cell["label"] in wanted]
    if unit == ROUND:
        cell = next((cell for cell in chosen if Role.MEASURE in cell.get("stage_seconds", {})), None)
        times = cell["metrics"].get("step_time_ms") if cell else None
        rounds = len(times.get("rounds", ())) if times else 0
        return more * cell["stage_seconds"][Role.MEASURE] / rounds / 3600 if cell and rounds else None
    if unit == SUBJECT:
        seconds = 0.0
        for cell in chosen:
            scores = cell["metrics"].get("dsc/all")
            if scores and scores["n"] and Role.EVALUATE in cell.get("stage_seconds", {}):
                seconds += cell["stage_seconds"][Role.EVALUATE] / scores["n"]
        return more * seconds / 3600 if seconds else None
    per_seed = 0.0
    for label in wanted:
        again = (cell for cell in chosen if cell["label"] == label and cell["kind"] != "untrained")  # that has seeds
        of_label = [_own_seconds(cell) for cell in again if cell.get("status") != "failed"]
        per_seed += float(np.mean(of_label)) if of_label else 0.0
    return more * per_seed / 3600 if per_seed else None


def _own_seconds(cell: CellResult) -> float:
    by_stage = cell.get("stage_seconds")
    if not by_stage:
        return float(cell["seconds"])
    return float(sum(seconds for role, seconds in by_stage.items() if role not in SHARED))
