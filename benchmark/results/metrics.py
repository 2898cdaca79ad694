"""A cell's metrics as its stages left them, and over the seeds of its arm."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from benchmark.artifacts.values import ScoreValues
from benchmark.metrics.registry import is_cost, measurements, range_of
from benchmark.results.format import CellResult, MetricValue
from vesselgan.metrics.estimates import MeanValue, mean_with_interval

__all__ = ["as_metric", "over_seeds", "score_metrics", "segmentation_metrics"]

NO_MASK = "the dataset has no brain mask, so intracranial vessels cannot be told apart"
NO_VALUE = "no test subject has a value"


def as_metric(mean: MeanValue) -> MetricValue:
    """A mean as it stands among metrics."""
    entry: MetricValue = {
        "value": mean["value"],
        "n": mean["n"],
        "unit": mean["unit"],
        "sd": mean["sd"],
        "ci_low": mean["ci_low"],
        "ci_high": mean["ci_high"],
    }
    if "reason" in mean:
        entry["reason"] = mean["reason"]
    return entry


def score_metrics(values: ScoreValues) -> dict[str, MetricValue]:
    """What a `score` stage found, each value of one trained model."""
    facts, intervals, spreads = values["facts"], values.get("intervals", {}), values.get("sd_kmeans", {})
    entries: dict[str, MetricValue] = {}
    for name, value in values["metrics"].items():
        low, high = intervals.get(name, (None, None))
        own = facts.get("own", {}).get(name)
        entry: MetricValue = {
            "value": value,
            "n": (own or facts)["samples"],
            "unit": "synthetic patches, one trained model",
            "ci_low": low,
            "ci_high": high,
        }
        if low is None:
            entry["reason"] = "one trained model gives one value: its uncertainty is the spread over seeds"
        else:  # whose sampling the interval is about; a training repeated with another seed is not in it
            entry["interval"] = "jackknife over subjects and synthetic patches, one trained model"
        if extractor := (own or facts).get("extractor"):
            entry["extractor"] = extractor
        if "reference" in facts:
            entry["reference"] = facts["reference"]
        if name in spreads:
            entry["sd_kmeans"] = spreads[name]
        entries[name] = entry
    return entries


def segmentation_metrics(rows: pd.DataFrame, cell_id: str, reasons: Mapping[str, str]) -> dict[str, MetricValue]:
    """Means over the test subjects of a cell; `rows` are the run's `subject_rows`.

    `reasons` says of a region why its metrics have no value, where that is not for lack of brain masks.
    """
    entries: dict[str, MetricValue] = {}
    of_cell = rows[(rows["cell"] == cell_id) & (rows["split"] == "test")]
    if of_cell.empty:
        return entries
    # Plain lists: twenty tables of pandas for each of a thousand cells take as long as the rest of a report.
    scores: dict[str, list[tuple[float, int]]] = {name: [] for name in _built_in()}
    for metric, value, empty in zip(*(of_cell[name].tolist() for name in ("metric", "value", "empty")), strict=True):
        scores.setdefault(metric, []).append((value, empty))
    for name, of_metric in scores.items():
        known = [(value, empty) for value, empty in of_metric if not math.isnan(value)]
        if not known:
            region = name.partition("/")[2]
            nothing = any(empty for _, empty in of_metric)
            reason = reasons.get(region) or (NO_VALUE if region == "all" or nothing else NO_MASK)
            entries[name] = {"value": None, "n": 0, "ci_low": None, "ci_high": None, "reason": reason}
            if nothing:
                entries[name]["left_out"] = sum(empty for _, empty in of_metric)
            continue
        entries[name] = as_metric(mean_with_interval([value for value, _ in known], "test subject", range_of(name)))
        entries[name]["empty"] = sum(empty for _, empty in known)
        if left_out := sum(empty for _, empty in of_metric) - entries[name]["empty"]:  # both masks empty
            entries[name]["left_out"] = left_out
    return entries


def _built_in() -> Iterator[str]:
    """The metrics that every cell has an entry for; rows may have more, also such as are not loaded now."""
    for each in measurements("subject"):
        if each.is_built_in and not each.is_asked_for:
            yield from (named.name for named in each.named)


def over_seeds(members: Sequence[CellResult]) -> dict[str, MetricValue]:
    """Of an arm's cells, each metric's mean over them with its interval over trained models."""
    entries: dict[str, MetricValue] = {}
    for name in dict.fromkeys(name for cell in members for name in cell["metrics"]):
        metrics = [cell["metrics"][name] for cell in members if name in cell["metrics"]]
        values = [metric["value"] for metric in metrics if metric["value"] is not None]
        if is_cost(name) or not values:  # costs are measured once for all seeds
            entries[name] = metrics[0].copy()
        else:
            entries[name] = as_metric(mean_with_interval(values, "seed", range_of(name)))
        if values and any("empty" in metric for metric in metrics):
            entries[name]["empty_segmentations"] = sum(metric.get("empty", 0) for metric in metrics)
            entries[name]["segmentations"] = sum(metric["n"] for metric in metrics)
        if left_out := sum(metric.get("left_out", 0) for metric in metrics):
            entries[name]["left_out_segmentations"] = left_out
    return entries
