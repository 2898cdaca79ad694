"""The answer of a run in a few sentences and numbers, the bad news first. The page and the terminal show the same."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from benchmark.artifacts.values import ReferenceValues
from benchmark.claims.realism import realism_sentence
from benchmark.metrics.registry import REGION_NAMES
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.results.judgements import Answer, AnswerRegion, Best, BestOfKind, Gain, Realism, Share
from benchmark.words import join, typeset

__all__ = ["Kind", "answer_of", "summary_lines"]

NO_SHARE: Share = {
    "value": None,
    "ci_low": None,
    "ci_high": None,
    "reason": None,
    "seeds": None,
    "subjects": None,
}


class Kind(NamedTuple):
    """What kind of generator a label is, and what it has and does that other kinds do not (a predicate)."""

    title: str
    given: str = ""


def answer_of(
    best: Best | None,
    gain: Sequence[Gain],
    realism: Realism | None,
    floor: ReferenceValues | None,
    kinds: Mapping[str, Kind] = MappingProxyType({}),
) -> Answer | None:
    """What the best synthetic label (of the validation subjects) reaches in each region, and sentences about it.

    `warnings` are sentences that no number may outshine; `sentences` follow them. Where no label was segmented yet, the
    one of the lowest FID stands in for the best. None where nothing of it is known. Where the labels are of several
    `kinds`, the best of each other kind is told, too, and what the best one is given beyond them.
    """
    label = best["label"] if best else _nearest(realism)
    if label is None:
        return None
    regions = list(_regions(best, gain)) if best else []
    warnings = [text for text in (_below_rules(regions, label), _real_below_rules(regions)) if text]
    others = list(_others(best, gain, kinds)) if best else []
    warnings += [_beside(label, kinds[label], other) for other in others]
    sentences = [_region_sentence(region, label) for region in regions if region["real"] is not None]
    if realism:
        distance = _distances(realism, floor, label)
        verdict = f"{realism_sentence(realism)}{': ' if distance else ''}{'; '.join(distance)}."
        (sentences if realism["realistic"] else warnings).append(verdict)
    return {"label": label, "regions": regions, "others": others, "warnings": warnings, "sentences": sentences}


def _nearest(realism: Realism | None) -> str | None:
    labels = realism["labels"] if realism else {}
    known = {label: ratio for label, entry in labels.items() if (ratio := entry["fid_over_floor"]) is not None}
    return min(known, key=lambda label: known[label]) if known else next(iter(labels), None)


def _regions(best: Best, gains: Sequence[Gain]) -> Iterator[AnswerRegion]:
    """Per region with a DSC: both means, the gap, the best rule without learning, and the share of the real gain."""
    of_best = {gain["metric"]: gain for gain in gains if gain["label"] == best["label"]}
    for metric in DSC_METRICS:
        scores, gain = best["by_metric"][metric], of_best.get(metric)
        synthetic, real, gap = scores["test"], scores["test_real"], scores["gap_to_real"]
        if synthetic is None:
            continue
        yield {
            "metric": metric,
            "region": REGION_NAMES[metric.partition("/")[2]],
            "synthetic": synthetic,
            "real": real,
            "gap": gap,
            "difference": gap["value"] if gap else None if real is None else real - synthetic,
            "untrained": gain and gain["untrained"],
            "untrained_dsc": gain["means"]["untrained"] if gain and "means" in gain else None,
            "share": _share(gain) if gain else NO_SHARE,
            "synthetic_gain": gain and gain["synthetic_gain"],
            "real_gain": gain and gain["real_gain"],
        }


def _share(gain: Gain) -> Share:
    return {
        "value": gain["value"],
        "ci_low": gain["ci_low"],
        "ci_high": gain["ci_high"],
        "reason": gain["reason"],
        "seeds": gain["seeds"],
        "subjects": gain["subjects"],
    }


def _below_rules(regions: Sequence[AnswerRegion], label: str) -> str | None:
    """Where the label's U-Nets do no better than a rule that learned nothing."""
    places = {
        f"for {_of(region['region'])}": f"a DSC of {rule + gain:.3f} where {region['untrained']} has {rule:.3f}"
        for region in regions
        if (gain := region["synthetic_gain"]) is not None
        and gain <= 0
        and (rule := region["untrained_dsc"]) is not None
    }
    if not places:
        return None
    where = join(places) if len(places) < len(regions) else ""
    worse = f"{where} no better than no learning at all".strip()
    reached = join(f"{place} {scores}" if not where else scores for place, scores in places.items())
    return f"{worse[:1].upper()}{worse[1:]}: what learned from {label} reaches {reached}."


