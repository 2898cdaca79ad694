"""The page of `score`: two folders of patches compared, without a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from benchmark.metrics.labels import STATISTICS
from benchmark.metrics.registry import names
from benchmark.report.charts import REAL_COLOUR, Curve, prd_chart
from benchmark.report.pictures import Picture, grey_picture, mask_picture
from benchmark.report.sections.conventions import convention_facts
from benchmark.report.sections.labels_and_audit import ClosestPair, closeness
from benchmark.report.sections.mask_folders import environment_facts
from benchmark.report.sections.tables import Column, Entry, Row, Table, column, distance_names
from benchmark.report.sections.text import deviation, interval, number, unit_of
from benchmark.scoring.audits import audit_sentence
from benchmark.scoring.folder_results import FolderExtractor, FolderLabels, FolderMetric, ScoreResults
from benchmark.scoring.patch_folders import Comparison, ShownPair

__all__ = ["ComparisonView", "MetricLine", "comparison_view", "metric_lines"]

COLOUR = "#0173b2"
SQUARE = (1.0, 1.0)  # a patch has no header that says how large a voxel is


@dataclass(frozen=True)
class MetricLine:
    """One metric as text."""

    metric: str
    title: str
    arrow: str
    better: str
    value: str
    interval: str
    floor: str
    reason: str


@dataclass(frozen=True)
class ComparisonView:
    """Everything that the page of `score` shows."""

    lead: str
    caveat: str
    distances: Table
    floor_meaning: str
    warnings: Sequence[str]
    prd: Markup
    labels: Table | None
    labels_missing: str
    memorisation: Sequence[str]
    closest: Sequence[ClosestPair]
    samples: Sequence[tuple[str, Sequence[Sequence[Picture]]]]
    facts: Sequence[tuple[str, str]]


def metric_lines(results: ScoreResults) -> list[MetricLine]:
    """Every metric, in the order in which they are shown."""
    return list(_lines(results, names("set", "labels", "audit")))


def _lines(results: ScoreResults, wanted: Iterable[str]) -> Iterator[MetricLine]:
    floor = results["floor"]
    for name in (name for name in wanted if name in results["metrics"]):
        entry, heading = results["metrics"][name], column(name)
        decimals, _ = unit_of(name)
        value = "n/a" if entry["value"] is None else number(entry["value"], decimals)
        real = (floor["metrics"] or {}).get(name)
        spread = f" ± {deviation(floor['sd'][name], decimals)}" if real is not None else ""
        yield MetricLine(
            name,
            heading.title + (f" ({heading.detail})" if heading.detail else ""),
            heading.arrow,
            heading.better,
            value,
            interval(entry["ci_low"], entry["ci_high"], decimals) or "–",
            "–" if real is None else number(real, decimals) + spread,
            entry.get("reason", "") if entry["value"] is None else "",
        )


def comparison_view(comparison: Comparison) -> ComparisonView:
    """Tables, the PRD chart and pictures of two folders."""
    results = comparison.results
    extractor = results["extractor"]
    folders = {"real": results["real"], "generated": results["generated"], "training": results["training"]}
    curves = comparison.distances.curves
    curve = Curve(COLOUR, [curves["precision"]], [curves["recall"]])
    return ComparisonView(
        lead=f"{results['n']} patches of {' × '.join(map(str, results['patch_size']))} voxels from "
        f"{results['generated']}, compared with as many from {results['real']}.",
        caveat=_caveat(extractor),
        distances=_distance_table(results),
        floor_meaning=f"Here it is {results['floor']['meaning']}."
        if results["floor"]["metrics"]
        else f"There is none here: {results['floor']['reason']}.",
        warnings=results["warnings"],
        prd=Markup(prd_chart({"generated": curve}, None, "Precision and recall of distributions")),
        labels=_label_table(results),
        labels_missing=results["labels"].get("reason", ""),
        memorisation=list(_memorisation(results)),
        closest=[_closest(*pair, results) for pair in comparison.closest],
        samples=[
            ("real", _pictures(comparison.real, REAL_COLOUR, "real")),
            ("generated", _pictures(comparison.generated, COLOUR, "generated")),
        ],
        facts=[
            ("features", f"{extractor['name']}, version {extractor['version']}"),
            ("SHA-256 of its weights", extractor["weights_sha256"]),
            *((f"{name} patches", f"{count} in {folders[name]}") for name, count in results["patches"].items()),
            *(
                (f"{name} intensities", f"{low:.6g} is black and {high:.6g} white")
                for name, (low, high) in results["intensity_ranges"].items()
            ),
            *convention_facts(results["conventions"]),
            *environment_facts(results),
        ],
    )


def _caveat(extractor: FolderExtractor) -> str:
    if extractor["same_network_as_paper"]:
        return (
            "The features come from MedicalNet, the paper's network. Noise, reference and scaling of intensities are "
            "not the paper's, so the numbers do not compare with its."
        )
    return (
        f"The features come from a ResNet-10 with random weights ({extractor['name']}). Numbers on them compare "
        "with each other, not with the paper's MedicalNet numbers."
    )


def _distance_table(results: ScoreResults) -> Table:
    rows = [
        Row(None, [Entry(line.value), Entry(line.interval), Entry(line.floor)], f"{line.title} {line.arrow}")
        for line in _lines(results, distance_names())
    ]
    columns = [
        Column("generated vs real"),
        Column("95 % interval", "other subjects and samples"),
        Column("real vs real", "mean ± SD"),
    ]
    return Table(columns, rows)


def _label_rows(labels: FolderLabels, metrics: Mapping[str, FolderMetric]) -> list[tuple[str, list[Entry]]]:
    """Statistic, its means in real and in generated labels, and their Wasserstein-1 distance."""
    rows = []
    for name, statistic in STATISTICS.items():
        means = (labels["means"][name]["real"], labels["means"][name]["generated"])
        entry = metrics.get(f"label_{name}")
        distance = None if entry is None else entry["value"]
        texts = ["n/a" if value is None else number(value, statistic.decimals) for value in (*means, distance)]
        rows.append((f"{statistic.title}, {statistic.about}", [Entry(text) for text in texts]))
    return rows


def _label_table(results: ScoreResults) -> Table | None:
    if "means" not in results["labels"]:
        return None
    rows = [Row(None, entries, title) for title, entries in _label_rows(results["labels"], results["metrics"])]
    return Table([Column("real", "mean"), Column("generated", "mean"), Column("Wasserstein-1", "distance", "↓")], rows)


def _memorisation(results: ScoreResults) -> Iterator[str]:
    audits = results["memorisation"]
    if "reason" in audits:
        yield f"Not audited: {audits['reason']}."
        return
    yield audit_sentence("features", audits["features"])
    yield audit_sentence("images", audits["images"])


def _closest(generated: ShownPair, training: ShownPair, distance: float, results: ScoreResults) -> ClosestPair:
    threshold = results["memorisation"]["images"]["threshold"]
    return ClosestPair(
        grey_picture(generated.image, SQUARE, "generated", unit=True),
        grey_picture(training.image, SQUARE, "nearest training patch", unit=True),
        closeness(distance, distance / threshold if threshold else None),
    )


def _pictures(pairs: Iterable[ShownPair], colour: str, name: str) -> list[list[Picture]]:
    return [
        [grey_picture(pair.image, SQUARE, f"{name}: image", unit=True)]
        + ([] if pair.label is None else [mask_picture(pair.label, SQUARE, colour, f"{name}: label")])
        for pair in pairs
    ]
