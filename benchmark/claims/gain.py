"""How much of what real data bring over no learning at all is brought by synthetic data, label by label. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.gain import GAIN
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.protocol.cells import BASELINE_RECIPE, SYNTHETIC_KINDS, Kind
from benchmark.results.format import CellResult, GroupResult
from benchmark.results.judgements import Gain
from vesselgan.metrics import real_gain_share

__all__ = ["add_gains", "gains_of"]

Array = NDArray[np.float64]
Table = dict[int, dict[str, float]]  # seed -> subject -> value
NO_RULE = "no rule without learning was scored"
NO_REAL = "no U-Net learned from the same real data"
NO_PAIRS = "no seed and test subject that all three have"


def gains_of(cells: Sequence[CellResult], rows: pd.DataFrame) -> list[Gain]:
    """One entry per DSC and label whose U-Nets saw no real patch: its share of the real gain, or why there is none.

    The rule without learning is the one of the higher mean DSC on validation subjects: chosen on the test subjects, it
    would look better than it is. `cells` are those of results.json, `rows` those of `results.rows.subject_rows`. Test
    subjects and seeds are those that all three have.
    """
    rules, real = _first_of_label(cells, "untrained"), _first_of_label(cells, "real")
    real = {label: cell for label, cell in real.items() if not cell["real_subjects"]}
    weighed = _first_of_label(cells, *SYNTHETIC_KINDS) | _first_of_label(cells, "procedural")
    entries: list[Gain] = []
    for metric in DSC_METRICS:
        of_metric = rows[(rows["metric"] == metric) & rows["value"].notna()]
        of_validation = of_metric[of_metric["split"] == "validation"].groupby("label")["value"].mean()
        validation = {str(name): float(mean) for name, mean in of_validation.items()}
        known, tables = set(of_metric["label"]), _tables(of_metric)
        for label, cell in weighed.items():
            if label in known:
                alike = [name for name, rule in rules.items() if _data_of(rule, "pairing") == _data_of(cell, "pairing")]
                baseline = next((n for n, c in real.items() if _data_of(c) == _data_of(cell)), None)
                scores = {name: validation[name] for name in alike if name in validation}
                entries.append(_entry(tables, metric, label, baseline, scores))
    return entries


def _first_of_label(cells: Sequence[CellResult], *kinds: Kind) -> dict[str, CellResult]:
    first: dict[str, CellResult] = {}
    for cell in cells:
        if cell["kind"] in kinds:
            first.setdefault(cell["label"], cell)
    return first


def _entry(tables: Mapping[str, Table], metric: str, label: str, real: str | None, scores: Mapping[str, float]) -> Gain:
    best = max(scores, key=lambda name: scores[name]) if scores else None
    entry: Gain = {
        "label": label,
        "metric": metric,
        "value": None,
        "ci_low": None,
        "ci_high": None,
        "reason": None,
        "seeds": 0,
        "subjects": 0,
        "synthetic_gain": None,
        "real_gain": None,
        "real": real,
        "untrained": best,
        "validation": dict(scores),
    }
    if best is None or real is None:
        return {**entry, "reason": NO_REAL if real is None else NO_RULE}
    paired = _paired([tables.get(name, {}) for name in (label, real, best)])
    if paired is None:
        return {**entry, "reason": NO_PAIRS}
    synthetic, of_real, of_rule = paired
    share = real_gain_share(synthetic=synthetic, real=of_real, untrained=of_rule)
    return {
        **entry,
        "value": share.value,
        "ci_low": share.low,
        "ci_high": share.high,
        "reason": share.reason,
        "seeds": share.seeds,
        "subjects": share.subjects,
        "synthetic_gain": share.synthetic_gain,
        "real_gain": share.real_gain,
        "means": {
            "synthetic": float(synthetic.mean()),
            "real": float(of_real.mean()),
            "untrained": float(of_rule.mean()),
        },
    }


def _tables(rows: pd.DataFrame) -> dict[str, Table]:
    """Of each label the values on test subjects."""
    tables: dict[str, Table] = {}
    columns = (rows[name].tolist() for name in ("label", "seed", "subject", "split", "value"))
    for label, seed, subject, split, value in zip(*columns, strict=True):
        if split == "test":
            tables.setdefault(label, {}).setdefault(seed, {})[subject] = value
    return tables


def _paired(tables: Sequence[Table]) -> tuple[Array, Array, Array] | None:
    """A label's, the real one's (seeds, subjects) and the rule's (subjects,), of the seeds and subjects that all have.

    A subject that one of these seeds lacks would leave a hole.
    """
    one, other, rule = tables
    seeds = sorted(one.keys() & other.keys())
    if not seeds or not rule:
        return None
    of_rule = rule[min(rule)]
    whole = [table[seed].keys() for table in (one, other) for seed in seeds]
    subjects = sorted(of_rule.keys() & set.intersection(*map(set, whole)))
    if not subjects:
        return None
    first, second = (np.array([[table[seed][s] for s in subjects] for seed in seeds]) for table in (one, other))
    return first, second, np.array([of_rule[subject] for subject in subjects])


def _data_of(cell: CellResult, *names: str) -> tuple[object, ...]:
    options = cell.get("recipe_options") or {}
    return tuple(options.get(name) for name in names or BASELINE_RECIPE)


def add_gains(groups: Sequence[GroupResult], gains: Sequence[Gain]) -> None:
    """Put each share among the metrics of its label's group, for tables."""
    metrics = {group["label"]: group["metrics"] for group in groups}
    for gain in gains:
        metrics[gain["label"]][f"{GAIN}/{gain['metric'].partition('/')[2]}"] = {
            "value": gain["value"],
            "ci_low": gain["ci_low"],
            "ci_high": gain["ci_high"],
            "reason": gain["reason"],
            "sd": None,
            "n": gain["subjects"],
            "unit": f"test subject, {gain['seeds']} seeds, over {gain['untrained']}",
        }
