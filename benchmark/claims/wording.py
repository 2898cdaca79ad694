"""The sentences of a verdict, for the terminal and the page alike."""

from collections.abc import Mapping
from typing import Any

from benchmark.claims.evidence import COUNT, SEED, SUBJECT
from benchmark.claims.statistics import EXACT_PAIRS, LEAST_SEEDS

__all__ = [
    "CPU_NOTE",
    "NOT_COMPARABLE",
    "amount",
    "duration",
    "missing_words",
    "needed_words",
    "remarks_of",
    "spoken",
    "too_coarse",
    "too_many",
    "uncertain",
    "unit_words",
]

CPU_NOTE = "bf16 on a CPU is not the paper's fp16 on a GPU: this says nothing about the paper's own hardware"
NOT_COMPARABLE = "not comparable"
PAPER_WORDS = {"supported": "compatible", "refuted": "not compatible", "inconclusive": "undecided"}


def spoken(verdict: str, kind: str) -> str:
    """A verdict in the words of its kind: of a published number it is never said that it is refuted."""
    return PAPER_WORDS[verdict] if kind == "compatible" else verdict


def amount(count: int, unit: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def duration(hours: float) -> str:
    """Hours, or minutes where it is less than one."""
    if hours >= 1:
        return f"about {hours:.1f} hours"
    minutes = round(60 * hours)
    return f"about {amount(minutes, 'minute')}" if minutes >= 1 else "less than a minute"


def uncertain(comparisons: int) -> str:
    """Why a claim is open whose interval spans the bound."""
    if comparisons > 1:
        return "the interval of at least one comparison holds differences with which the claim would be true and others"
    return "the interval holds differences with which the claim would be true and others with which it would be false"


def too_many(p: float, corrected: float, family: int) -> str:
    """Why a claim is open that would be decided by itself."""
    return (
        f"by itself it would be decided (p = {p:.2g}), but among {family} claims one such is to be expected by luck "
        f"(corrected p = {corrected:.2g})"
    )


def too_coarse(unit: str, units: int, family: int, level: float) -> str | None:
    """Why no values could have decided it first among so many claims; None where some could."""
    if unit == SEED or units > EXACT_PAIRS or 2 * family / 2**units <= level:
        return None
    enough = next(n for n in range(units, 64) if 2 * family / 2**n <= level)
    return (
        f"with {amount(units, unit)} the exact test cannot give a p below {2 / 2**units:.2g}, too coarse for {family} "
        f"claims; {enough} would do"
    )


def needed_words(needed: Mapping[str, Any], leaning: str, seeds: int) -> str:
    """What would decide a claim, with how sure that is."""
    more, low, high = needed["more"], needed["low"], needed["high"]
    if more is None:
        return f"No number can be given: {needed['reason']}."
    words = f"{more} more {needed['unit']}{'' if more == 1 else 's'}"
    if needed["with_seeds"]:
        words += f", with {amount(needed['with_seeds'], SEED)},"
    span = f"{low} to {high}" if high is not None else f"at least {low}, with no upper end,"
    span = f"{low} too" if high == low else span
    time = "" if needed["hours"] is None else f", {duration(needed['hours'])} of one worker"
    rough = f" From {amount(seeds, 'seed')} that is hardly more than a guess." if 0 < seeds < LEAST_SEEDS else ""
    return (
        f"If effect and spread are as seen here, {words} would have it {leaning} with 80 % power{time} "
        f"({span} if both are one standard error off).{rough}"
    )


def unit_words(claim: Mapping[str, Any]) -> str:
    """What a verdict rests on: `10 test subjects`, `5 seeds x 10 test subjects`."""
    if claim["unit"] is None:
        return "no data"
    if claim["unit"] == COUNT:
        return COUNT
    words = amount(claim["n"], claim["unit"])
    if claim["unit"] == SUBJECT:
        return f"{words}, {amount(claim['seeds'], SEED)}"
    return f"{words} x {amount(claim['subjects'], SUBJECT)}" if claim["unit"] == SEED and claim["subjects"] else words


def missing_words(claim: Mapping[str, Any]) -> str:
    """What is missing behind a verdict, and what it could have changed."""
    missing = claim["missing"]
    failed, empty = missing["failed_cells"], missing["empty_predictions"]
    parts = [f"{amount(len(failed), 'cell')} failed or unfinished ({', '.join(failed)})"] if failed else []
    parts += [f"{amount(empty, 'segmentation')} with an empty prediction or truth"] if empty else []
    parts += [f"{amount(missing['values'], 'value')} without a pair or a meaning"] if missing["values"] else []
    best, worst = (spoken(missing[case], claim["kind"]) for case in ("best_case", "worst_case"))
    if best == worst:
        outcome = f"the verdict is {worst} whatever these would have been"
    else:
        outcome = f"{best} if all of it had come out for the claim, {worst} if against it"
    return f"Missing: {'; '.join(parts)}. In the best and the worst case: {outcome}."


def remarks_of(claim: Mapping[str, Any]) -> list[str]:
    """What has to be known beside a verdict: why it is open, what would decide it, what is missing."""
    remarks = [f"{claim['reason'][:1].upper()}{claim['reason'][1:]}."] if claim["reason"] else []
    remarks += [claim["needed"]["sentence"]] if claim["needed"] else []
    remarks += [missing_words(claim)] if claim["missing"] else []
    return remarks + ([f"{claim['note']}."] if claim["note"] else [])
