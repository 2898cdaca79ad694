"""An engine is one file: one that is written here runs a whole protocol, and leaves what the local engine leaves."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_protocol import PROTOCOL, made, metrics
from typer.testing import CliRunner

from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.plan import Resources
from benchmark.run.engine import ENGINES, Engine, Event, register
from benchmark.run.worker import outcome_of


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


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines") / "local"
    run(folder, "local")
    return folder


def test_another_engine_gives_the_same_bytes_and_the_same_results(local: Path, tmp_path: Path) -> None:
    run(tmp_path / "queue", "queue")
    assert made(tmp_path / "queue") == made(local)
    kinds = {key.rpartition("-")[0] for key in made(tmp_path / "queue")}
    assert {"prepare", "train_gan", "synthesise", "score", "train_unet", "evaluate", "measure"} <= kinds
    assert metrics(tmp_path / "queue") == metrics(local)
    assert {"fid", "dsc/all", "peak_memory_mib"} <= metrics(tmp_path / "queue")["SN_f16_s0"].keys()
    (engine,) = closed
    assert not opened
    assert engine.most > 1
    assert [key.rpartition("-")[0] for key in engine.exclusive] == ["measure"]


@pytest.mark.slow
def test_a_ray_cluster_of_this_machine_alone_gives_the_same_too(local: Path, tmp_path: Path) -> None:
    """In a process of its own, as a person starts it; `test_ray_cluster.py` has several nodes."""
    (tmp_path / "small.yaml").write_text(PROTOCOL)
    command = [sys.executable, "-m", "benchmark", "run", "small.yaml", "--device", "cpu", "--engine", "ray"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert "done SN_f16_s0: FID" in done.stdout
    assert made(tmp_path) == made(local)
    assert metrics(tmp_path) == metrics(local)
    assert list((tmp_path / "runs/leases").iterdir()) == []


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
