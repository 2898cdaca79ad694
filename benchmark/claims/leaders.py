"""Which arm leads a metric, and whether it beats every other one by more than chance. Pure."""

from collections.abc import Iterator, Sequence

import pandas as pd

from benchmark.claims.comparisons import INFINITE, comparison_of
from benchmark.claims.evidence import Evidence, MissingDataError
from benchmark.claims.family import LEVEL
from benchmark.metrics.registry import every, has_subjects
from benchmark.protocol.claim import Scope
from benchmark.results.format import CellResult, GroupResult
from benchmark.results.judgements import Leader

__all__ = ["leaders_of"]


def leaders_of(cells: Sequence[CellResult], rows: pd.DataFrame, groups: Sequence[GroupResult]) -> list[Leader]:
    """Of each metric that has a better side the arm of the best mean, and whether its lead is significant.

    An intersection-union test as for a claim `best`: every other arm of the metric has to be beaten, two-sided at 5 %,
    with no correction among them nor for the number of metrics. The unit is the test subject, the seed of a metric
    without subjects, the round of a cost. Where it is not significant, `rival` is the first arm, from the closest mean
    on, that is not beaten, `p` the p-value against it (null where nothing can be decided) and `reason` why.
    `cells` and `groups` are those of results.json, `rows` those of `results.rows.subject_rows`.
    """
    evidence = Evidence(cells, rows)
    return list(_leaders(evidence, groups))


def _leaders(evidence: Evidence, groups: Sequence[GroupResult]) -> Iterator[Leader]:
    for name, named in every().items():
        better = named.metric.better
        means = {
            group["label"]: value
            for group in groups
            if (entry := group["metrics"].get(name)) and (value := entry["value"]) is not None
        }
        if better is None or named.kind == "derived" or len(means) < 2:
            continue
        ranked = sorted(means, key=lambda label: means[label], reverse=better == "higher")
        bounds = (0.0, INFINITE) if better == "higher" else (-INFINITE, 0.0)
        yield _leader(evidence, name, ranked, bounds)


def _leader(evidence: Evidence, metric: str, ranked: Sequence[str], bounds: tuple[float, float]) -> Leader:
    first, *others = ranked
    scope: Scope = "trained models" if has_subjects(metric) else "training procedure"
    largest: tuple[float, str] = (0.0, others[0])
    for rival in others:
        try:
            comparison = comparison_of(evidence.pairs(metric, first, rival, scope), *bounds, strict=True)
        except MissingDataError as error:
            return _not_clear(metric, first, rival, None, str(error))
        if comparison.obstacle:
            return _not_clear(metric, first, rival, None, comparison.obstacle)
        p = min(1.0, 2 * comparison.p_values[0])
        if p > LEVEL:
            reason = "both are equal" if comparison.is_exact else "the difference is within chance"
            return _not_clear(metric, first, rival, None if comparison.is_exact else p, reason)
        if not comparison.is_met_by_all(holds=True):
            return _not_clear(metric, first, rival, p, "not every seed has it")
        largest = max(largest, (p, rival))
    p, rival = largest
    return {"metric": metric, "label": first, "significant": True, "rival": rival, "p": p, "reason": None}


def _not_clear(metric: str, first: str, rival: str, p: float | None, reason: str) -> Leader:
    return {"metric": metric, "label": first, "significant": False, "rival": rival, "p": p, "reason": reason}
