"""The result tables: segmentation, distances between distributions, and cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.metrics.registry import REGION_NAMES, every, measurements, names
from benchmark.report.sections.text import LabelMark, deviation, number, spread, unit_of
from benchmark.words import join, plural

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
    """One number as text, a smaller line below it, and the letter of a footnote."""

    text: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A label with its entries; `plain` names a row that is no label of the run."""

    label: LabelMark | None
    entries: Sequence[Entry]
    plain: str = ""


@dataclass(frozen=True)
class Table:
    """Columns, rows and lettered footnotes."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    footnotes: Sequence[tuple[str, str]] = ()

    @property
    def is_wide(self) -> bool:
        """Whether its columns have to stand close to fit on a desk's screen."""
        return len(self.columns) > WIDE


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


def segmentation_table(results: Mapping[str, Any], marks: Mapping[str, LabelMark], distance: str) -> Table | None:
    """Labels x DSC and bAVD (`bavd_voxel` or `bavd_mm`) x all and intracranial, or None without any value."""
    metrics = [f"{name}/{region}" for name in ("dsc", distance) for region in ("all", "intracranial")]
    if not any(metric in group["metrics"] for group in results["groups"] for metric in metrics):
        return None
    notes = Footnotes()
    rows = []
    for group in results["groups"]:
        cells = [cell for cell in results["cells"] if cell["label"] == group["label"]]
        over_subjects = _subject_spread(results, {cell["id"] for cell in cells})
        entries = []
        for metric in metrics:
            entry = group["metrics"].get(metric)
            sd = over_subjects.get(metric)
            detail = f"subjects ± {deviation(sd, unit_of(metric)[0])}" if sd is not None else ""
            extra = _empty_predictions(group["label"], cells, metric)
            entries.append(_mean_entry(entry, metric, notes, detail=detail, note=extra))
        rows.append(Row(marks[group["label"]], [*entries, _seeds_entry(group, cells), _subjects_entry(cells)]))
    columns = [*(column(metric) for metric in metrics), Column("seeds"), Column("test subjects")]
    return Table(columns, rows, notes.lines())


def other_segmentation_table(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Table | None:
    """All metrics of segmentations that `segmentation_table` leaves out, a line each, x labels; None without any."""
    groups = results["groups"]
    known = [
        name
        for name, named in every("subject").items()
        if named.metric.key not in SHOWN_FIRST and any(name in group["metrics"] for group in groups)
    ]
    if not known:
        return None
    notes = Footnotes()
    rows = []
    for name in known:
        heading = column(name)
        title = f"{heading.title} ({heading.detail})" if heading.detail else heading.title
        entries = [_mean_entry(group["metrics"].get(name), name, notes, stacked=True) for group in groups]
        rows.append(Row(None, entries, f"{title} {heading.arrow}".strip()))
    return Table([Column(group["label"]) for group in groups], rows, notes.lines())


def _seeds_entry(group: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Entry:
    if any(cell["untrained"] for cell in cells):
        return Entry("–", "nothing drawn")
    done = sum(cell["status"] == "done" for cell in cells)
    return Entry(str(done), f"of {len(group['seeds'])}" if done < len(group["seeds"]) else "")


def _subjects_entry(cells: Sequence[Mapping[str, Any]]) -> Entry:
    counts = [cell["metrics"]["dsc/all"]["n"] for cell in cells if "dsc/all" in cell["metrics"]]
    return Entry(str(max(counts)) if counts else "–")


def _mean_entry(
    entry: Mapping[str, Any] | None,
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
    plus_minus = f"± {deviation(sd, decimals)}" if sd is not None else ""
    if stacked:
        return Entry(text, plus_minus, notes.mark(note))
    return Entry(f"{text} {plus_minus}".strip(), detail, notes.mark(note))


def _empty_predictions(label: str, cells: Iterable[Mapping[str, Any]], metric: str) -> str | None:
    entries = [cell["metrics"][metric] for cell in cells if metric in cell["metrics"]]
    empty, total = (sum(entry.get(name, 0) for entry in entries) for name in ("empty", "n"))
    if not empty:
        return None
    return (
        f"{label}: in {empty} of {plural(total, 'segmentation')} the prediction (or the truth) was empty; "
        "such a distance counts as the volume's diagonal, bAVD as more, DSC as 0; where both are, they are left out"
    )


def _subject_spread(results: Mapping[str, Any], cells: set[str]) -> dict[str, float | None]:
    """SD over test subjects per metric, of each subject's mean over seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in results["subjects"]:
        if row["cell"] in cells and row["split"] == "test" and row["value"] is not None:
            values.setdefault(row["metric"], {}).setdefault(row["subject"], []).append(row["value"])
    return {metric: spread([sum(v) / len(v) for v in subjects.values()]) for metric, subjects in values.items()}


def distance_names() -> list[str]:
    """Distances between sets of features, and whatever else has one value per trained model and no table of its own."""
    others = [each for each in measurements("labels", "audit") if not each.is_built_in]
    return [*names("set"), *(named.name for each in others for named in each.named)]


def distance_table(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Table | None:
    """The floor (real against real) and each generative label x every distance, with the labels' vessel share."""
    floor = results.get("floor") or {}
    known = [name for name in distance_names() if any(name in group["metrics"] for group in results["groups"])]
    known = known or [name for name in distance_names() if name in floor.get("metrics", {})]
    if not known:
        return None
    notes = Footnotes()
    shares = _vessel_shares(results, "vessel_share_synthetic")
    real_shares = [share for column in _vessel_shares(results, "vessel_share_real").values() for share in column]
    rows = []
    if floor:
        sd = floor.get("sd", {})
        entries = [
            _mean_entry({"value": floor["metrics"].get(name), "sd": sd.get(name)}, name, notes, stacked=True)
            for name in known
        ]
        rows.append(Row(None, [*entries, _share_entry(real_shares[:1])], "real vs real"))
    for group in results["groups"]:
        mark = marks[group["label"]]
        if mark.is_synthetic:
            entries = [_mean_entry(group["metrics"].get(name), name, notes, stacked=True) for name in known]
            rows.append(Row(mark, [*entries, _share_entry(shares.get(mark.name, []))]))
    columns = [*(column(name) for name in known), Column("vessels", "% of label")]
    return Table(columns, rows, notes.lines())


def _vessel_shares(results: Mapping[str, Any], name: str) -> dict[str, list[float]]:
    shares: dict[str, list[float]] = {}
    for cell in results["cells"]:
        if cell["labels"]:
            shares.setdefault(cell["label"], []).append(cell["labels"][name])
    return shares


def _share_entry(shares: Sequence[float]) -> Entry:
    if not shares:
        return Entry("–")
    sd = spread(shares)
    return Entry(f"{100 * sum(shares) / len(shares):.2f}", "" if sd is None else f"± {deviation(100 * sd, 2)}")


def distance_warnings(results: Mapping[str, Any]) -> Sequence[str]:
    """What the metrics warned of, each text once with where it was said."""
    places: dict[str, list[str]] = {text: ["real vs real"] for text in (results.get("floor") or {}).get("warnings", ())}
    for cell in results["cells"]:
        for text in cell["warnings"]:
            place = places.setdefault(text, [])
            if cell["label"] not in place:
                place.append(cell["label"])
    return [f"{text} ({join(place)})" for text, place in places.items()]
