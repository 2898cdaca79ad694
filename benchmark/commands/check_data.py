"""`check-data`: what a dataset holds and what is wrong with it, before anything is run on it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from benchmark.commands.options import Layout, Out, app, complain, console, log_console
from benchmark.datasets.check import DataCheck
from vesselgan.data import LoadedSubject

__all__ = ["check_data"]

BAD_DATA = 2
MOST_NAMED = 10  # files that were passed over


@app.command("check-data")
def check_data(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of labelled TOF-MRA, or 'phantom' for the embedded dataset")
    ],
    layout: Layout = "auto",
    out: Out = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print check.json, and nothing else")] = False,
) -> None:
    """Read a dataset whole: a table, every problem in a line, a contact sheet. Exit status 2 if there are problems."""
    from benchmark.datasets.check import check_folder, check_phantom
    from benchmark.protocol.load import find_protocol, load_protocol
    from benchmark.report.contact_sheet import Tile, draw_tile, write_sheets
    from vesselgan.files import write_text

    with Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress:
        task = progress.add_task("subjects")
        tiles: list[Tile] = []

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        def seen(subject: LoadedSubject) -> None:
            tiles.append(draw_tile(subject))

        if data == Path("phantom") and not data.exists():
            protocol = load_protocol(find_protocol("paper"))
            check = check_phantom(protocol.profiles[protocol.default_profile], report, seen)
        else:
            check = check_folder(data, layout, out / "runs/fingerprints", report, seen)
    folder = out / "reports" / f"check-data-{check.name}"
    text = json.dumps(check.as_json(), indent=1, allow_nan=False)
    write_text(folder / "check.json", text)
    sheets = write_sheets(tiles, folder)
    if as_json:
        print(text)
    else:
        _show(check)
        for sheet in sheets:
            console.print(f"contact sheet: {sheet}", soft_wrap=True, highlight=False)
    complain("\n".join(check.all_problems))
    if check.all_problems:
        raise typer.Exit(BAD_DATA)


def _show(check: DataCheck) -> None:
    table = Table("subject", "split", "shape", "spacing / mm", "vessels", "brain mask", "problems", box=None)
    table.columns[0].overflow = table.columns[-1].overflow = "fold"
    divided = any(each.split not in (None, "train") for each in check.subjects)
    for each in check.subjects:
        person = f" ({escape(each.person)})" if each.person != each.key else ""
        table.add_row(
            escape(each.key) + person,
            (each.split or "") if divided else "",
            " x ".join(map(str, each.shape)) if each.shape else "",
            " x ".join(f"{mm:.3g}" for mm in each.spacing_mm) if each.spacing_mm else "",
            f"{each.vessel_share:.2%}" if each.vessel_share is not None else "",
            "" if each.brain_mask is None else "yes" if each.brain_mask else "no",
            f"[red]{len(each.problems)}[/red]" if each.problems else "none",
        )
    console.print(table)
    people = len({each.person for each in check.subjects})
    scans = f"{len(check.subjects)} scans of {people}" if people != len(check.subjects) else str(people)
    passed = f", {check.unlabelled} images without label passed over" if check.unlabelled else ""
    lines = (
        f"{check.name}: {scans} subjects{passed}; {len(check.all_problems)} problems",
        *_passed_over(check),
        f"layout: {check.layout}; labels cover: {check.coverage}",
        f"licence: {check.licence}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _passed_over(check: DataCheck) -> list[str]:
    if not check.passed_over:
        return []
    names = ", ".join(check.passed_over[:MOST_NAMED])
    more = f" and {len(check.passed_over) - MOST_NAMED} more" if len(check.passed_over) > MOST_NAMED else ""
    return [f"passed over, since the layout names no such files: {names}{more}"]
