"""The page of `evaluate`: masks against masks, without a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from benchmark.metrics.registry import REGION_NAMES, REGIONS, Metric, every, measurements
from benchmark.report.charts import subject_chart
from benchmark.report.pictures import Picture, overlay_picture
from benchmark.report.sections.conventions import convention_facts
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table, column
from benchmark.report.sections.text import deviation, interval, number
from benchmark.scoring.folder_results import Aggregate, EvaluationResults, ScoreResults, SubjectValue
from benchmark.scoring.mask_folders import Case
from benchmark.words import plural

__all__ = [
    "CasePicture",
    "EvaluationView",
    "environment_facts",
    "evaluation_view",
    "left_out_lines",
    "mean_text",
    "metric_rows",
]

BY_SUBJECT = (
    "dsc/all",
    "cldice/all",
    "bavd_voxel/all",
    "hd95_voxel/all",
    "dsc/intracranial",
    "bavd_voxel/intracranial",
)
REGION_COLOURS = {"all vessels": "#0173b2", "intracranial": "#de8f05"}


@dataclass(frozen=True)
class CasePicture:
    """One subject's masks over each other."""

    picture: Picture
    caption: str


@dataclass(frozen=True)
class EvaluationView:
    """Everything that the page of `evaluate` shows."""

    lead: str
    notes: Sequence[str]
    summary: Table
    subjects: Table
    charts: Sequence[Markup]
    cases: Sequence[CasePicture]
    facts: Sequence[tuple[str, str]]


def metric_rows(results: EvaluationResults) -> list[tuple[str, str, list[Aggregate]]]:
    """Metric, its name with unit, and its aggregate in each region."""
    return [
        (row.key, row.title_with_unit, [results["metrics"][f"{row.key}/{region}"] for region in REGIONS])
        for each in measurements("subject")
        for row in each.metrics
        if f"{row.key}/{REGIONS[0]}" in results["metrics"]
    ]


def _metric(key: str) -> Metric:
    return every("subject")[f"{key}/all"].metric


def evaluation_view(results: EvaluationResults, shown: Sequence[Case]) -> EvaluationView:
    """Tables, charts and pictures of the content of results.json."""
    return EvaluationView(
        lead=f"{plural(results['n'], 'prediction')} in {results['prediction']}, each compared with the mask of that "
        f"name in {results['truth']}.",
        notes=list(_notes(results)),
        summary=_summary(results),
        subjects=_subject_table(results),
        charts=list(_charts(results)),
        cases=[_case_picture(case, index, len(shown)) for index, case in enumerate(shown)],
        facts=[*convention_facts(results["conventions"]), *environment_facts(results)],
    )


def _notes(results: EvaluationResults) -> Iterable[str]:
    for region in REGIONS:
        entry = results["metrics"][f"dsc/{region}"]
        if entry.get("empty"):
            within = "" if region == "all" else f" ({REGION_NAMES[region]} vessels)"
            yield (
                f"In {entry['empty']} of {plural(results['n'], 'subject')} the prediction or the truth is empty{within}"
                ": such a distance counts as the volume's diagonal, bAVD as more than any other prediction can have."
            )
    yield from left_out_lines(results)
    if results.get("contours"):
        yield (
            f"A contour (ASSD, HD95 of contours) is made of the voxels with one of {results['contours']} neighbours "
            "outside; HD95 has 6."
        )
    missing = dict.fromkeys(entry["reason"] for entry in results["metrics"].values() if entry["value"] is None)
    yield from (f"{reason[:1].upper()}{reason[1:]}." for reason in missing)
    if results["n"] == 1:
        yield "One subject only: there is no spread and no interval."


def left_out_lines(results: EvaluationResults) -> Iterable[str]:
    """A sentence for each region with subjects of which there is nothing to compare."""
    for region in REGIONS:
        left_out, counted = results["metrics"][f"dsc/{region}"].get("left_out", 0), results["n"]
        if left_out:
            within = "" if region == "all" else " inside the brain mask"
            yield (
                f"{plural(left_out, 'subject')} of {counted} have no vessel{within} in truth or prediction: there is "
                "nothing to compare but Betti numbers, so every other metric leaves them out."
            )


def _summary(results: EvaluationResults) -> Table:
    notes = Footnotes()
    rows = [
        Row(None, [cell for entry in entries for cell in _mean_and_interval(entry, metric, notes)], title)
        for metric, title, entries in metric_rows(results)
    ]
    columns = [
        heading
        for region in REGIONS
        for heading in (Column(REGION_NAMES[region], "mean ± SD"), Column("95 % interval", "of the mean"))
    ]
    return Table(columns, rows, notes.lines())


def mean_text(entry: Aggregate, metric: str) -> str:
    """Mean ± SD over subjects."""
    if entry["value"] is None:
        return "n/a"
    decimals = _metric(metric).decimals
    spread = f" ± {deviation(entry['sd'], decimals)}" if entry["sd"] is not None else ""
    return number(entry["value"], decimals) + spread


def _mean_and_interval(entry: Aggregate, metric: str, notes: Footnotes) -> tuple[Entry, Entry]:
    mark = notes.mark(entry["reason"]) if entry["value"] is None else ""
    bounds = interval(entry["ci_low"], entry["ci_high"], _metric(metric).decimals)
    return Entry(mean_text(entry, metric), "", mark), Entry(bounds or "–")


def _by_subject(results: EvaluationResults) -> dict[str, dict[str, SubjectValue]]:
    table: dict[str, dict[str, SubjectValue]] = {}
    for row in results["subjects"]:
        table.setdefault(row["subject"], {})[row["metric"]] = row
    return table


def _subject_table(results: EvaluationResults) -> Table:
    known = [name for name in BY_SUBJECT if results["metrics"][name]["value"] is not None]
    named = every("subject")
    rows = []
    for subject, values in _by_subject(results).items():
        entries = [
            Entry(
                "n/a" if (value := values[name]["value"]) is None else number(value, named[name].metric.decimals),
                "empty" if values[name]["empty"] else "",
            )
            for name in known
        ]
        rows.append(Row(None, entries, subject))
    return Table([column(name) for name in known], rows)


def _charts(results: EvaluationResults) -> Iterable[Markup]:
    for metric in ("dsc", "bavd_voxel", "cldice"):
        values = {
            REGION_NAMES[region]: {
                row["subject"]: row["value"]
                for row in results["subjects"]
                if row["metric"] == f"{metric}/{region}" and row["value"] is not None
            }
            for region in REGIONS
        }
        known = {name: of_region for name, of_region in values.items() if of_region}
        if not known:
            continue
        yield Markup(subject_chart(known, REGION_COLOURS, _metric(metric).title, _metric(metric).title_with_unit))


def _case_picture(case: Case, index: int, count: int) -> CasePicture:
    rank = "the only subject" if count == 1 else ("lowest DSC", "highest DSC")[index]
    nothing = case.truth.astype("float32") * 0
    picture = overlay_picture(nothing, case.truth, case.prediction, case.spacing_mm, f"{case.subject}: prediction")
    return CasePicture(picture, f"{case.subject}: {rank}, {number(case.dsc, 3)}")


def environment_facts(results: EvaluationResults | ScoreResults) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    environment = results["environment"]
    commit = environment.get("commit")
    return [
        ("program", f"vesselgan-benchmark {results['version']}" + (f", commit {commit}" if commit else "")),
        ("python", environment["python"]),
        ("libraries", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())),
    ]
