"""How much of what real data bring over no learning at all is brought by synthetic data, label by label. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.gain import GAIN
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.protocol.cells import BASELINE_RECIPE
from benchmark.results.arms import trained_on
from vesselgan.metrics import real_gain_share

__all__ = ["add_gains", "gains_of"]

Array = NDArray[np.float64]
NO_RULE = "no rule without learning was scored"
NO_REAL = "no U-Net learned from the same real data"
NO_PAIRS = "no seed and test subject that all three have"


def gains_of(cells: Sequence[Mapping[str, Any]], rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per DSC and label whose U-Nets saw no real patch: its share of the real gain, or why there is none.

    The rule without learning is the one of the higher mean DSC on validation subjects: chosen on the test subjects, it
    would look better than it is. `cells` are those of results.json, `rows` those of `results.subject_rows`. Test
    subjects and seeds are those that all three have.
    """
    by_kind: dict[str, dict[str, Mapping[str, Any]]] = {}
    for cell in cells:
        by_kind.setdefault(trained_on(cell), {}).setdefault(cell["label"], cell)
    rules = by_kind.get("nothing", {})
    real = {label: cell for label, cell in by_kind.get("real", {}).items() if not cell["real_subjects"]}
    entries = []
    for metric in DSC_METRICS:
        of_metric = rows[(rows["metric"] == metric) & rows["value"].notna()]
        for label, cell in {**by_kind.get("synthetic", {}), **by_kind.get("phantoms", {})}.items():
            if (of_metric["label"] == label).any():
                alike = [name for name, rule in rules.items() if _data_of(rule, "pairing") == _data_of(cell, "pairing")]
                baseline = next((n for n, c in real.items() if _data_of(c) == _data_of(cell)), None)
                entries.append({"label": label, "metric": metric, **_entry(of_metric, label, baseline, alike)})
    return entries


def _entry(rows: pd.DataFrame, label: str, real: str | None, rules: Sequence[str]) -> dict[str, Any]:
    validation = rows[rows["split"] == "validation"].groupby("label")["value"].mean()
    scores = {name: float(validation[name]) for name in rules if name in validation}
    best = max(scores, key=lambda name: scores[name]) if scores else None
    entry: dict[str, Any] = {"value": None, "ci_low": None, "ci_high": None, "reason": None, "seeds": 0, "subjects": 0}
    entry |= {"synthetic_gain": None, "real_gain": None, "real": real, "untrained": best, "validation": scores}
    if best is None or real is None:
        return entry | {"reason": NO_REAL if real is None else NO_RULE}
    paired = _paired(rows[rows["split"] == "test"], label, real, best)
    if paired is None:
        return entry | {"reason": NO_PAIRS}
    synthetic, of_real, of_rule = paired
    share = real_gain_share(synthetic=synthetic, real=of_real, untrained=of_rule)
    entry |= {"value": share.value, "ci_low": share.low, "ci_high": share.high, "reason": share.reason}
    entry |= {"seeds": share.seeds, "subjects": share.subjects}
    entry |= {"synthetic_gain": share.synthetic_gain, "real_gain": share.real_gain}
    means = {"synthetic": synthetic.mean(), "real": of_real.mean(), "untrained": of_rule.mean()}
    return entry | {"means": {name: float(mean) for name, mean in means.items()}}


def _paired(rows: pd.DataFrame, label: str, real: str, rule: str) -> tuple[Array, Array, Array] | None:
    """Both labels' (seeds, subjects) and the rule's (subjects,), of the seeds and subjects that all have."""
    tables = [
        rows[rows["label"] == name].pivot_table(index="seed", columns="subject", values="value")
        for name in (label, real, rule)
    ]
    seeds = sorted(set(tables[0].index) & set(tables[1].index))
    subjects = sorted(set.intersection(*(set(table.columns) for table in tables)))
    # A subject that one of these seeds lacks would leave a hole.
    subjects = [s for s in subjects if all(table.loc[seeds, s].notna().all() for table in tables[:2])]
    if not seeds or not subjects:
        return None
    one, other = (table.loc[seeds, subjects].to_numpy(dtype=np.float64) for table in tables[:2])
    return one, other, tables[2][subjects].to_numpy(dtype=np.float64)[0]


def _data_of(cell: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    options = cell.get("recipe_options") or {}
    return tuple(options.get(name) for name in names or BASELINE_RECIPE)


def add_gains(groups: Sequence[Mapping[str, Any]], gains: Sequence[Mapping[str, Any]]) -> None:
    """Put each share among the metrics of its label's group, for tables."""
    metrics = {group["label"]: group["metrics"] for group in groups}
    for gain in gains:
        about = {"n": gain["subjects"], "unit": f"test subject, {gain['seeds']} seeds, over {gain['untrained']}"}
        numbers = {name: gain[name] for name in ("value", "ci_low", "ci_high", "reason")}
        metrics[gain["label"]][f"{GAIN}/{gain['metric'].partition('/')[2]}"] = {**numbers, "sd": None, **about}
