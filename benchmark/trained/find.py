"""Which run, and which trained network of it, a command's arguments mean."""

from pathlib import Path

from benchmark.results.run_folder import CellRecord, Run, run_names
from vesselgan.errors import InputError, did_you_mean

__all__ = ["choose_cell", "find_run", "unknown_source"]


def find_run(source: str, runs: Path, cell: str | None) -> Run | None:
    """The run of this name in `runs`, or in this folder; None where there is none.

    Raises InputError where there is none but a `cell` is asked for.
    """
    path = Path(source)
    folder = path if (path / "run.json").is_file() else runs / source
    if (folder / "run.json").is_file():
        return Run.open(folder.resolve())
    if cell is not None:
        raise InputError(f"--cell {cell}: {source} is no run; leave it out, or name one of {_listed(runs)}")
    return None


def choose_cell(run: Run, role: str, what: str, cell: str | None) -> CellRecord:
    """The record of the cell whose stage of this role is finished; `what` it makes is told in errors.

    Raises InputError: none finished, several and no `cell`, or a `cell` that is unknown or not finished.
    """
    records = {record["cell"]["id"]: record for record in run.cells if role in record["stages"]}
    done = [name for name, record in records.items() if run.store.done(record["stages"][role])]
    if cell is not None and cell not in records:
        raise InputError(f"{run.folder}: --cell {cell}: no such {what}{did_you_mean(cell, list(records))}")
    if not done:
        raise InputError(f"{run.folder}: no finished {what}; run its protocol until one is trained")
    if cell is None and len(done) > 1:
        raise InputError(f"{run.folder}: has {len(done)} {what}s; choose one with --cell: {', '.join(done)}")
    if cell is not None and cell not in done:
        raise InputError(f"{run.folder}: --cell {cell}: its {what} is not finished: run the protocol again")
    return records[cell or done[0]]


def unknown_source(source: str, what: str, files: str, runs: Path) -> InputError:
    """What to tell of a source that is no run and has none of these files."""
    if Path(source).is_dir():
        return InputError(f"{source}: no {what} there ({files}, or a run's run.json); name a run, or another folder")
    return InputError(f"{source}: neither a {what}'s file, a folder, nor a run of {_listed(runs)}")


def _listed(runs: Path) -> str:
    return f"{runs} ({run_names(runs) or 'which has none'}; --runs names another folder)"
