"""The sentences of a verdict, for the terminal and the page alike."""

from collections.abc import Mapping

from benchmark.claims.evidence import COUNT, SEED, SUBJECT
from benchmark.claims.statistics import EXACT_PAIRS, LEAST_SEEDS
from benchmark.results.judgements import ClaimResult, Missing, Needed, Verdict
from benchmark.words import join, plural

__all__ = [
    "CPU_NOTE",
    "NOT_COMPARABLE",
    "disagreement",
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
PAPER_WORDS: Mapping[Verdict, str] = {
    "supported": "compatible",
    "refuted": "not compatible",
    "inconclusive": "undecided",
}


def spoken(verdict: Verdict, kind: str) -> str:
    """A verdict in the words of its kind: of a published number it is never said that it is refuted."""
    return PAPER_WORDS[verdict] if kind == "compatible" else verdict


def duration(hours: float) -> str:
    """Hours, or minutes where it is less than one."""
    if hours >= 1:
        return f"about {hours:.1f} hours"
    minutes = round(60 * hours)
    return f"about {plural(minutes, 'minute')}" if minutes >= 1 else "less than a minute"


def uncertain(comparisons: int) -> str:
    """Why a claim is open whose interval spans the bound."""
    if comparisons > 1:
        return "the interval of at least one comparison holds differences with which the claim would be true and others"
    return "the interval holds differences with which the claim would be true and others with which it would be false"


def disagreement(metric: str, labels: tuple[str, str], by_seed: Mapping[int, float]) -> str:
    """Why a claim about trained models is open that some of them meet and some do not."""
    each = " and ".join(f"{mean:.3g} of seed {seed}" for seed, mean in by_seed.items())
    return f"the trained models disagree: {metric} of {labels[0]} less that of {labels[1]} is {each}"


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
        f"with {plural(units, unit)} the exact test cannot give a p below {2 / 2**units:.2g}, too coarse for {family} "
        f"claims; {enough} would do"
    )


def needed_words(needed: Needed, leaning: str, seeds: int) -> str:
    """What would decide a claim, with how sure that is."""
    more, low, high = needed["more"], needed["low"], needed["high"]
    if more is None:
        return f"No number can be given: {needed['reason']}."
    words = plural(more, f"more {needed['unit']}")
    if needed["with_seeds"]:
        words += f", with {plural(needed['with_seeds'], SEED)},"
    span = f"{low} to {high}" if high is not None else f"at least {low}, with no upper end,"
    span = f"{low} too" if high == low else span
    hours = needed.get("hours")
    time = "" if hours is None else f", {duration(hours)} of one worker"
    rough = f" From {plural(seeds, 'seed')} that is hardly more than a guess." if 0 < seeds < LEAST_SEEDS else ""
    return (
        f"If effect and spread are as seen here, {words} would have it {leaning} with 80 % power{time} "
        f"({span} if both are one standard error off).{rough}"
    )


def unit_words(claim: ClaimResult) -> str:
    """What a verdict rests on: `10 test subjects`, `5 seeds x 10 test subjects`."""
    if claim["unit"] is None:
        return "no data"
    if claim["unit"] == COUNT:
        return COUNT
    words = plural(claim["n"], claim["unit"])
    if "seconds" in claim:
        words += f", both after {claim['seconds']:.0f} s of training steps"
    if claim["unit"] == SUBJECT:
        return f"{words}, {plural(claim['seeds'], SEED)}"
    return f"{words} x {plural(claim['subjects'], SUBJECT)}" if claim["unit"] == SEED and claim["subjects"] else words


def missing_words(missing: Missing, kind: str) -> str:
    """What is missing behind a verdict on a claim of this kind, and what it could have changed."""
    failed, empty = missing["failed_cells"], missing["empty_predictions"]
    parts = [f"{plural(len(failed), 'cell')} failed or unfinished ({', '.join(failed)})"] if failed else []
    parts += [f"{plural(empty, 'segmentation')} with an empty prediction or truth"] if empty else []
    parts += [f"{plural(missing['values'], 'value')} without a pair or a meaning"] if missing["values"] else []
    best, worst = spoken(missing["best_case"], kind), spoken(missing["worst_case"], kind)
    if best == worst:
        outcome = f"the verdict is {worst} whatever these would have been"
    else:
        outcome = f"{best} if all of it had come out for the claim, {worst} if against it"
    return f"Missing: {'; '.join(parts)}. In the best and the worst case: {outcome}."


def remarks_of(claim: ClaimResult) -> list[str]:
    """What has to be known beside a verdict: why it is open, what would decide it, what is missing."""
    remarks = [f"{claim['reason'][:1].upper()}{claim['reason'][1:]}."] if claim["reason"] else []
    if not claim["reason"] and (by_seed := claim.get("by_seed")):
        remarks.append(f"Each seed by itself: {join(f'{mean:.3g}' for mean in by_seed)}.")
    remarks += [claim["needed"]["sentence"]] if claim["needed"] else []
    remarks += [missing_words(claim["missing"], claim["kind"])] if claim["missing"] else []
    return remarks + ([f"{claim['note']}."] if claim["note"] else [])
