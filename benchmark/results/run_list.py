"""What lies in a `runs/` folder: which runs, what each takes of the disk, and which stages no run needs."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.artifacts.store import StageLockedError, Store
from benchmark.results.run_folder import CellRecord, Run, load_run
from vesselgan.errors import InputError

__all__ = ["RunSummary", "UnneededStage", "list_runs", "remove_stage", "unneeded_stages"]


@dataclass(frozen=True)
class RunSummary:
    """A run of the list. `bytes_alone` is what no other run needs, `date` when something of it was last made."""

    name: str
    protocol: str
    profile: str
    status: str
    cells: int
    done: int
    failed: int
    bytes_used: int
    bytes_alone: int
    date: float  # seconds since 1970
    commit: str | None
    dirty: bool | None
    error: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class UnneededStage:
    """A stage that no run needs; `hours` since anything in it was written."""

    key: str
    bytes_used: int
    hours: float


def list_runs(out: Path) -> list[RunSummary]:
    """All runs under `out`, by name. One that is damaged is listed with the reason."""
    names = sorted(path.parent.name for path in (out / "runs").glob("*/run.json"))
    runs: dict[str, Run | InputError] = {}
    for name in names:
        try:
            runs[name] = load_run(out, name, is_running=True)
        except InputError as error:
            runs[name] = error
    needed = {name: _needed(run) for name, run in runs.items() if isinstance(run, Run)}
    sizes = {key: _size(out / "runs/stages" / key) for keys in needed.values() for key in keys}
    return [_summary(out, name, run, needed, sizes) for name, run in runs.items()]


def _summary(
    out: Path, name: str, run: Run | InputError, needed: dict[str, set[str]], sizes: dict[str, int]
) -> RunSummary:
    folder = out / "runs" / name
    if isinstance(run, InputError):
        written = (folder / "run.json").stat().st_mtime
        return RunSummary(name, "?", "?", "damaged", 0, 0, 0, 0, 0, written, None, None, str(run))
    others = {key for other, keys in needed.items() if other != name for key in keys}
    of_run = _size(folder) + _size(out / "reports" / name)
    statuses = [run.status(record) for record in run.cells]
    done, failed = statuses.count("done"), statuses.count("failed")
    status = "done" if done == len(statuses) else "failed" if failed else "unfinished"
    results = [out / "runs/stages" / key / "result.json" for key in needed[name]]
    times = [path.stat().st_mtime for path in [folder / "run.json", *results] if path.is_file()]
    environment = run.environment
    return RunSummary(
        name,
        run.plan["protocol"],
        run.plan["profile"],
        status,
        len(statuses),
        done,
        failed,
        of_run + sum(sizes[key] for key in needed[name]),
        of_run + sum(sizes[key] for key in needed[name] - others),
        max(times),
        environment["commit"],
        environment["dirty"],
    )


def unneeded_stages(out: Path) -> list[UnneededStage]:
    """Stages that neither a run's cells nor what those rest on need, the largest first.

    Raises InputError for a damaged run: what it needs is not known.
    """
    names = [path.parent.name for path in (out / "runs").glob("*/run.json")]
    needed = {key for name in names for key in _needed(load_run(out, name))}
    now = time.time()
    found = [
        UnneededStage(folder.name, _size(folder), (now - _newest(folder)) / 3600)
        for folder in (out / "runs/stages").glob("*-*")
        if folder.is_dir() and folder.name not in needed
    ]
    return sorted(found, key=lambda stage: (-stage.bytes_used, stage.key))


def remove_stage(store: Store, key: str) -> bool:
    """Remove a stage's folder, unless somebody works on it. One that is cut short counts as not done."""
    try:
        with store.lock(key):
            store.undo(key)
            shutil.rmtree(store.folder(key))
    except StageLockedError:
        return False
    return True


def _needed(run: Run) -> set[str]:
    """Keys of the stages of a run's cells and, by their specs, of all that those need."""
    needed: set[str] = set()
    left = {key for record in run.cells for key in _keys(record)}
    while left:
        needed |= left
        left = {need for key in left for need in _needs(run.store.folder(key))} - needed
    return needed


def _keys(record: CellRecord) -> Sequence[str]:
    return list(record["stages"].values())


def _needs(folder: Path) -> Iterator[str]:
    """As its spec tells; a stage that was never planned in full needs nothing."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        yield from spec.get("inputs", {}).values()
        yield from spec.get("checks", [])


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; a link counts as nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def _newest(folder: Path) -> float:
    return max((path.stat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
