"""`evaluate`: somebody's segmentations against the truth, folder against folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from benchmark.commands.options import Name, Out, command, console, log_console, report_folder, tell_results
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.scoring.folder_results import EvaluationResults
    from vesselgan.data.folders import Labels

__all__ = ["EvaluateOptions", "evaluate"]


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` is asked for."""

    truth: Annotated[Path, typer.Option("--truth", help="Folder of true masks: scan files, npy or npz (array label)")]
    prediction: Annotated[Path, typer.Option("--prediction", help="Folder of predicted masks with the same names")]
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Folder of brain masks with the same names, for intracranial values")
    ] = None
    both_empty: Annotated[
        Literal["leave-out", "perfect"],
        typer.Option("--both-empty", help="Where neither mask has a vessel: no value, or that of a perfect one"),
    ] = "leave-out"
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Of label maps, the values that are vessels: 1,2,5-7, or nonzero for all but 0"),
    ] = None
    contours: Annotated[
        int | None,
        typer.Option("--contours", help="Also ASSD, and HD95, of contours by 6 or 26 neighbours (TopCoW: 26)"),
    ] = None
    out: Out = Path()
    name: Name = None
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json, and nothing else")] = False


@command
def evaluate(asked: EvaluateOptions) -> None:
    """Score segmentations: overlap, distances, centrelines and topology, per subject and over subjects."""
    if asked.contours not in (None, 6, 26):
        raise InputError(
            f"--contours {asked.contours}: give 6 or 26, the neighbours of a voxel that decide about a contour"
        )
    from benchmark.scoring.mask_folders import evaluate_folders

    folders = {"truth": asked.truth, "prediction": asked.prediction}
    folder = report_folder(asked.out, "evaluate", folders, asked.name)
    with Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress:
        task = progress.add_task("subjects")
        evaluation = evaluate_folders(
            asked.truth,
            asked.prediction,
            asked.mask,
            lambda done, total: progress.update(task, completed=done, total=total),
            asked.both_empty,
            label_values(asked.labels) if asked.labels else None,
            asked.contours,  # type: ignore[arg-type]  # of which typer knows no kind
        )
    from benchmark.report.folder_pages import write_evaluation

    page = write_evaluation(evaluation, folder)
    tell_results(page, lambda: _show(evaluation.results), as_json=asked.as_json)


def label_values(text: str) -> "Labels":
    """`--labels` as `read_mask` takes it. Raises InputError."""
    if text == "nonzero":
        return "nonzero"
    values: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if ends is None or not range(int(ends[1]), int(ends[2] or ends[1]) + 1) or int(ends[1]) == 0:
            raise InputError(f"--labels {text!r}: give values above 0 such as 1,2,5-7, or nonzero for all but 0")
        values |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return frozenset(values)


def _show(results: "EvaluationResults") -> None:
    from benchmark.report.sections.mask_folders import left_out_lines

    console.print(_table(results))
    for line in left_out_lines(results):
        console.print(line, soft_wrap=True, highlight=False)


def _table(results: "EvaluationResults") -> Table:
    from benchmark.metrics.registry import REGION_NAMES
    from benchmark.report.sections.mask_folders import mean_text, metric_rows
    from benchmark.words import plural

    table = Table("", *REGION_NAMES.values(), box=None, title=plural(results["n"], "subject"), title_justify="left")
    for metric, title, entries in metric_rows(results):
        table.add_row(title, *(mean_text(entry, metric) for entry in entries))
    return table
