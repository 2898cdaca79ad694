"""An engine is one file: one that is written here runs a whole protocol, and leaves what the local engine leaves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.plan import Resources
from benchmark.run.engine import ENGINES, Engine, Event, register
from benchmark.run.worker import outcome_of

PROTOCOL = """
protocol: small
title: One generator
default_profile: tiny
profiles:
  tiny:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 4, validation: 2, test: 2}
    patch: [32, 32, 16]
    patches: {grid: [1, 1, 1], vessel: 7}
    filters: 16
    batch: 4
    steps: 4
    precision: {full: fp32, mixed: bf16}
    pairs: 16
    score: {extractor: random_resnet10, samples: 16}
    unet: {filters: [4, 8], batch: 8, steps: 4, validate_every: 4, learning_rate: 1.0e-2}
    measure: {rounds: 3, steps: 1, warmup: 1, threads: 1}
matrix: {variant: [SN], seed: [0]}
metrics: {fid: {}, prd: {clusters: 4, runs: 2}}
"""
TIMED = {"step_time_ms", "patches_per_s"}


class Queue(Engine):
    """Like a cluster's: it takes whatever comes, and runs it in this process when it pleases, the last first."""

    def __init__(self, store: Store, workers: int) -> None:
        self.store = store
        self.queue: list[str] = []
        self.most = 0
        self.exclusive: list[str] = []
        opened.append(self)

    def free(self, resources: Resources) -> bool:
        return not resources.exclusive or not self.queue

    def submit(self, key: str, resources: Resources) -> None:
        self.queue.append(key)
        self.most = max(self.most, len(self.queue))
        if resources.exclusive:
            self.exclusive.append(key)
            assert self.queue == [key]

    def next_event(self) -> Event:
        return outcome_of(self.store, self.queue.pop())

    def close(self) -> None:
        opened.remove(self)
        closed.append(self)


opened: list[Queue] = []
closed: list[Queue] = []


@pytest.fixture(autouse=True)
def queue_engine() -> Iterator[None]:
    register("queue")(Queue)
    yield
    del ENGINES["queue"]
    opened.clear()
    closed.clear()


def run(folder: Path, engine: str) -> None:
    folder.mkdir()
    (folder / "small.yaml").write_text(PROTOCOL)
    command = ["run", str(folder / "small.yaml"), "--out", str(folder), "--engine", engine, "--device", "cpu"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def made(folder: Path) -> dict[str, Any]:
    """By key what each stage left, with the hashes of its files; of what is timed that it is there."""
    results = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/stages/*/result.json")}
    return {
        key: None if key.startswith(("measure-", "verify-")) else {"values": result["values"], "files": result["files"]}
        for key, result in results.items()
    }


def metrics(folder: Path) -> dict[str, Any]:
    cells = json.loads((folder / "reports/small-tiny/results.json").read_text())["cells"]
    return {cell["id"]: {name: entry for name, entry in cell["metrics"].items() if name not in TIMED} for cell in cells}


def test_another_engine_gives_the_same_bytes_and_the_same_results(tmp_path: Path) -> None:
    run(tmp_path / "local", "local")
    run(tmp_path / "queue", "queue")
    assert made(tmp_path / "queue") == made(tmp_path / "local")
    kinds = {key.rpartition("-")[0] for key in made(tmp_path / "queue")}
    assert {"prepare", "train_gan", "synthesise", "score", "train_unet", "evaluate", "measure"} <= kinds
    assert metrics(tmp_path / "queue") == metrics(tmp_path / "local")
    assert {"fid", "dsc/all", "peak_memory_mib"} <= metrics(tmp_path / "queue")["SN_f16_s0"].keys()
    (engine,) = closed
    assert not opened
    assert engine.most > 1
    assert [key.rpartition("-")[0] for key in engine.exclusive] == ["measure"]


def test_engines_are_told_by_help_and_errors_from_where_they_are_registered(tmp_path: Path) -> None:
    assert "What runs the stages: local" in " ".join(CliRunner().invoke(app, ["run", "--help"]).output.split())
    asked = CliRunner().invoke(app, ["run", "paper", "--profile", "smoke", "--engine", "queeu", "--out", str(tmp_path)])
    assert str(asked.exception) == "--engine queeu: there is no such engine, did you mean 'queue'?"
    assert list(tmp_path.iterdir()) == []


def test_an_engine_is_found_by_its_file() -> None:
    from benchmark.run import engines

    files = {path.stem for path in Path(engines.__path__[0]).glob("*.py")} - {"__init__"}
    registered = {kind.__module__.rpartition(".")[2] for name, kind in ENGINES.items() if name != "queue"}
    assert files == registered
