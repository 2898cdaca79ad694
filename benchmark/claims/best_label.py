"""Which synthetic label is best: chosen on validation subjects, and what that is worth on test subjects."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.claims.evidence import Evidence, MissingDataError, Pairs, effect_of, obstacle_of, within_range
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.protocol.cells import BASELINE_RECIPE, SYNTHETIC_KINDS
from benchmark.protocol.claim import CHOSEN
from benchmark.results.format import CellResult
from benchmark.results.judgements import Best, BestScores

__all__ = ["best_synthetic", "with_choice"]


def best_synthetic(cells: Sequence[CellResult], rows: pd.DataFrame) -> Best | None:
    """The label of the highest mean DSC over validation subjects and seeds, and its gap to `real` on test subjects.

    Nothing of a test subject has a part in the choice: chosen on the same subjects, the best of several labels would
    look better than it is. `cells` and `rows` are those of `judge_claims`. None where no synthetic label has both.
    """
    synthetic = dict.fromkeys(cell["label"] for cell in cells if cell["kind"] in SYNTHETIC_KINDS)
    # A baseline has all training subjects; mixtures and baselines of fewer subjects are neither side of the question.
    baselines = [c["label"] for c in cells if c["kind"] == "real" and not c["real_subjects"]]
    for metric in DSC_METRICS:  # the first one that the run has
        known = rows[(rows["metric"] == metric) & rows["value"].notna()]
        means = {split: known[known["split"] == split].groupby("label")["value"].mean() for split in _SPLITS}
        candidates = [label for label in synthetic if all(label in means[split] for split in _SPLITS)]
        if not candidates:
            continue
        on_validation = {label: float(means["validation"][label]) for label in candidates}
        label = max(candidates, key=lambda name: on_validation[name])
        data = _data_of(cells, label)
        baseline = next((name for name in baselines if name in means["test"] and _data_of(cells, name) == data), None)
        by_metric = {name: _scores(cells, rows, name, baseline, label) for name in DSC_METRICS}
        return {
            "label": label,
            "metric": metric,
            "validation": on_validation,
            "validation_subjects": int(known[known["split"] == "validation"]["subject"].nunique()),
            "tied": [name for name in candidates if name != label and on_validation[name] == on_validation[label]],
            **by_metric[metric],
            "by_metric": by_metric,
        }
    return None


_SPLITS = ("validation", "test")


def _scores(cells: Sequence[CellResult], rows: pd.DataFrame, metric: str, real: str | None, label: str) -> BestScores:
    """Both test means and the gap between them, null where there is none."""
    pairs = None if real is None else _pairs(Evidence(cells, rows), metric, real, label)
    if pairs:
        return _gap(pairs)
    known = rows[(rows["metric"] == metric) & rows["value"].notna() & (rows["split"] == "test")]
    means = {str(name): float(mean) for name, mean in known.groupby("label")["value"].mean().items()}
    return {"test": means.get(label), "test_real": None if real is None else means.get(real), "gap_to_real": None}


def _data_of(cells: Sequence[CellResult], label: str) -> set[Any]:
    """The deviations with which a label's U-Nets saw the data: a gap between others would be theirs."""
    options = [cell.get("recipe_options") or {} for cell in cells if cell["label"] == label]
    return {tuple(each.get(name) for name in BASELINE_RECIPE) for each in options}


def _pairs(evidence: Evidence, metric: str, real: str, label: str) -> Pairs | None:
    """Both labels' values on test subjects, for the seeds that both have; None where there are none."""
    try:
        return evidence.pairs(metric, real, label, "trained models")
    except MissingDataError:
        return None


def _gap(pairs: Pairs) -> BestScores:
    """Real minus synthetic, paired by test subject, and the two means that it is the difference of."""
    effect, seeds, subjects = effect_of(pairs)
    too_few = effect is None or obstacle_of(pairs, seeds, subjects) is not None
    low, high = (None, None) if effect is None or too_few else within_range(effect.interval(), pairs)
    value = float(pairs.differences.mean()) if effect is None else float(effect.effect)
    by_subject = pd.DataFrame(pairs.rows())
    return {
        "test": float(by_subject["right"].mean()),
        "test_real": float(by_subject["left"].mean()),
        "gap_to_real": {
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": subjects,
            "unit": pairs.unit,
            "real": pairs.labels[0],
        },
    }


def with_choice(claim: Mapping[str, object], best: Best | None) -> Mapping[str, object]:
    """A claim with the chosen label in place of `metric @ best`; without a choice it stays, and finds no values."""

    def resolved(value: object) -> object:
        if isinstance(value, str):
            metric, at, label = value.partition(" @ ")
            return f"{metric} @ {best['label']}" if best and at and label == CHOSEN else value
        return [resolved(part) for part in value] if isinstance(value, list | tuple) else value

    return {key: value if key == "name" else resolved(value) for key, value in claim.items()}
