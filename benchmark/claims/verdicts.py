"""Claim -> supported, refuted or inconclusive, with its evidence. Pure functions on tidy rows.

Every claim says where a difference lies: below a bound, above one, or between two. Two one-sided tests look for
evidence that it lies there and for evidence that it does not. "Equal within" is Schuirmann's pair of one-sided tests
(1987); "best" an intersection-union test: every rival has to be beaten in every metric, with no correction among them.
The claim's p-value is twice the smaller one, so that a claim on the edge is decided, either way, in at most 5 % of
runs. Holm's procedure corrects it for the number of the protocol's claims that could be decided at all; a claim is
decided where the corrected p is at most 5 %.

The interval beside it is an ordinary 95 % one, of this effect alone. Uncorrected p and interval say the same: p <= 5 %
where the bound lies outside. So the interval of a decided claim always lies clear of the bound; but an interval may lie
clear of it and the claim stay inconclusive, since among many claims one such is to be expected by luck.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmark.artifacts.values import ReferenceValues, finite
from benchmark.claims.comparisons import INFINITE, Assessment, Comparison, comparison_of
from benchmark.claims.evidence import SEED, SUBJECT, Array, Evidence, Pairs, within_range
from benchmark.claims.family import LEVEL, Family
from benchmark.claims.planning import design_of, hours_of, plan
from benchmark.claims.statistics import LEAST_SEEDS, sign_flip_p, wilcoxon_p
from benchmark.claims.wording import (
    CPU_NOTE,
    NOT_COMPARABLE,
    disagreement,
    duration,
    needed_words,
    spoken,
    too_coarse,
    too_many,
    uncertain,
)
from benchmark.metrics.registry import has_subjects
from benchmark.protocol.claim import Claim, split_side
from benchmark.results.format import CellResult
from benchmark.results.judgements import ClaimResult, Missing, Needed, Rival, Verdict
from benchmark.results.run_folder import PublishedValue

__all__ = ["judge_claims"]


def judge_claims(
    claims: Sequence[Claim],
    cells: Sequence[CellResult],
    subjects: pd.DataFrame,
    device: str,
    *,
    reference: Mapping[str, PublishedValue] | None = None,
    not_comparable: str | None = None,
    floor: ReferenceValues | None = None,
) -> list[ClaimResult]:
    """One verdict per claim.

    `cells` are those of results.json, `subjects` the rows of `results.rows.subject_rows`, `reference` the published
    values by 'metric @ label'. `not_comparable` says why this run cannot bear on published values, if so. `floor` is
    that of results.json: what real data score against real data.
    """
    evidence = Evidence(cells, subjects)
    family = Family(claims, evidence, reference or {}, not_comparable)
    entries = [_entry(claim, index, evidence, family, reference or {}) for index, claim in enumerate(claims)]
    for claim, entry in zip(claims, entries, strict=True):
        if claim.kind == "compatible" and not_comparable is not None:
            entry["wording"], entry["needed"] = NOT_COMPARABLE, None
        metric = entry["metric"]
        if floor is not None and metric in floor["metrics"]:
            entry["floor"] = {"value": floor["metrics"][metric], "sd": floor.get("sd", {}).get(metric)}
        entry["note"] = _precision_note(entry, evidence) if device == "cpu" else None
    return entries


def _entry(
    claim: Claim,
    index: int,
    evidence: Evidence,
    family: Family,
    reference: Mapping[str, PublishedValue],
) -> ClaimResult:
    """The claim as it stands in results.json."""
    assessment, obstacle = family.found[index]
    metric, label = split_side(claim.sides[0])
    second = split_side(claim.sides[1])[1] if claim.kind not in ("best", "compatible") else None
    verdict = family.verdict(index)
    entry: ClaimResult = {
        "name": claim.name,
        "kind": claim.kind,
        "statement": claim.statement,
        "metrics": list(claim.metrics),
        "metric": metric,
        "left": label,
        "right": second or ("published" if claim.kind == "compatible" else None),
        "by_factor": claim.by_factor,
        "at": claim.at,
        "scope": claim.about,
        "must_hold": claim.must_hold,
        "verdict": verdict,
        "wording": spoken(verdict, claim.kind),
        "effect": None,
        "ci_low": None,
        "ci_high": None,
        "holds_from": None,
        "holds_to": None,
        "n": 0,
        "seeds": 0,
        "subjects": 0,
        "unit": None,
        "test": None,
        "p": None,
        "p_corrected": family.corrected.get(index),
        "claims_corrected_for": len(family.members),
        "p_sign_flip": None,
        "p_wilcoxon": None,
        "missing": None,
        "needed": None,
        "reason": obstacle,
        "note": None,
        "rows": [],
    }
    if claim.kind == "compatible":
        entry["published"] = reference.get(claim.sides[0])
    if assessment is None:
        return entry
    deciding = assessment.deciding
    _add_evidence(entry, deciding)
    labels = list(dict.fromkeys(name for c in assessment.comparisons for name in c.pairs.labels))
    spread = evidence.kmeans_sd(deciding.pairs.metric, labels)
    if spread is not None:
        entry["sd_kmeans"] = spread
    if claim.kind == "best":
        entry["comparisons"] = [_rival(comparison) for comparison in assessment.comparisons]
    entry["missing"] = _missing(claim, index, assessment, evidence, family)
    if index in family.p:
        entry["p"] = family.p[index]
    if split := family.split(index):
        entry["reason"] = disagreement(split.pairs.metric, split.pairs.labels, split.pairs.by_seed)
    elif verdict == "inconclusive":
        entry["needed"] = _needed(claim, assessment, labels, evidence, family)
        entry["reason"] = obstacle or _why_undecided(assessment, index, family)
        few = LEAST_SEEDS - deciding.seeds
        if deciding.pairs.unit == SEED and few > 0 and (hours := hours_of(SEED, few, labels, evidence.cells)):
            entry["reason"] = f"{entry['reason']}, {duration(hours)} of one worker"
    return entry


def _add_evidence(entry: ClaimResult, comparison: Comparison) -> None:
    """Effect, interval, test and rows of the comparison on which a claim hangs."""
    pairs, effect = comparison.pairs, comparison.effect
    if pairs.seconds is not None:
        entry["seconds"] = pairs.seconds
    entry["left"], entry["right"] = pairs.labels
    entry["metric"] = pairs.metric
    entry["effect"] = comparison.mean
    entry["ci_low"], entry["ci_high"] = _interval(comparison)
    entry["holds_from"], entry["holds_to"] = finite(comparison.low), finite(comparison.high)
    entry["n"], entry["seeds"] = _units(comparison), comparison.seeds
    entry["subjects"] = comparison.columns if has_subjects(pairs.metric) else 0
    entry["unit"] = pairs.unit
    entry["test"] = effect.test if effect is not None else None
    if not comparison.is_exact and pairs.factors == (1.0, 1.0):  # what these two test
        differences = _per_unit(pairs)
        entry["p_sign_flip"], entry["p_wilcoxon"] = sign_flip_p(differences), wilcoxon_p(differences)
    entry["rows"] = pairs.rows()
    if pairs.unit == SUBJECT and comparison.seeds > 1:
        entry["by_seed"] = list(pairs.by_seed.values())


def _interval(comparison: Comparison) -> tuple[float, float] | tuple[None, None]:
    if comparison.effect is not None:
        return within_range(comparison.effect.interval(), comparison.pairs)
    return (comparison.mean, comparison.mean) if comparison.is_exact else (None, None)


def _units(comparison: Comparison) -> int:
    return comparison.seeds if comparison.pairs.unit == SEED else comparison.columns


def _per_unit(pairs: Pairs) -> Array:
    return np.asarray(np.nanmean(pairs.differences, axis=1 if pairs.unit == SEED else 0))


def _rival(comparison: Comparison) -> Rival:
    (low, high), p = _interval(comparison), comparison.p_values
    return {
        "metric": comparison.pairs.metric,
        "right": comparison.pairs.labels[1],
        "effect": comparison.mean,
        "ci_low": low,
        "ci_high": high,
        "n": _units(comparison),
        "unit": comparison.pairs.unit,
        "p": None if comparison.is_exact or not comparison.can_be_decided else min(1.0, 2 * min(p)),
        "rows": comparison.pairs.rows(),
    }


def _missing(claim: Claim, index: int, assessment: Assessment, evidence: Evidence, family: Family) -> Missing | None:
    """What is missing or undefined, and the verdict if all of it were as good, or as bad, for the claim as can be."""
    comparisons = assessment.comparisons
    failed = sorted({cell for comparison in comparisons for cell in comparison.pairs.failed})
    empty = {(c.pairs.metric, c.pairs.labels): c.pairs.empty for c in comparisons}
    holed = [comparison for comparison in comparisons if comparison.pairs.has_holes]
    if not failed and not any(empty.values()) and not holed:
        return None
    best, worst = family.verdict(index), family.verdict(index)
    if holed:
        cases = [Assessment.of([_extreme(c, side, evidence) for c in comparisons]) for side in (-1, 1)]
        if claim.within is not None:
            cases.append(
                Assessment.of([comparison_of(c.pairs.equalised(), c.low, c.high, strict=c.strict) for c in comparisons])
            )
        order: tuple[Verdict, ...] = ("refuted", "inconclusive", "supported")
        verdicts = sorted((family.verdict(index, instead=case) for case in cases), key=order.index)
        worst, best = verdicts[0], verdicts[-1]
    return {
        "failed_cells": failed,
        "empty_predictions": max(empty.values()),
        "values": _holes(comparisons),
        "best_case": best,
        "worst_case": worst,
    }


def _holes(comparisons: Sequence[Comparison]) -> int:
    """Values that are missing or stand for none, those of a label that has several rivals counted once."""
    found = set()
    for pairs in (comparison.pairs for comparison in comparisons):
        holes = np.isnan(pairs.values) | pairs.undefined
        found |= {
            (pairs.metric, pairs.labels[side], pairs.seeds[seed], pairs.columns[column])
            for side, seed, column in np.argwhere(holes).tolist()
        }
    return len(found)


def _extreme(comparison: Comparison, side: int, evidence: Evidence) -> Comparison:
    """With every hole filled as far as the metric allows for the claim (+1) or against it (-1)."""
    low, high = evidence.limits(comparison.pairs.metric)
    # A claim of several metrics has all of its holes favour it, or none.
    upward = (side > 0) == (comparison.high == INFINITE)
    filled = comparison.pairs.filled(*((high, low) if upward else (low, high)))
    return comparison_of(filled, comparison.low, comparison.high, strict=comparison.strict)


def _needed(
    claim: Claim, assessment: Assessment, labels: Sequence[str], evidence: Evidence, family: Family
) -> Needed | None:
    """What would decide the claim: of several comparisons all must be decided, against it the clearest one."""
    leading = assessment.leaning == "supported"
    level = family.next_level / (1 if leading else len(assessment.comparisons))
    entries: list[Needed] = []
    for comparison in assessment.comparisons if leading else [assessment.deciding]:
        if comparison.effect is None or comparison.is_exact:
            continue
        distances = _distances(comparison, leading)
        design = design_of(comparison.effect, comparison.pairs.unit)
        error = float(np.sqrt(design.variance / design.units + design.subject_variance / max(1, design.subjects)))
        entries.append(plan(design, distances, error, level))
    if not entries:
        return None
    entry = max(entries, key=lambda e: INFINITE if e["more"] is None else e["more"])
    entry["hours"] = None if entry["more"] is None else hours_of(entry["unit"], entry["more"], labels, evidence.cells)
    seeds = assessment.deciding.seeds if assessment.deciding.pairs.unit == SEED else 0
    entry["sentence"] = needed_words(entry, spoken(assessment.leaning, claim.kind), seeds)
    return entry


def _distances(comparison: Comparison, inside: bool) -> list[float]:
    """How far the effect lies from each bound that it has to stay clear of, on the side where it is."""
    mean = comparison.mean
    if inside:
        return [d for d in (comparison.high - mean, mean - comparison.low) if d < INFINITE]
    return [max(d for d in (mean - comparison.high, comparison.low - mean) if d > -INFINITE)]


def _why_undecided(assessment: Assessment, index: int, family: Family) -> str:
    if family.p[index] > LEVEL:
        return uncertain(len(assessment.comparisons))
    deciding, members = assessment.deciding, len(family.members)
    coarse = too_coarse(deciding.pairs.unit, deciding.columns, members, LEVEL)
    return coarse or too_many(family.p[index], family.corrected[index], members)


def _precision_note(entry: ClaimResult, evidence: Evidence) -> str | None:
    """The caveat of every claim that compares precisions on a CPU."""
    labels = {entry["left"], entry["right"], *(rival["right"] for rival in entry.get("comparisons", ()))}
    precisions = {cell["precision"] for cell in evidence.cells if cell["label"] in labels and cell["precision"]}
    return CPU_NOTE if len(precisions) > 1 else None
