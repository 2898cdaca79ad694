"""`score`: somebody's generated patches against real ones, folder against folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from benchmark.commands.options import (
    Device,
    Name,
    Nan,
    Out,
    Weights,
    command,
    console,
    log_console,
    report_folder,
    spacing_of,
    tell_results,
)
from benchmark.environment import choose_device
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.scoring.folder_results import ScoreResults

__all__ = ["ScoreOptions", "score"]


@dataclass(frozen=True)
class ScoreOptions:
    """What `score` is asked for."""

    real: Annotated[Path, typer.Option("--real", help="Folder of real patches: scans, npy or npz (image and label)")]
    generated: Annotated[Path, typer.Option("--generated", help="Folder of generated patches of the same size")]
    training: Annotated[
        Path | None,
        typer.Option(
            "--training",
            help="Folder of the patches that the generator learned from (of other subjects than --real): audits "
            "memorisation",
        ),
    ] = None
    weights: Weights = None
    frd: Annotated[
        bool,
        typer.Option(
            "--frd",
            help="Also the Fréchet Radiomics Distance, of 200 patches of each; needs pip install "
            "'vesselgan-benchmark\\[frd]'",
        ),
    ] = False
    spacing: Annotated[
        str | None,
        typer.Option("--spacing", metavar="X,Y,Z", help="For --frd: the size of a voxel in mm, if the files lack it"),
    ] = None
    nan: Nan = None
    out: Out = Path()
    name: Name = None
    device: Device = "auto"
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json, and nothing else")] = False


@command
def score(asked: ScoreOptions) -> None:
    """Score generated patches: every distance to real ones, their labels, memorisation. Each array is one patch."""
    from benchmark.scoring.patch_folders import Also, compare_folders
    from vesselgan.features import medicalnet, random_resnet10
    from vesselgan.hub import local_weights

    if asked.spacing and not asked.frd:
        raise InputError("--spacing: only --frd needs the size of a voxel; leave it out, or add --frd")
    also = Also(("frd",), spacing_of(asked.spacing)) if asked.frd else None
    folder = report_folder(asked.out, "score", {"real": asked.real, "generated": asked.generated}, asked.name)
    where = choose_device(asked.device)
    weights = asked.weights
    extractor = medicalnet(local_weights(str(weights)), device=where) if weights else random_resnet10(device=where)
    with Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress:
        task = progress.add_task("")

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=escape(what), completed=done, total=total)

        comparison = compare_folders(
            asked.real, asked.generated, asked.training, extractor, report, also=also, nan=asked.nan
        )
    from benchmark.report.folder_pages import write_comparison

    page = write_comparison(comparison, folder)
    tell_results(page, lambda: _show(comparison.results), as_json=asked.as_json)


def _show(results: "ScoreResults") -> None:
    from benchmark.report.sections.patch_folders import metric_lines

    title = f"{results['n']} patches of each"
    table = Table("", "generated", "95 % interval", "real vs real", box=None, title=title, title_justify="left")
    for line in metric_lines(results):
        table.add_row(line.title, line.value, line.interval, line.floor)
    console.print(table)
    for warning in results["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False)
