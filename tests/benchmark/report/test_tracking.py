"""Whatever becomes of the tracker, a run loses nothing, waits a stated time at most, and `sync` mends it."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from run_folders import make_run

from benchmark.report import mlflow_mirror, publish, run_page, tracking
from benchmark.report.mlflow_mirror import MlflowClient


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(tmp_path, {"SN_f16_s0": {"measure": "broke"}})
    path = tmp_path / "runs/r-p/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"description": "t", "phantom": True}}))
    monkeypatch.setattr(run_page, "render_report", lambda run, results, folder: (folder / "index.html").touch())
    return tmp_path


class Server(BaseHTTPRequestHandler):
    """Answers 500, after a while."""

    delay_s: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay_s)
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served() -> Iterator[Callable[[float], str]]:
    servers: list[ThreadingHTTPServer] = []

    def serve(delay_s: float) -> str:
        handler = type("Slow", (Server,), {"delay_s": delay_s})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://somebody:secret@127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def published(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, float]:
    """The one line of a run that ends, and how long its publishing took."""
    started = time.monotonic()
    page = publish.publish(out, "r-p")
    seconds = time.monotonic() - started
    assert page.is_file()
    assert json.loads((page.parent / "results.json").read_text())["cells"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the MLflow mirror was not written (")
    assert line.endswith("); rebuild it with 'sync r-p'")
    assert "secret" not in line
    return line, seconds


def mended(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `sync`, once there is a tracker that works."""
    monkeypatch.delenv(tracking.TRACKER, raising=False)
    publish.sync_run(out, "r-p")
    client = MlflowClient(f"sqlite:///{out / 'runs/mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("r-p").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["SN_f16_s0", "r-p"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("dead", "Connection refused"),
        pytest.param("500", "500", marks=pytest.mark.slow),
        ("hanging", "was not done within 4 s"),
    ],
)
def test_a_server_that_does_not_work_costs_a_line_and_a_stated_time(
    kind: str,
    told: str,
    served: Callable[[float], str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(publish, "PATIENCE_S", 4.0 if kind == "hanging" else 30.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://127.0.0.1:9" if kind == "dead" else served(60.0 if kind == "hanging" else 0.0)
    monkeypatch.setenv(tracking.TRACKER, uri)
    line, _ = published(out, capsys)
    assert told in line
    mended(out, monkeypatch)


def test_a_locked_database_costs_a_line_and_sync_mends_it(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mlflow_mirror, "BUSY_S", 0.1)
    mlflow_mirror.database(out)
    with closing(sqlite3.connect(out / "runs/mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        line, _ = published(out, capsys)
    assert "database is locked" in line
    mended(out, monkeypatch)


@pytest.mark.slow
def test_a_named_tracker_is_the_one_that_shows_the_runs(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv(tracking.TRACKER, named)
    monkeypatch.setattr(publish, "PATIENCE_S", 120.0)
    page = publish.publish(out, "r-p")
    assert (page.parent / ".stamp").is_file()
    assert not (out / "runs/mlflow.db").exists()
    assert MlflowClient(named).get_experiment_by_name("r-p") is not None
    command = [sys.executable, "-m", "benchmark", "ui", "r-p", "--out", str(out)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 2
    assert "MLFLOW_TRACKING_URI is set: runs are shown at sqlite:" in shown.stderr
