"""The share of the real gain of every label that saw no real patch, in both regions."""

from collections.abc import Mapping
from typing import Any

from benchmark.metrics.registry import REGION_NAMES
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table
from benchmark.report.sections.text import LabelMark, interval, number

__all__ = ["gain_table", "share_entry"]

DECIMALS = 2


def gain_table(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Table | None:
    """Labels x regions, with the rule that each share is over; None where the run has no such share."""
    gains = {(gain["label"], gain["metric"]): gain for gain in results["gain"]}
    if not gains:
        return None
    notes = Footnotes()
    rows = []
    for label in dict.fromkeys(label for label, _ in gains):
        entries = []
        for metric in DSC_METRICS:
            gain = gains.get((label, metric))
            entries += [Entry("–"), Entry("–")] if gain is None else [share_entry(gain, notes), _rule(gain)]
        rows.append(Row(marks[label], entries))
    columns = []
    for metric in DSC_METRICS:
        where = REGION_NAMES[metric.partition("/")[2]]
        columns += [Column("share", where, "↑", "higher is better"), Column("over the rule")]
    return Table(columns, rows, notes.lines())


def share_entry(share: Mapping[str, Any], notes: Footnotes) -> Entry:
    """A share with its interval; what is missing has its reason as footnote."""
    mark = notes.mark(share["reason"])
    if share["value"] is None:
        return Entry("n/a", "", mark)
    bounds = interval(share["ci_low"], share["ci_high"], DECIMALS)
    return Entry(number(share["value"], DECIMALS), bounds, mark)


def _rule(gain: Mapping[str, Any]) -> Entry:
    means = gain.get("means")
    return Entry(gain["untrained"] or "–", "" if means is None else f"DSC {number(means['untrained'], 3)}")