def _others(best: Best, gains: Sequence[Gain], kinds: Mapping[str, Kind]) -> Iterator[BestOfKind]:
    """The best label of each other kind of generator: the answer is about one kind alone."""
    own = kinds.get(best["label"])
    for kind in dict.fromkeys(kinds.values()):
        validated = {label: value for label, value in best["validation"].items() if kinds.get(label) == kind}
        if own is None or kind == own or not validated:
            continue
        label = max(validated, key=lambda name: validated[name])
        of_label = {gain["metric"]: gain for gain in gains if gain["label"] == label}
        yield {
            "label": label,
            "kind": kind.title,
            "metric": best["metric"],
            "regions": [
                {
                    "metric": metric,
                    "region": REGION_NAMES[metric.partition("/")[2]],
                    "synthetic": gain["means"]["synthetic"] if "means" in gain else None,
                    "share": _share(gain),
                }
                for metric in DSC_METRICS
                if (gain := of_label.get(metric))
            ],
        }


def _beside(label: str, kind: Kind, other: BestOfKind) -> str:
    """That the answer is about another kind of generator than the best of these, and what it is given beyond them."""
    given = f", which {kind.given}" if kind.given else ""
    places = [
        f"of {score:.3f} for {_of(region['region'])} ({_share_words(region['share'])})"
        for region in other["regions"]
        if (score := region["synthetic"]) is not None
    ]
    reached = f", with a DSC {join(places)}" if places else ""
    by = REGION_NAMES[other["metric"].partition("/")[2]]
    return (
        f"What follows is about {label}, a 3D {kind.title}{given}. Of the 3D {other['kind']}s {other['label']} is the "
        f"best on the validation subjects by the DSC of {_of(by)}{reached}."
    )


def _share_words(share: Share) -> str:
    if share["value"] is None:
        return f"share of the real gain not defined: {share['reason']}"
    return f"share of the real gain {_number(share['value'])}{_between(share['ci_low'], share['ci_high'])}"


def _between(low: float | None, high: float | None, decimals: int = 2, over: str = "") -> str:
    return "" if low is None else f" [{_number(low, decimals)}, {_number(high, decimals)}{over}]"


def _real_below_rules(regions: Sequence[AnswerRegion]) -> str | None:
    """Where real patches taught no more either, so that the gap to them is no measure of anything."""
    below = [region for region in regions if region["real_gain"] is not None and region["real_gain"] <= 0]
    if not below:
        return None
    return (
        f"For {join(_of(region['region']) for region in below)} real patches teach no more than a rule without "
        "learning knows: a small gap between real and synthetic pairs would mean nothing there."
    )


def _distances(realism: Realism, floor: ReferenceValues | None, label: str) -> list[str]:
    """FID, PRD area and pieces of the label against those of real patches, as far as they were measured."""
    entry = realism["labels"].get(label)
    if entry is None:
        return []
    parts = []
    if (ratio := entry["fid_over_floor"]) is not None:
        halves = (
            "two halves of the real subjects" if floor and floor.get("sd") else "the training subjects and the others"
        )
        least = "at least " if realism["fid_over_floor_is_least"] else ""
        parts.append(
            f"the FID of {label} is {least}{_times(ratio)} times the distance between {halves} "
            f"({entry['fid']:.3g} against {realism['floor']['fid']:.3g})"
        )
    if entry["prd_area_over_floor"] is not None:
        parts.append(f"its PRD area is {entry['prd_auc']:.2f} against {realism['floor']['prd_auc']:.2f}")
    if entry["pieces_ratio"] is not None:
        parts.append(f"a label patch has {entry['pieces']:.1f} pieces of vessel against {entry['pieces_real']:.1f}")
    return parts


def _region_sentence(region: AnswerRegion, label: str) -> str:
    gap, share = region["gap"], region["share"]
    text = f"For {_of(region['region'])} pairs of {label} {_cost(region)}"
    if gap:
        text += _between(gap["ci_low"], gap["ci_high"], 3, ", these models")
    if share["value"] is None:
        return f"{text}; the share of the real gain is not defined: {share['reason']}."
    text += f"; their share of what real patches add to the rule {region['untrained']} is {_number(share['value'])}"
    if share["ci_low"] is None:
        return f"{text} ({share['reason']})."
    anew = ", models trained anew" if share["seeds"] != 1 else ", these models"
    return f"{text}{_between(share['ci_low'], share['ci_high'], over=anew)}."


def _cost(region: AnswerRegion) -> str:
    lost = region["difference"] or 0.0
    return f"cost {lost:.3f} of DSC" if lost >= 0 else f"gain {-lost:.3f} of DSC"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _number(value: float | None, decimals: int = 2) -> str:
    return typeset(f"{value:.{decimals}f}")


def _of(region: str) -> str:
    return region if region.endswith("vessels") else f"{region} vessels"


def summary_lines(answer: Answer | None) -> Sequence[str]:
    """For a terminal, warnings marked."""
    if answer is None:
        return []
    return [*(f"! {text}" for text in answer["warnings"]), *answer["sentences"]]
