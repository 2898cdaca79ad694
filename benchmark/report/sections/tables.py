"""The result tables: segmentation, distances between distributions, and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmark.artifacts.values import ReferenceValues
from benchmark.claims.statistics import LEAST_SEEDS
from benchmark.metrics.registry import REGION_NAMES, every, measurements, names
from benchmark.report.sections.text import ArmMark, deviation, number, unit_of
from benchmark.results.format import GroupResult, MetricValue, Results, Spread
from benchmark.words import join, left_out_words, plural

__all__ = [
    "Column",
    "Entry",
    "Row",
    "Table",
    "distance_names",
    "distance_table",
    "distance_warnings",
    "other_segmentation_table",
    "segmentation_table",
    "spread_entry",
    "winners",
]

ARROWS = {"lower": "↓", "higher": "↑", None: ""}
NOT_YET = "no cell of this label has got this far"
WIDE = 8  # columns
BETTER = {"lower": "lower is better", "higher": "higher is better", None: ""}
SHOWN_FIRST = ("dsc", "bavd_voxel", "bavd_mm")  # in tables of their own


@dataclass(frozen=True)
class Column:
    """A heading: what, more about it, and an arrow to the better side (with its words for screen readers)."""

    title: str
    detail: str = ""
    arrow: str = ""
    better: str = ""


@dataclass(frozen=True)
class Entry:
    """One number as text, smaller lines below it, and the letter of a footnote.

    `value` is the number with every digit, by which a reader sorts. `is_best` where it beats every other one.
    """

    text: str
    detail: str = ""
    mark: str = ""
    value: float | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """An arm with its entries; `plain` names a row that is no arm of the run."""

    arm: ArmMark | None
    entries: Sequence[Entry]
    plain: str = ""


@dataclass(frozen=True)
class Table:
    """Columns, rows and lettered footnotes. `caption` and `corner`, the heading of the first column, name it."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    footnotes: Sequence[tuple[str, str]] = ()
    caption: str = ""
    corner: str = "label"

    @property
    def is_wide(self) -> bool:
        """Whether its columns have to stand close to fit on a desk's screen."""
        return len(self.columns) > WIDE

    @property
    def has_best(self) -> bool:
        """Whether a number of it beats every other one of its column, or of its line."""
        return any(entry.is_best for row in self.rows for entry in row.entries)


@dataclass
class Footnotes:
    """Letters for texts, one letter per text."""

    texts: dict[str, str] = field(default_factory=dict)

    def mark(self, text: str | None) -> str:
        """The letter of a footnote; empty for no text."""
        if not text:
            return ""
        return self.texts.setdefault(text, chr(ord("a") + len(self.texts) % 26))

    def lines(self) -> list[tuple[str, str]]:
        """Letter and text, in order."""
        return [(letter, text) for text, letter in self.texts.items()]


def column(metric: str) -> Column:
    """The heading of a metric."""
    named = every()[metric]
    title, _, bracket = named.metric.title.partition(" (")
    where = REGION_NAMES[named.region] if named.region else ""
    return Column(
        title,
        ", ".join(part for part in (where, bracket.rstrip(")"), named.metric.unit) if part),
        ARROWS[named.metric.better],
        BETTER[named.metric.better],
    )


def winners(results: Results) -> frozenset[tuple[str, str]]:
    """Metrics, each with the label that beats every other one by more than chance."""
    return frozenset((leader["metric"], leader["label"]) for leader in results["leaders"] if leader["significant"])


def segmentation_table(results: Results, marks: Mapping[str, ArmMark], distance: str) -> Table | None:
    """Arms x DSC and bAVD (`bavd_voxel` or `bavd_mm`) x all and intracranial, or None without any value."""
    metrics = [f"{name}/{region}" for name in ("dsc", distance) for region in ("all", "intracranial")]
    if not any(metric in group["metrics"] for group in results["groups"] for metric in metrics):
        return None
    notes, best = Footnotes(), winners(results)
    rows = []
    for group in results["groups"]:
        mark, entries = marks[group["label"]], []
        for metric in metrics:
            entry, over = group["metrics"].get(metric), group["over_subjects"].get(metric)
            sd = over["sd"] if over else None
            detail = f"subjects ± {deviation(sd, unit_of(metric)[0])}" if sd is not None else ""
            note = _of_empty_masks(mark.name, entry) if entry else None
            shown = _mean_entry(entry, metric, notes, detail=detail, note=note)
            entries.append(replace(shown, is_best=(metric, mark.name) in best))
        subjects = group["test_subjects"]
        counts = [_seeds_entry(group, mark), Entry("–" if subjects is None else str(subjects))]
        rows.append(Row(mark, [*entries, *counts]))
    columns = [*(column(metric) for metric in metrics), Column("seeds"), Column("test subjects")]
    unit = ", in millimetres" if distance == "bavd_mm" else ""
    caption = f"DSC and balanced average Hausdorff distance on the test subjects{unit}"
    return Table(columns, rows, notes.lines(), caption, "U-Net learned from")


