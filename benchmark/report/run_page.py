"""A run and its results -> one HTML page that needs nothing else: no network, no script, no other file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark.report.charts import REAL_COLOUR
from benchmark.report.pictures import FOUND, INVENTED, MISSED
from benchmark.report.sections.budget import budget_view
from benchmark.report.sections.claims import claim_views
from benchmark.report.sections.costs import cost_view
from benchmark.report.sections.departures import departures_note
from benchmark.report.sections.figures import (
    course_rows,
    prd_figure,
    sample_rows,
    subject_figures,
    training_figures,
)
from benchmark.report.sections.gain import gain_table
from benchmark.report.sections.glossary import glossary
from benchmark.report.sections.headline import headline, page_header, published_rows
from benchmark.report.sections.labels_and_audit import audit_views, label_table
from benchmark.report.sections.median_patches import median_patches
from benchmark.report.sections.methods import methods_view
from benchmark.report.sections.reproduce import reproduce_view
from benchmark.report.sections.segmentations import segmented_subjects
from benchmark.report.sections.tables import (
    Table,
    distance_table,
    distance_warnings,
    other_segmentation_table,
    segmentation_table,
)
from benchmark.report.sections.text import arm_marks
from benchmark.report.sections.training import rejected_steps
from benchmark.report.sections.utility import utility_view
from benchmark.report.sections.viewer import viewer
from benchmark.report.table_formats import FORMATS
from benchmark.results.format import Results
from benchmark.results.run_folder import Run
from benchmark.words import join
from vesselgan.files import write_text

__all__ = ["render_report", "tables_of", "templates"]


def render_report(run: Run, results: Results, folder: Path) -> None:
    """Write `folder/index.html`. `results` is the content of results.json; equal input gives equal bytes.

    Whatever the run lacks (failed cells, metrics, a brain mask, claims) is said on the page or left out.
    """
    write_text(folder / "index.html", templates().get_template("report.html.j2").render(_page(run, results)))


def tables_of(results: Results) -> list[Table]:
    """The tables of results on the page, in its order, each with its caption."""
    marks = arm_marks(results["cells"])
    answer, utility, costs = headline(results, marks), utility_view(results, marks), cost_view(results, marks)
    budget = budget_view(results, marks)
    tables = (
        answer.table if answer else None,
        segmentation_table(results, marks, "bavd_voxel"),
        segmentation_table(results, marks, "bavd_mm"),
        other_segmentation_table(results),
        gain_table(results, marks),
        utility.table if utility else None,
        distance_table(results, marks),
        label_table(results, marks),
        budget.table if budget else None,
        costs.table if costs else None,
        costs.ratios if costs else None,
    )
    return [table for table in tables if table]


def templates() -> Environment:
    """The page templates: whatever comes from data is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("benchmark.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["exports"] = lambda table, caption: {
        name: form(table, caption) for name, form in FORMATS.items()
    }
    return environment


def _page(run: Run, results: Results) -> Mapping[str, object]:
    """Everything that the templates name."""
    marks = arm_marks(results["cells"])
    claims, tally = claim_views(results)
    extractors = {
        entry["extractor"] for cell in results["cells"] for entry in cell["metrics"].values() if "extractor" in entry
    }
    header, note = page_header(results, marks), departures_note(results)
    header = replace(header, notes=[*header.notes, *([note] if note else [])])
    segmented = segmented_subjects(run, results, marks)
    return {
        "is_running": results["is_running"],
        "title": f"{header.title} · {header.run_name}",
        "header": header,
        "headline": headline(results, marks),
        "median_patches": median_patches(run, results, marks),
        "marks": list(marks.values()),
        "real_colour": REAL_COLOUR,
        "claims": claims,
        "tally": tally,
        "phantom": bool(results["data"].get("phantom")),
        "published": published_rows(results, marks),
        "untrained": join(mark.name for mark in marks.values() if mark.kind == "untrained"),
        "segmentation": segmentation_table(results, marks, "bavd_voxel"),
        "segmentation_mm": segmentation_table(results, marks, "bavd_mm"),
        "segmentation_others": other_segmentation_table(results),
        "gains": gain_table(results, marks),
        "subject_charts": subject_figures(results, marks),
        "utility": utility_view(results, marks),
        "distances": distance_table(results, marks),
        "warnings": distance_warnings(results),
        "floor_meaning": results["floor"].get("meaning") if results["floor"] else None,
        "own_features": "random_resnet10" in extractors,
        "budget": budget_view(results, marks),
        "prd": prd_figure(run, marks),
        "label_statistics": label_table(results, marks),
        "audits": audit_views(run, results, marks),
        "samples": sample_rows(run, marks),
        "segmented": segmented,
        "viewer": viewer(run, results, marks, segmented),
        "overlay": {"found": FOUND, "missed": MISSED, "invented": INVENTED},
        "costs": cost_view(results, marks),
        "training_charts": training_figures(run, marks),
        "rejected_steps": rejected_steps(results["cells"]),
        "course": course_rows(run, marks),
        "only_costs": results["only"] == "costs",
        "reproduce": reproduce_view(results),
        "methods": methods_view(run.name, results),
        "glossary": glossary(results),
    }
