"""Claim -> supported, refuted or inconclusive, with its evidence. Pure functions on tidy rows.

A claim is about *these trained models* (unit: the test subject, paired, each subject's value averaged over the seeds)
or about *the training procedure* (unit: the seed, paired where both sides have it). Costs are compared over interleaved
rounds of one measurement. The verdict follows the 95 % interval of the paired difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.protocol import Claim
from benchmark.results import COST_METRICS, SEGMENTATION_METRICS, mean_with_interval

__all__ = ["LEAST_SEEDS", "judge_claims"]

EXACT = "exact count"
LEAST_SEEDS = 5  # fewer say too little about a training procedure, whatever their spread
LEAST_SUBJECTS = 5  # an interval over fewer rests on its assumptions alone
CPU_NOTE = "bf16 on a CPU is not the paper's fp16 on a GPU: this says nothing about the paper's own hardware"


def judge_claims(
    claims: Sequence[Claim], cells: Sequence[Mapping[str, Any]], subjects: pd.DataFrame, device: str
) -> list[dict[str, Any]]:
    """One verdict per claim.

    `cells` are those of results.json, `subjects` the rows of `results.subject_rows`.
    """
    return [_judge(claim, cells, subjects, device) for claim in claims]


def _judge(claim: Claim, cells: Sequence[Mapping[str, Any]], subjects: pd.DataFrame, device: str) -> dict[str, Any]:
    metric = claim.sides[0].split(" @ ")[0]
    labels = [side.split(" @ ")[1] for side in claim.sides]
    has_subjects = metric.split("/")[0] in SEGMENTATION_METRICS
    scope = claim.scope or ("trained models" if has_subjects or metric in COST_METRICS else "training procedure")
    verdict: dict[str, Any] = {
        "name": claim.name,
        "statement": claim.statement,
        "metric": metric,
        "left": labels[0],
        "right": labels[1],
        "scope": scope,
        "verdict": "inconclusive",
        "effect": None,
        "ci_low": None,
        "ci_high": None,
        "n": 0,
        "unit": None,
        "note": _precision_note(labels, cells, device),
    }
    if metric in COST_METRICS:
        differences, unit, obstacle = _cost_differences(metric, labels, cells)
    elif scope == "trained models" and has_subjects:
        differences, unit, obstacle = _subject_differences(metric, labels, subjects)
    elif scope == "trained models":
        differences, unit = [], ""
        obstacle = f"{metric} has no subjects: only a claim about the training procedure fits"
    else:
        differences, unit, obstacle = _seed_differences(metric, labels, cells)
    if unit == EXACT:
        verdict |= dict.fromkeys(("effect", "ci_low", "ci_high"), differences[0]) | {"n": 1, "unit": EXACT}
    elif differences:
        entry = mean_with_interval(differences, unit)
        verdict |= {"effect": entry["value"], "ci_low": entry["ci_low"], "ci_high": entry["ci_high"]}
        verdict |= {"n": entry["n"], "unit": unit}
        obstacle = obstacle or entry.get("reason")
    if obstacle:
        return verdict | {"reason": obstacle}
    return verdict | {"verdict": _verdict(claim, verdict["ci_low"], verdict["ci_high"])}


def _verdict(claim: Claim, low: float, high: float) -> str:
    """Where the interval of left minus right lies against the claim's bound."""
    if claim.greater:
        low, high = -high, -low
    bound = claim.at_most if claim.at_most is not None else 0.0
    inside = high <= bound if claim.difference else high < bound
    if inside:
        return "supported"
    return "refuted" if low > bound or (low == bound and not claim.difference) else "inconclusive"


def _precision_note(labels: Sequence[str], cells: Sequence[Mapping[str, Any]], device: str) -> str | None:
    """The caveat of every claim that compares precisions on a CPU."""
    precisions = {cell["precision"] for cell in cells if cell["label"] in labels and cell["precision"]}
    return CPU_NOTE if device == "cpu" and len(precisions) > 1 else None


def _subject_differences(
    metric: str, labels: Sequence[str], subjects: pd.DataFrame
) -> tuple[list[float], str, str | None]:
    rows = subjects[(subjects["metric"] == metric) & (subjects["split"] == "test")].dropna(subset="value")
    # Where a cell failed, its seed leaves both sides: means over different seeds are no pair.
    seeds = [set(rows.loc[rows["label"] == label, "seed"]) for label in labels]
    if all(seeds):
        rows = rows[rows["seed"].isin(seeds[0] & seeds[1])]
    table = rows.pivot_table(index="subject", columns="label", values="value", aggfunc="mean")
    if missing := [label for label in labels if label not in table]:
        return [], "", f"no {metric} of {' and '.join(missing)}"
    pairs = table[list(labels)].dropna()
    obstacle = (
        f"{len(pairs)} test subjects: at least {LEAST_SUBJECTS} are needed" if len(pairs) < LEAST_SUBJECTS else None
    )
    return list(pairs[labels[0]] - pairs[labels[1]]), "test subject", obstacle


def _seed_differences(
    metric: str, labels: Sequence[str], cells: Sequence[Mapping[str, Any]]
) -> tuple[list[float], str, str | None]:
    sides = [
        {
            cell["seed"]: cell["metrics"][metric]["value"]
            for cell in cells
            if cell["label"] == label and cell["metrics"].get(metric, {}).get("value") is not None
        }
        for label in labels
    ]
    if missing := [label for label, side in zip(labels, sides, strict=True) if not side]:
        return [], "", f"no {metric} of {' and '.join(missing)}"
    seeds = sorted(sides[0].keys() & sides[1].keys())
    obstacle = None
    if len(seeds) < LEAST_SEEDS:
        more = LEAST_SEEDS - len(seeds)
        hours = more * sum(_mean_seconds(label, cells) for label in labels) / 3600
        have = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
        obstacle = f"{have}: at least {more} more are needed, about {_duration(hours)} of one worker"
    return [sides[0][seed] - sides[1][seed] for seed in seeds], "seed", obstacle


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"


def _mean_seconds(label: str, cells: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([cell["seconds"] for cell in cells if cell["label"] == label]))


def _cost_differences(
    metric: str, labels: Sequence[str], cells: Sequence[Mapping[str, Any]]
) -> tuple[list[float], str, str | None]:
    entries = []
    for label in labels:
        entry = next(
            (cell["metrics"][metric] for cell in cells if cell["label"] == label and metric in cell["metrics"]), None
        )
        if entry is None:
            return [], "", f"no {metric} of {label}"
        if entry.get("emulated"):
            return [], "", f"{label} runs in an emulated precision here: its speed says nothing"
        entries.append(entry)
    if metric == "peak_memory_mib":
        # A count of tensor bytes, the same at every repeat: the difference is exact.
        return [entries[0]["value"] - entries[1]["value"]], EXACT, None
    return [a - b for a, b in zip(entries[0]["rounds"], entries[1]["rounds"], strict=True)], "interleaved round", None