def other_segmentation_table(results: Results) -> Table | None:
    """All metrics of segmentations that `segmentation_table` leaves out, a line each, x arms; None without any."""
    groups = results["groups"]
    known = [
        name
        for name, named in every("subject").items()
        if named.metric.key not in SHOWN_FIRST and any(name in group["metrics"] for group in groups)
    ]
    if not known:
        return None
    notes, best = Footnotes(), winners(results)
    rows = []
    for name in known:
        heading = column(name)
        title = f"{heading.title} ({heading.detail})" if heading.detail else heading.title
        entries = [
            replace(
                _mean_entry(group["metrics"].get(name), name, notes, stacked=True),
                is_best=(name, group["label"]) in best,
            )
            for group in groups
        ]
        rows.append(Row(None, entries, f"{title} {heading.arrow}".strip()))
    caption = "Mean of each metric over the test subjects, ± SD over seeds"
    return Table([Column(group["label"]) for group in groups], rows, notes.lines(), caption, "metric")


def _seeds_entry(group: GroupResult, mark: ArmMark) -> Entry:
    if mark.kind == "untrained":
        return Entry("–", "nothing drawn")
    done, seeds = group["done"], len(group["seeds"])
    return Entry(str(done), f"of {seeds}" if done < seeds else "", value=done)


def _mean_entry(
    entry: MetricValue | None,
    metric: str,
    notes: Footnotes,
    *,
    detail: str = "",
    note: str | None = None,
    stacked: bool = False,
) -> Entry:
    """Mean ± SD, the SD below the mean if `stacked`; a missing value is `n/a` with its reason as footnote."""
    if entry is None:
        notes.texts[NOT_YET] = "–"
        return Entry("–")
    if entry["value"] is None:
        return Entry("n/a", "", notes.mark(entry.get("reason") or "no value"))
    decimals = unit_of(metric)[0]
    sd = entry.get("sd")
    text = number(entry["value"], decimals)
    plus_minus = "" if sd is None else f"± {deviation(sd, decimals)}"
    # A spread over so few says little about the next seed, and must not look like any other.
    few = f"n = {entry['n']}" if sd is not None and entry["n"] < LEAST_SEEDS else ""
    below = "\n".join(part for part in (plus_minus if stacked else "", few and f"({few})", detail) if part)
    return Entry(text if stacked else f"{text} {plus_minus}".strip(), below, notes.mark(note), entry["value"])


def _of_empty_masks(arm: str, entry: MetricValue) -> str | None:
    empty, left_out = entry.get("empty_segmentations"), entry.get("left_out_segmentations")
    parts = []
    if empty:
        segmentations = plural(entry["segmentations"], "segmentation")
        parts.append(
            f"in {empty} of {segmentations} the prediction (or the truth) was empty; such a distance counts as the "
            "volume's diagonal, bAVD as more, DSC as 0"
        )
    if left_out:
        parts.append(left_out_words(left_out))
    return f"{arm}: {'; '.join(parts)}" if parts else None


def distance_names() -> list[str]:
    """Distances between sets of features, and whatever else has one value per trained model and no table of its own."""
    others = [each for each in measurements("labels", "audit") if not each.is_built_in]
    return [*names("set"), *(named.name for each in others for named in each.named)]


def distance_table(results: Results, marks: Mapping[str, ArmMark]) -> Table | None:
    """The floor (real against real) and each generative arm x every distance, with the share of vessel."""
    floor, real = results["floor"], results["real_labels"]
    of_floor = floor["metrics"] if floor else {}
    known = [name for name in distance_names() if any(name in group["metrics"] for group in results["groups"])]
    known = known or [name for name in distance_names() if name in of_floor]
    if not known:
        return None
    notes, best = Footnotes(), winners(results)
    rows = []
    if floor:
        entries = [_floor_entry(floor, name, notes) for name in known]
        share: Spread | None = {"value": real["vessel_share"], "sd": None} if real else None
        rows.append(Row(None, [*entries, _share_entry(share)], "real vs real"))
    for group in results["groups"]:
        mark = marks[group["label"]]
        if mark.is_synthetic:
            entries = [
                replace(
                    _mean_entry(group["metrics"].get(name), name, notes, stacked=True),
                    is_best=(name, mark.name) in best,
                )
                for name in known
            ]
            rows.append(Row(mark, [*entries, _share_entry(group["vessel_share"])]))
    columns = [*(column(name) for name in known), Column("vessels", "% of label")]
    return Table(columns, rows, notes.lines(), "Distances between real and synthetic patches")


def _floor_entry(floor: ReferenceValues, metric: str, notes: Footnotes) -> Entry:
    value, sd, decimals = floor["metrics"].get(metric), floor.get("sd", {}).get(metric), unit_of(metric)[0]
    if value is None:
        return Entry("n/a", "", notes.mark("no value"))
    return spread_entry(value, sd, decimals)


def spread_entry(value: float, sd: float | None, decimals: int) -> Entry:
    """A mean with its SD below it."""
    return Entry(number(value, decimals), "" if sd is None else f"± {deviation(sd, decimals)}", value=value)


def _share_entry(share: Spread | None) -> Entry:
    if share is None:
        return Entry("–")
    sd = share["sd"]
    return spread_entry(100 * share["value"], None if sd is None else 100 * sd, 2)


def distance_warnings(results: Results) -> Sequence[str]:
    """What the metrics warned of, each text once with where it was said."""
    floor = results["floor"]
    places: dict[str, list[str]] = {text: ["real vs real"] for text in (floor.get("warnings", ()) if floor else ())}
    for cell in results["cells"]:
        for text in cell["warnings"]:
            place = places.setdefault(text, [])
            if cell["label"] not in place:
                place.append(cell["label"])
    return [f"{text} ({join(place)})" for text, place in places.items()]
