"""The answer of a run in a few sentences and numbers, the bad news first. The page and the terminal show the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.claims.realism import realism_sentence
from benchmark.metrics.registry import REGION_NAMES
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.words import join

__all__ = ["answer_of", "summary_lines"]


def answer_of(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the best synthetic label (of the validation subjects) reaches in each region, and sentences about it.

    `results` is results.json with `best`, `gain`, `realism` and `floor`. `warnings` are sentences that no number may
    outshine; `sentences` follow them. Where no label was segmented yet, the one of the lowest FID stands in for the
    best. None where nothing of it is known.
    """
    best, realism = results["best"], results["realism"]
    label = best["label"] if best else _nearest(realism)
    if label is None:
        return None
    regions = list(_regions(results, label)) if best else []
    warnings = [text for text in (_below_rules(regions, label), _real_below_rules(regions)) if text]
    sentences = [_region_sentence(region) for region in regions if region["real"] is not None]
    if realism:
        distance = _distances(realism, results["floor"] or {}, label)
        verdict = f"{realism_sentence(realism)}{': ' if distance else ''}{'; '.join(distance)}."
        (sentences if realism["realistic"] else warnings).append(verdict)
    return {"label": label, "regions": regions, "warnings": warnings, "sentences": sentences}


def _nearest(realism: Mapping[str, Any] | None) -> str | None:
    labels = realism["labels"] if realism else {}
    known = [label for label, entry in labels.items() if entry["fid_over_floor"] is not None]
    return min(known, key=lambda label: labels[label]["fid_over_floor"]) if known else next(iter(labels), None)


def _regions(results: Mapping[str, Any], label: str) -> Iterator[dict[str, Any]]:
    """Per region with a DSC: both means, the gap, the best rule without learning, and the share of the real gain."""
    gains = {gain["metric"]: gain for gain in results["gain"] if gain["label"] == label}
    for metric in DSC_METRICS:
        scores = results["best"]["by_metric"][metric]
        if scores["test"] is None:
            continue
        gain = gains.get(metric, {})
        yield {
            "metric": metric,
            "region": REGION_NAMES[metric.partition("/")[2]],
            "synthetic": scores["test"],
            "real": scores["test_real"],
            "gap": scores["gap_to_real"],
            "untrained": gain.get("untrained"),
            "untrained_dsc": (gain.get("means") or {}).get("untrained"),
            "share": {name: gain.get(name) for name in ("value", "ci_low", "ci_high", "reason", "seeds", "subjects")},
            "synthetic_gain": gain.get("synthetic_gain"),
            "real_gain": gain.get("real_gain"),
        }


def _below_rules(regions: Sequence[Mapping[str, Any]], label: str) -> str | None:
    """Where the label's U-Nets do no better than a rule that learned nothing."""
    below = [region for region in regions if region["synthetic_gain"] is not None and region["synthetic_gain"] <= 0]
    if not below:
        return None
    places = [
        f"for {_of(region['region'])} a DSC of {region['untrained_dsc'] + region['synthetic_gain']:.3f} where the rule "
        f"{region['untrained']} has {region['untrained_dsc']:.3f}"
        for region in below
    ]
    return f"No better than no learning at all: what learned from {label} reaches {join(places)}."


def _real_below_rules(regions: Sequence[Mapping[str, Any]]) -> str | None:
    """Where real patches taught no more either, so that the gap to them is no measure of anything."""
    below = [region for region in regions if region["real_gain"] is not None and region["real_gain"] <= 0]
    if not below:
        return None
    return (
        f"For {join(_of(region['region']) for region in below)} real patches teach no more than a rule without "
        "learning knows: a small gap between real and synthetic pairs would mean nothing there."
    )


def _distances(realism: Mapping[str, Any], floor: Mapping[str, Any], label: str) -> list[str]:
    """FID, PRD area and pieces of the label against those of real patches, as far as they were measured."""
    entry = realism["labels"].get(label)
    if entry is None:
        return []
    parts = []
    if (ratio := entry["fid_over_floor"]) is not None:
        halves = "two halves of the real subjects" if floor.get("sd") else "the training subjects and the others"
        least = "at least " if realism["fid_over_floor_is_least"] else ""
        parts.append(
            f"the FID of {label} is {least}{ratio:.2g} times the distance between {halves} ({entry['fid']:.3g} against "
            f"{realism['floor']['fid']:.3g})"
        )
    if entry["prd_area_over_floor"] is not None:
        parts.append(f"its PRD area is {entry['prd_auc']:.2f} against {realism['floor']['prd_auc']:.2f}")
    if entry["pieces_ratio"] is not None:
        parts.append(f"a label patch has {entry['pieces']:.1f} pieces of vessel against {entry['pieces_real']:.1f}")
    return parts


def _region_sentence(region: Mapping[str, Any]) -> str:
    gap, share = region["gap"], region["share"]
    text = f"For {_of(region['region'])} synthetic pairs {_cost(region)}"
    if gap and gap["ci_low"] is not None:
        text += f" [{gap['ci_low']:.3f}, {gap['ci_high']:.3f}]"
    if share["value"] is None:
        return f"{text}; the share of the real gain is not defined: {share['reason']}."
    text += f"; their share of what real patches add to the rule {region['untrained']} is {share['value']:.2f}"
    if share["ci_low"] is None:
        return f"{text} ({share['reason']})."
    return f"{text} [{share['ci_low']:.2f}, {share['ci_high']:.2f}]."


def _cost(region: Mapping[str, Any]) -> str:
    lost = region["gap"]["value"] if region["gap"] else region["real"] - region["synthetic"]
    return f"cost {lost:.3f} of DSC" if lost >= 0 else f"gain {-lost:.3f} of DSC"


def _of(region: str) -> str:
    return region if region.endswith("vessels") else f"{region} vessels"


def summary_lines(answer: Mapping[str, Any] | None) -> Sequence[str]:
    """For a terminal, warnings marked."""
    if answer is None:
        return []
    return [*(f"! {text}" for text in answer["warnings"]), *answer["sentences"]]
