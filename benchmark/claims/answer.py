"""The answer of a run in a few sentences and numbers, the bad news first. The page and the terminal show the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.claims.realism import realism_sentence
from benchmark.metric_names import DSC_METRICS, REGION_NAMES

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
    warnings = [text for region in regions for text in _bad_news(region, label)]
    distance = _distance_sentence(results, label)
    if realism and realism["realistic"] is not True:
        warnings += [realism_sentence(realism), *distance]
        sentences = []
    else:
        sentences = [*([realism_sentence(realism)] if realism else []), *distance]
    sentences += [_region_sentence(region) for region in regions if region["real"] is not None]
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


def _bad_news(region: Mapping[str, Any], label: str) -> Iterator[str]:
    where, rule = _of(region["region"]), region["untrained"]
    if region["synthetic_gain"] is not None and region["synthetic_gain"] <= 0:
        yield (
            f"No better than no learning at all: for {where} the U-Net that learned from {label} reaches a DSC of "
            f"{region['untrained_dsc'] + region['synthetic_gain']:.3f}, the rule {rule}, which learns nothing, "
            f"{region['untrained_dsc']:.3f}."
        )
    if region["real_gain"] is not None and region["real_gain"] <= 0:
        yield (
            f"For {where} the U-Net that learned from real patches is no better than the rule {rule} either: a gap "
            "between real and synthetic pairs says nothing here about what they teach."
        )


def _distance_sentence(results: Mapping[str, Any], label: str) -> list[str]:
    """FID and PRD area against the floor, in one sentence, or nothing where they were not measured."""
    realism, floor = results["realism"], results["floor"] or {}
    entry = realism["labels"].get(label) if realism else None
    if entry is None or entry["fid_over_floor"] is None:
        return []
    ratio, floors = entry["fid_over_floor"], realism["floor"]
    halves = (
        "two halves of the real subjects" if floor.get("sd") else "the training subjects and those that none had seen"
    )
    least = "at least " if realism["fid_over_floor_is_least"] else ""
    area = entry["prd_area_over_floor"]
    prd = (
        f"; the PRD area is {area * floors['prd_auc']:.2f} against {floors['prd_auc']:.2f}" if area is not None else ""
    )
    return [
        f"The FID of {label} is {least}{ratio:.2g} times the distance between {halves} "
        f"({ratio * floors['fid']:.3g} against {floors['fid']:.3g}){prd}."
    ]


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
