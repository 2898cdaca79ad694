"""`patches`: the real patches of a run's subjects, as `score` reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.commands.options import Cell, Runs, app, console
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.results.run_folder import CellRecord

__all__ = ["patches"]


@app.command()
def patches(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run (paper-laptop), or its folder")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the patches: new or empty", file_okay=False)],
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option("--split", help="Whose: of which subjects")
    ] = "test",
    cell: Cell = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write a run's real patches and labels for `score`: a folder for each person, one scale for each volume."""
    import numpy as np

    from benchmark.trained.find import choose_cell, find_run, unknown_source
    from vesselgan.data import open_store
    from vesselgan.files import atomic_path

    run = find_run(source, runs, cell)
    if run is None:
        raise unknown_source(source, "run", "run.json", runs)
    # Cells share their data, unless one pairs them in another way (D6).
    keys = {record["stages"]["data"] for record in run.cells if "data" in record["stages"]}
    record = choose_cell(run, "data", "data stage", cell if cell or len(keys) != 1 else _first_with_data(run.cells))
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: holds files already; choose an empty or new folder")
    store = open_store(run.store.folder(record["stages"]["data"]) / "store")
    rows, count, owners = store.patches(split), 0, set()
    for subject in store.keys(split):
        chosen = [row for row in rows if store.subjects[store.patch_table[row, 0]].key == subject]
        images, labels = store.cut_pairs(chosen, "volume")
        stored = store.subject(subject)
        owners.add(stored.owner)
        with atomic_path(out / stored.owner / f"{subject if stored.person else 'patches'}.npz") as temporary:
            np.savez(temporary, allow_pickle=False, images=images, labels=labels)
        count += len(chosen)
    console.print(f"{count} patches of {len(owners)} {split} subjects in {out}", soft_wrap=True, highlight=False)


def _first_with_data(records: "Sequence[CellRecord]") -> str:
    return next(record["cell"]["id"] for record in records if "data" in record["stages"])
