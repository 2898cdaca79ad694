"""Do the generators make realistic vessels? A coarse rule on group means, against what real patches score. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.scoring.patch_sets import BIASED_MORE
from benchmark.words import join

__all__ = ["RULE", "THRESHOLDS", "cell_warning", "realism_of", "realism_sentence"]

# Far from indistinguishable: real against real is 1, 1 and about 1. What fails these is seen at a glance.
THRESHOLDS = {"fid_over_floor": 8.0, "prd_area_over_floor": 0.5, "pieces_ratio": 1.5}
EXCESS = ("fid_over_floor", "pieces_ratio")  # must not exceed their threshold; the PRD area must reach it


def realism_of(cells: Sequence[Mapping[str, Any]], floor: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Each scored label's distance from the floor, which thresholds it fails, and whether the run's best one fails.

    `cells` and `floor` are those of results.json; values are means over seeds. `fid_over_floor` is FID over that of
    real against real; `prd_area_over_floor` the same of the PRD area; `pieces_ratio` the pieces of a label patch,
    generated over real or the other way round, whichever is above 1. With fewer patches in the floor its FID is too
    high, so that the ratio is the least that it can be: `fid_over_floor_is_least`. What is not
    measured is null and fails nothing. None where no label has any of them.
    """
    labels: dict[str, Any] = {}
    for label in dict.fromkeys(cell["label"] for cell in cells):
        members = [cell for cell in cells if cell["label"] == label]
        values = _values(members, (floor or {}).get("metrics", {}))
        if any(values[name] is not None for name in THRESHOLDS):
            failed = [name for name in THRESHOLDS if _fails(name, values[name])]
            measured = all(values[name] is not None for name in THRESHOLDS)
            labels[label] = {**values, "failed": failed, "realistic": not failed if measured or failed else None}
    if not labels:
        return None
    verdicts = [entry["realistic"] for entry in labels.values()]
    realistic = True if True in verdicts else None if None in verdicts else False
    return {
        "thresholds": THRESHOLDS,
        "floor": {name: (floor or {}).get("metrics", {}).get(name) for name in ("fid", "prd_auc")},
        "fid_over_floor_is_least": any(BIASED_MORE in text for text in (floor or {}).get("warnings", ())),
        "labels": labels,
        "realistic": realistic,
    }


def _values(members: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> dict[str, float | None]:
    """The label's own means, and the three numbers that the thresholds are for."""
    fid, area = (_mean([cell["metrics"].get(name, {}).get("value") for cell in members]) for name in ("fid", "prd_auc"))
    pieces = [((cell["labels"] or {}).get("means") or {}).get("component_count") or {} for cell in members]
    real, generated = (_mean([each.get(side) for each in pieces]) for side in ("real", "generated"))
    ratio = generated / real if generated and real else None
    return {
        "fid": fid,
        "prd_auc": area,
        "pieces": generated,
        "pieces_real": real,
        "fid_over_floor": _over(fid, floor.get("fid")),
        "prd_area_over_floor": _over(area, floor.get("prd_auc")),
        "pieces_ratio": ratio and max(ratio, 1 / ratio),
    }


def _over(value: float | None, floor: float | None) -> float | None:
    return value / floor if value is not None and floor is not None and floor > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _fails(name: str, value: float | None) -> bool:
    if value is None:
        return False
    return value > THRESHOLDS[name] if name in EXCESS else value < THRESHOLDS[name]


RULE = (
    "A least demand on patches, and no proof that they are realistic: FID at most "
    f"{THRESHOLDS['fid_over_floor']:g} times that of real against real, PRD area at least "
    f"{THRESHOLDS['prd_area_over_floor']:g} of it, pieces of vessel per label patch within "
    f"{THRESHOLDS['pieces_ratio']:g} times the real ones."
)


def realism_sentence(realism: Mapping[str, Any]) -> str:
    """The verdict on the run by RULE, without its full stop."""
    passing = [label for label, entry in realism["labels"].items() if entry["realistic"]]
    failing = [label for label, entry in realism["labels"].items() if entry["realistic"] is False]
    if realism["realistic"] is False:
        which = "the generators do" if len(failing) > 1 else "the generator does"
        return f"At this budget {which} not yet make realistic vessels"
    if passing:
        rest = f", {join(failing)} {'does' if len(failing) == 1 else 'do'} not" if failing else ""
        return f"{join(passing)} {'meets' if len(passing) == 1 else 'meet'} a least demand on realism{rest}"
    return "Whether the patches are realistic cannot be said, for not all of it was measured"


def cell_warning(cell: Mapping[str, Any], floor: Mapping[str, Any] | None) -> str | None:
    """What to tell as soon as a cell is scored and fails the rule; None where it does not."""
    realism = realism_of([cell], floor)
    entry = realism["labels"][cell["label"]] if realism else {"failed": []}
    told = {
        "fid_over_floor": "FID {:.3g} times that of real against real",
        "prd_area_over_floor": "PRD area {:.2f} of that of real against real",
        "pieces_ratio": "label pieces {:.3g} times off",
    }
    parts = [told[name].format(entry[name]) for name in entry["failed"]]
    return f"not yet realistic: {', '.join(parts)}" if parts else None
