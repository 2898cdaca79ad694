"""Do the generators make realistic vessels? A coarse rule on group means, against what real patches score. Pure."""

from collections.abc import Mapping, Sequence

from benchmark.artifacts.values import ReferenceValues
from benchmark.results.format import CellResult
from benchmark.results.judgements import Realism, RealismOfArm, Threshold
from benchmark.scoring.patch_sets import BIASED_MORE
from benchmark.words import join

__all__ = ["RULE", "THRESHOLDS", "cell_warning", "realism_of", "realism_sentence"]

# Far from indistinguishable: real against real is 1, 1 and about 1. What fails these is seen at a glance.
THRESHOLDS: Mapping[Threshold, float] = {"fid_over_floor": 8.0, "prd_area_over_floor": 0.5, "pieces_ratio": 1.5}
LEAST_RATIO = 0.001  # no piece at all counts as this
EXCESS = ("fid_over_floor", "pieces_ratio")  # must not exceed their threshold; the PRD area must reach it


def realism_of(cells: Sequence[CellResult], floor: ReferenceValues | None) -> Realism | None:
    """Each scored arm's distance from the floor, which thresholds it fails, and whether the run's best one fails.

    `cells` and `floor` are those of results.json; values are means over seeds. `fid_over_floor` is FID over that of
    real against real; `prd_area_over_floor` the same of the PRD area; `pieces_ratio` the pieces of a label patch,
    generated over real or the other way round, whichever is above 1. With fewer patches in the floor its FID is too
    high, so that the ratio is the least that it can be: `fid_over_floor_is_least`. What is not
    measured is null and fails nothing. None where no arm has any of them.
    """
    of_floor = floor["metrics"] if floor else {}
    arms: dict[str, RealismOfArm] = {}
    for arm in dict.fromkeys(cell["label"] for cell in cells):
        entry = _of_arm([cell for cell in cells if cell["label"] == arm], of_floor)
        if any(entry[name] is not None for name in THRESHOLDS):
            arms[arm] = entry
    if not arms:
        return None
    verdicts = [entry["realistic"] for entry in arms.values()]
    realistic = True if True in verdicts else None if None in verdicts else False
    return {
        "thresholds": THRESHOLDS,
        "floor": {name: of_floor.get(name) for name in ("fid", "prd_auc")},
        "fid_over_floor_is_least": any(BIASED_MORE in text for text in (floor.get("warnings", ()) if floor else ())),
        "labels": arms,
        "realistic": realistic,
    }


def _of_arm(members: Sequence[CellResult], floor: Mapping[str, float]) -> RealismOfArm:
    """The arm's own means, the three numbers that the thresholds are for, and which of them it fails."""
    fid, area = (
        _mean([entry["value"] for cell in members if (entry := cell["metrics"].get(name))])
        for name in ("fid", "prd_auc")
    )
    means = [cell["labels"].get("means", {}) for cell in members if cell["labels"]]
    pieces = [each["component_count"] for each in means if "component_count" in each]
    real, generated = _mean([each["real"] for each in pieces]), _mean([each["generated"] for each in pieces])
    ratio = None if generated is None or not real else generated / real
    values: dict[Threshold, float | None] = {
        "fid_over_floor": _over(fid, floor.get("fid")),
        "prd_area_over_floor": _over(area, floor.get("prd_auc")),
        "pieces_ratio": None if ratio is None else max(ratio, 1 / max(ratio, LEAST_RATIO)),
    }
    failed = [name for name, value in values.items() if _fails(name, value)]
    measured = all(value is not None for value in values.values())
    return {
        "fid": fid,
        "prd_auc": area,
        "pieces": generated,
        "pieces_real": real,
        "fid_over_floor": values["fid_over_floor"],
        "prd_area_over_floor": values["prd_area_over_floor"],
        "pieces_ratio": values["pieces_ratio"],
        "failed": failed,
        "realistic": not failed if measured or failed else None,
    }


def _over(value: float | None, floor: float | None) -> float | None:
    return value / floor if value is not None and floor is not None and floor > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _fails(name: Threshold, value: float | None) -> bool:
    if value is None:
        return False
    return value > THRESHOLDS[name] if name in EXCESS else value < THRESHOLDS[name]


RULE = (
    "A least demand on patches, and no proof that they are realistic: FID at most "
    f"{THRESHOLDS['fid_over_floor']:g} times that of real against real, PRD area at least "
    f"{THRESHOLDS['prd_area_over_floor']:g} of it, pieces of vessel per label patch within "
    f"{THRESHOLDS['pieces_ratio']:g} times the real ones. Both FIDs hold the same bias of finite numbers of patches, "
    "so the ratio is below that of FID∞, which has none."
)


def realism_sentence(realism: Realism) -> str:
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


def cell_warning(cell: CellResult, floor: ReferenceValues | None) -> str | None:
    """What to tell as soon as a cell is scored and fails the rule; None where it does not."""
    realism = realism_of([cell], floor)
    entry = realism["labels"][cell["label"]] if realism else None
    told: Mapping[Threshold, str] = {
        "fid_over_floor": "FID {:.3g} times that of real against real",
        "prd_area_over_floor": "PRD area {:.2f} of that of real against real",
        "pieces_ratio": "label pieces {:.3g} times off",
    }
    parts = [told[name].format(entry[name]) for name in entry["failed"]] if entry else []
    return f"not yet realistic: {', '.join(parts)}" if parts else None
