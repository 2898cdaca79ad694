"""`score`: somebody's generated patches against real ones, folder against folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from benchmark.commands.options import (
    Device,
    Name,
    Out,
    Weights,
    app,
    console,
    log_console,
    report_folder,
    tell_results,
)
from benchmark.environment import choose_device

__all__ = ["score"]


@app.command()
def score(
    real: Annotated[Path, typer.Option("--real", help="Folder of real patches: scans, npy or npz (image and label)")],
    generated: Annotated[Path, typer.Option("--generated", help="Folder of generated patches of the same size")],
    training: Annotated[
        Path | None,
        typer.Option(
            "--training",
            help="Folder of the patches that the generator learned from (of other subjects than --real): audits "
            "memorisation",
        ),
    ] = None,
    weights: Weights = None,
    out: Out = Path(),
    name: Name = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json, and nothing else")] = False,
) -> None:
    """Score generated patches: every distance to real ones, their labels, memorisation. Each array is one patch."""
    from benchmark.scoring.patch_folders import compare_folders
    from vesselgan.features import medicalnet, random_resnet10
    from vesselgan.hub import local_weights

    folder = report_folder(out, "score", {"real": real, "generated": generated}, name)
    where = choose_device(device)
    extractor = medicalnet(local_weights(str(weights)), device=where) if weights else random_resnet10(device=where)
    with Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress:
        task = progress.add_task("")

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=escape(what), completed=done, total=total)

        comparison = compare_folders(real, generated, training, extractor, report)
    from benchmark.report.folder_pages import write_comparison

    page = write_comparison(comparison, folder)
    tell_results(page, lambda: _show(comparison.results), as_json=as_json)


def _show(results: Mapping[str, Any]) -> None:
    from benchmark.report.sections.patch_folders import metric_lines

    title = f"{results['n']} patches of each"
    table = Table("", "generated", "95 % interval", "real vs real", box=None, title=title, title_justify="left")
    for line in metric_lines(results):
        table.add_row(line.title, line.value, line.interval, line.floor)
    console.print(table)
    for warning in results["warnings"]:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False)
