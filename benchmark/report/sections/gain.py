"""The share of the real gain of every arm that saw no real patch, in both regions."""

from collections.abc import Mapping

from benchmark.metrics.registry import REGION_NAMES
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table
from benchmark.report.sections.text import ArmMark, interval, number
from benchmark.results.format import Results
from benchmark.results.judgements import Gain, Share

__all__ = ["gain_table", "share_entry"]

DECIMALS = 2


def gain_table(results: Results, marks: Mapping[str, ArmMark]) -> Table | None:
    """Arms x regions, with the rule that each share is over; None where the run has no such share."""
    gains = {(gain["label"], gain["metric"]): gain for gain in results["gain"]}
    if not gains:
        return None
    notes = Footnotes()
    rows = []
    for arm in dict.fromkeys(arm for arm, _ in gains):
        entries = []
        for metric in DSC_METRICS:
            gain = gains.get((arm, metric))
            entries += [Entry("–"), Entry("–")] if gain is None else [share_entry(gain, notes), _rule(gain)]
        rows.append(Row(marks[arm], entries))
    columns = []
    for metric in DSC_METRICS:
        where = REGION_NAMES[metric.partition("/")[2]]
        columns += [Column("share", where, "↑", "higher is better"), Column("over the rule")]
    caption = "Share of the real gain of every label whose U-Nets saw no real patch"
    return Table(columns, rows, notes.lines(), caption)


def share_entry(share: Share | Gain, notes: Footnotes) -> Entry:
    """A share with its interval; what is missing has its reason as footnote."""
    mark = notes.mark(share["reason"])
    if share["value"] is None:
        return Entry("n/a", "", mark)
    bounds = interval(share["ci_low"], share["ci_high"], DECIMALS)
    return Entry(number(share["value"], DECIMALS), bounds, mark, share["value"])


def _rule(gain: Gain) -> Entry:
    means = gain.get("means")
    return Entry(gain["untrained"] or "–", "" if means is None else f"DSC {number(means['untrained'], 3)}")
