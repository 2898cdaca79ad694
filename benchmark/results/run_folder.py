"""A run folder: which cells it has, and what their finished stages say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.artifacts.store import Store
from vesselgan.errors import InputError

__all__ = ["Run", "load_run", "run_names"]


class Run:
    """The cells of one run folder with what their finished stages say."""

    def __init__(self, runs: Path, name: str) -> None:
        self.store = Store(runs)
        self.folder = runs / name
        self.name = name
        self.environment: dict[str, Any] = _json(self.folder / "environment.json")
        self.plan: dict[str, Any] = _json(self.folder / "run.json")
        if "cells" not in self.plan:
            raise InputError(f"{self.folder / 'run.json'}: lists no cells; run the protocol again to rebuild it")
        order = {cell_id: index for index, cell_id in enumerate(self.plan["cells"])}
        records = [_json(path) for path in (self.folder / "cells").glob("*.json")]
        self.cells = sorted(records, key=lambda record: order[record["cell"]["id"]])

    def values(self, record: Mapping[str, Any], role: str) -> dict[str, Any] | None:
        """The values of a cell's stage, or None where it is not done."""
        key = record["stages"].get(role)
        result = self.store.result(key) if key else None
        return result["values"] if result else None

    def file(self, record: Mapping[str, Any], role: str, name: str) -> Path | None:
        """A file of a cell's finished stage, or None."""
        key = record["stages"].get(role)
        if key is None or not self.store.done(key):
            return None
        path = self.store.folder(key) / name
        return path if path.is_file() else None

    def seconds(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Wall time of each of the cell's finished stages by role, those shared with other cells included."""
        results = {role: self.store.result(key) for role, key in record["stages"].items()}
        return {role: round(float(result["facts"]["seconds"]), 1) for role, result in results.items() if result}

    def subjects(self) -> Mapping[str, int]:
        """Subjects per split as prepared, or as planned where the data stage has not finished."""
        prepared = (values for record in self.cells if (values := self.values(record, "data")))
        counts: Mapping[str, int] = next(prepared, {}).get("subjects") or self.plan["settings"].get("split", {})
        return counts

    def status(self, record: Mapping[str, Any]) -> str:
        """`done`, `failed` or `unfinished`."""
        keys = record["stages"].values()
        if all(self.store.done(key) for key in keys):
            return "done"
        return "failed" if self.failure(record) else "unfinished"

    def failure(self, record: Mapping[str, Any]) -> str | None:
        """The message of the first stage of the cell that failed."""
        for role, key in record["stages"].items():
            if not self.store.done(key) and (error := self.store.error(key)):
                return f"{role}: {error['message']}"
        return None


def load_run(out: Path, name: str) -> Run:
    """The run folder `runs/NAME`. Raises InputError where there is none."""
    folder = out / "runs" / name
    if not (folder / "run.json").is_file():
        known = run_names(out / "runs") or "none"
        raise InputError(f"{folder}: no run there; runs here: {known} (--out names another folder)")
    return Run(out / "runs", name)


def run_names(runs: Path) -> str:
    """The runs in this folder, with commas between; empty where there is none."""
    return ", ".join(sorted(path.parent.name for path in runs.glob("*/run.json")))


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the protocol again to rebuild it") from None
    return content
