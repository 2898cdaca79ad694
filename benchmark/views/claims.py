"""Claims with their verdicts, and each effect with its interval as a small picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.results import Run
from benchmark.views.text import interval, join, metric_phrase, number, plural, sentence, signed, unit_of

__all__ = ["ClaimView", "Strip", "claim_views"]

VERDICT_ORDER = ("supported", "refuted", "inconclusive")


@dataclass(frozen=True)
class Strip:
    """An effect with its interval on a line from 0 to 100; the claim holds from `holds_from` over `holds_width`."""

    effect: float
    low: float | None
    high: float | None
    bound: float
    bound_text: str
    holds_from: float
    holds_width: float


@dataclass(frozen=True)
class ClaimView:
    """One claim with its verdict and evidence."""

    name: str
    verdict: str
    statement: str
    scope: str
    difference: str
    effect: str
    interval: str
    evidence: str
    reason: str
    note: str | None
    strip: Strip | None


def claim_views(run: Run, results: Mapping[str, Any]) -> tuple[Sequence[ClaimView], str]:
    """Every claim, and how many have which verdict."""
    claims = results["claims"]
    planned = run.plan["claims"]
    views = [_claim_view(claim, planned[index] if index < len(planned) else {}) for index, claim in enumerate(claims)]
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICT_ORDER}
    tally = join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return views, f"Of {plural(len(claims), 'claim')}: {tally}." if claims else ""


def _claim_view(claim: Mapping[str, Any], planned: Mapping[str, Any]) -> ClaimView:
    metric, effect = claim["metric"], claim["effect"]
    decimals, unit = unit_of(metric)
    shown = ""
    if effect is not None:
        shown = f"{signed(effect, decimals)}{f' {unit}' if unit else ''}"
    exact = claim.get("unit") == "exact count"
    return ClaimView(
        name=claim["name"],
        verdict=claim["verdict"],
        statement=sentence(claim["statement"].replace(f"{metric} @ ", f"{metric_phrase(metric)} of ")),
        scope=claim["scope"],
        difference=f"{claim['left']} minus {claim['right']}",
        effect=shown,
        interval="" if exact else interval(claim["ci_low"], claim["ci_high"], decimals),
        evidence=_evidence(claim, exact=exact),
        reason=(claim.get("reason") or "").replace(f"no {metric} of", f"no {metric_phrase(metric)} of"),
        note=claim.get("note"),
        strip=None if effect is None or exact else _strip(claim, planned, decimals),
    )


def _evidence(claim: Mapping[str, Any], *, exact: bool) -> str:
    if exact:
        return "an exact count, the same at every repeat"
    return plural(claim["n"], claim["unit"]) if claim.get("unit") else "no data"


def _strip(claim: Mapping[str, Any], planned: Mapping[str, Any], decimals: int) -> Strip:
    bound = planned.get("at_most") or 0.0
    values = [claim["effect"], bound, 0.0]
    values += [claim[end] for end in ("ci_low", "ci_high") if claim[end] is not None]
    low, high = min(values), max(values)
    margin = 0.15 * (high - low) or 1.0

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low + margin) / (high - low + 2 * margin), 2)

    at_bound = place(bound) or 0.0
    greater = bool(planned.get("greater"))
    return Strip(
        effect=place(claim["effect"]) or 0.0,
        low=place(claim["ci_low"]),
        high=place(claim["ci_high"]),
        bound=at_bound,
        bound_text=number(bound, decimals) if bound else "0",
        holds_from=at_bound if greater else 0.0,
        holds_width=round(100 - at_bound, 2) if greater else at_bound,
    )
