"""Claims with their verdicts, and each effect with its interval as a small picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.claims.evidence import COUNT, ROUND, SEED, SUBJECT
from benchmark.claims.wording import missing_words, unit_words
from benchmark.report.sections.text import deviation, interval, metric_phrase, number, sentence, signed, unit_of
from benchmark.results.format import Results
from benchmark.results.judgements import ClaimResult, Needed, Rival
from benchmark.words import join, p_words, plural

__all__ = ["ClaimView", "RivalRow", "Strip", "claim_views"]

ORDER = ("supported", "refuted", "inconclusive", "compatible", "not compatible", "undecided", "not comparable")
ABOUT = {
    SUBJECT: "about these trained models",
    SEED: "about the training procedure",
    ROUND: "about this machine",
    COUNT: "about this machine",
}


@dataclass(frozen=True)
class Strip:
    """An effect with its interval on a line from 0 to 100; the claim holds from `holds_from` over `holds_width`."""

    effect: float
    low: float | None
    high: float | None
    bounds: Sequence[float]
    bounds_text: str
    holds_from: float
    holds_width: float


@dataclass(frozen=True)
class RivalRow:
    """One comparison of a claim that makes several."""

    what: str
    effect: str
    interval: str
    p: str


@dataclass(frozen=True)
class ClaimView:
    """One claim with its verdict and evidence."""

    name: str
    verdict: str
    wording: str
    must_hold: bool
    statement: str
    about: str
    difference: str
    effect: str
    interval: str
    evidence: str
    test: str
    beside: str
    reason: str
    would_decide: str
    missing: str
    note: str | None
    rivals: Sequence[RivalRow]
    strip: Strip | None


def claim_views(results: Results) -> tuple[Sequence[ClaimView], str]:
    """Every claim, and how many have which verdict."""
    claims = results["claims"]
    counts = {wording: sum(claim["wording"] == wording for claim in claims) for wording in ORDER}
    tally = join(f"{count} {wording}" for wording, count in counts.items() if count)
    return [_claim_view(claim) for claim in claims], f"Of {plural(len(claims), 'claim')}: {tally}." if claims else ""


def _claim_view(claim: ClaimResult) -> ClaimView:
    decimals, _ = unit_of(claim["metric"])
    effect, unit = claim["effect"], claim["unit"]
    exact = unit == COUNT
    statement, reason = claim["statement"], claim["reason"] or ""
    for metric in claim["metrics"]:
        statement = statement.replace(f"{metric} @ ", f"{metric_phrase(metric)} of ")
        reason = reason.replace(f"{metric} of", f"{metric_phrase(metric)} of")
    return ClaimView(
        name=claim["name"],
        verdict=claim["verdict"],
        wording=claim["wording"],
        must_hold=claim["must_hold"],
        statement=sentence(statement),
        about=ABOUT[unit] if unit else f"about {_scope(claim['scope'])}",
        difference=_difference(claim),
        effect="" if effect is None else _with_unit(effect, claim["metric"]),
        interval="" if exact else interval(claim["ci_low"], claim["ci_high"], decimals),
        evidence="an exact count, the same at every repeat" if exact else unit_words(claim).replace(" x ", " × "),
        test=_test(claim),
        beside=_beside(claim, decimals),
        reason=sentence(reason) if reason else "",
        would_decide=_would_decide(claim["needed"]),
        missing=missing_words(claim["missing"], claim["kind"]) if claim["missing"] else "",
        note=claim["note"],
        rivals=[_rival(rival) for rival in claim.get("comparisons", ())],
        strip=None if effect is None or exact else _strip(claim, effect, decimals),
    )


def _would_decide(needed: Needed | None) -> str:
    """The sentence, with the option that makes so many more seeds."""
    if not needed:
        return ""
    seeds = needed["more"] if needed["unit"] == SEED else None
    return needed["sentence"] + (f" The same command with --seeds +{seeds} trains them." if seeds else "")


def _scope(scope: str) -> str:
    return "these trained models" if scope == "trained models" else f"the {scope}"


def _difference(claim: ClaimResult) -> str:
    if claim["right"] is None:
        return claim["left"]
    other = "the published value" if claim["kind"] == "compatible" else claim["right"]
    where = f" in {metric_phrase(claim['metric'])}" if len(claim["metrics"]) > 1 else ""
    factor = claim.get("by_factor")  # absent from earlier runs
    first, second = (f"{factor:g} × " if factor and claim["kind"] == kind else "" for kind in ("less", "greater"))
    return f"{first}{claim['left']} minus {second}{other}{where}"


def _with_unit(effect: float, metric: str) -> str:
    decimals, unit = unit_of(metric)
    return f"{signed(effect, decimals)}{f' {unit}' if unit else ''}"


def _test(claim: ClaimResult) -> str:
    """The test and its p-values; a claim that cannot be decided has none."""
    if claim["p"] is None:
        return ""
    family, corrected = claim["claims_corrected_for"], claim["p_corrected"]
    words = f"{claim['test']}: p {p_words(claim['p'])}"
    if (rivals := len(claim.get("comparisons", ()))) > 1:
        words += f" of all {rivals} comparisons together"
    if family > 1 and corrected is not None:
        words += f"; corrected for {family} claims p {p_words(corrected)}"
    beside = []
    if claim["unit"] == SEED and claim["p_sign_flip"] is not None:
        beside.append(f"sign-flip p {p_words(claim['p_sign_flip'])}")
    if claim["p_wilcoxon"] is not None:
        beside.append(f"Wilcoxon p {p_words(claim['p_wilcoxon'])}")
    return f"{words}. Of no difference: {join(beside)}." if beside else f"{words}."


def _beside(claim: ClaimResult, decimals: int) -> str:
    """What bears on the size of an effect: real data against real data, and the chance inside a metric."""
    parts = []
    if floor := claim.get("floor"):
        spread = "" if floor["sd"] is None else f" ± {deviation(floor['sd'], decimals)}"
        parts.append(f"real against real data: {number(floor['value'], decimals)}{spread}")
    if by_seed := claim.get("by_seed"):
        parts.append(f"each seed by itself: {join(signed(mean, decimals) for mean in by_seed)}")
    if (sd := claim.get("sd_kmeans")) is not None:
        parts.append(f"SD over k-means runs of one model: {deviation(sd, decimals)}")
    return sentence(join(parts)) if parts else ""


def _rival(rival: Rival) -> RivalRow:
    decimals, _ = unit_of(rival["metric"])
    return RivalRow(
        what=f"minus {rival['right']}, {metric_phrase(rival['metric'])}",
        effect=_with_unit(rival["effect"], rival["metric"]),
        interval=interval(rival["ci_low"], rival["ci_high"], decimals),
        p="" if rival["p"] is None else f"p {p_words(rival['p'])}",
    )


def _strip(claim: ClaimResult, effect: float, decimals: int) -> Strip:
    bounds = [bound for bound in (claim["holds_from"], claim["holds_to"]) if bound is not None]
    values = [effect, *bounds, 0.0]
    values += [end for end in (claim["ci_low"], claim["ci_high"]) if end is not None]
    low, high = min(values), max(values)
    margin = 0.15 * (high - low) or 1.0

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low + margin) / (high - low + 2 * margin), 2)

    start, end = place(claim["holds_from"]) or 0.0, place(claim["holds_to"]) or 100.0
    return Strip(
        effect=place(effect) or 0.0,
        low=place(claim["ci_low"]),
        high=place(claim["ci_high"]),
        bounds=[at for bound in bounds if (at := place(bound)) is not None],
        bounds_text=join(number(bound, decimals) if bound else "0" for bound in bounds),
        holds_from=start,
        holds_width=round(end - start, 2),
    )
