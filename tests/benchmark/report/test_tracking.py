"""Whatever becomes of the tracker, a run loses nothing, waits a stated time at most, and `sync` mends it."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from run_folders import make_run

from benchmark.artifacts.locks import FileLocks
from benchmark.report import mlflow_mirror, publish, run_page, tracking
from benchmark.report.mlflow_mirror import MlflowClient
from vesselgan.errors import InputError


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(tmp_path, {"SN_f16_s0": {"measure": "broke"}})
    path = tmp_path / "runs/r-p/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"description": "t", "phantom": True}}))
    monkeypatch.setattr(run_page, "render_report", lambda run, results, folder: (folder / "index.html").touch())
    return tmp_path


class Server(BaseHTTPRequestHandler):
    """Takes a while for each call, and passes it on to a server that works; without one answers 500.

    Whoever lacks the right token is answered 401.
    """

    delay_s: ClassVar[float] = 0.0
    token: ClassVar[str] = ""
    behind: ClassVar[str] = ""  # its address

    def do_GET(self) -> None:
        time.sleep(self.delay_s)
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self.answer(401, b"")
        elif not self.behind:
            self.answer(500, b"")
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Accept")}
            with closing(HTTPConnection(self.behind, timeout=60)) as connection:
                connection.request(self.command, self.path, body, kept)
                answer = connection.getresponse()
                content = answer.read()
            with suppress(OSError):  # whoever asked was ended meanwhile
                self.answer(answer.status, content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


Serve = Callable[..., str]


@pytest.fixture
def served() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def serve(delay_s: float = 0.0, token: str = "", behind: str = "") -> str:
        handler = type("Slow", (Server,), {"delay_s": delay_s, "token": token, "behind": behind})
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
    served: Serve,
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
    (tmp_path / "where it is run").mkdir()
    monkeypatch.chdir(tmp_path / "where it is run")
    page = publish.publish(out, "r-p")
    assert (page.parent / ".stamp").is_file()
    assert not list(Path().iterdir()), "MLflow's own default for artifacts"
    assert list((out / "runs/mlflow-artifacts").rglob("index.html"))
    assert not (out / "runs/mlflow.db").exists()
    assert MlflowClient(named).get_experiment_by_name("r-p") is not None
    command = [sys.executable, "-m", "benchmark", "ui", "r-p", "--out", str(out)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 2
    assert "MLFLOW_TRACKING_URI is set: runs are shown at sqlite:" in shown.stderr


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of MLflow's own."""
    home = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home}/server.db"]
    command += ["--artifacts-destination", str(home / "artifacts"), "--host", "127.0.0.1"]
    command += ["--port", address.rpartition(":")[2], "--workers", "1"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not answers(address):
            assert server.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(address: str) -> bool:
    with suppress(OSError), closing(HTTPConnection(address, timeout=5)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def shown_by(address: str) -> dict[str, dict[str, float]]:
    """The metrics of the runs that this server has, by their names."""
    client = MlflowClient(f"http://{address}")
    experiment = client.get_experiment_by_name("r-p")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.info.run_name: run.data.metrics for run in runs}


@pytest.mark.slow
def test_a_server_of_a_second_a_call_costs_its_stated_time_and_sync_shows_the_rest(
    mlflow_server: str, served: Serve, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(out, {f"SN_f16_s{seed}": {"score": {"metrics": {"fid": 0.5}, "facts": {"samples": 2}}} for seed in (0, 1)})
    monkeypatch.setattr(publish, "PATIENCE_S", 15.0)
    monkeypatch.setenv(tracking.TRACKER, served(1.0, behind=mlflow_server))
    line, seconds = published(out, capsys)
    assert "was not done within 15 s" in line
    assert seconds < 15 + 15, "results.json and what it takes to end a process come on top"
    assert len(shown_by(mlflow_server)) < 3
    monkeypatch.setenv(tracking.TRACKER, f"http://{mlflow_server}")
    publish.sync_run(out, "r-p")
    shown = shown_by(mlflow_server)
    assert sorted(shown) == ["SN_f16_s0", "SN_f16_s1", "r-p"]
    assert shown["SN_f16_s1"]["fid"] == 0.5


@pytest.mark.slow
def test_with_the_token_a_server_takes_what_it_refused_without(
    mlflow_server: str, served: Serve, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "PATIENCE_S", 120.0)
    monkeypatch.setenv(tracking.TRACKER, served(token="right", behind=mlflow_server).replace("somebody:secret@", ""))
    for token in (None, "wrong"):
        if token:
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        line, _ = published(out, capsys)
        assert "set MLFLOW_TRACKING_TOKEN" in line
        assert "wrong" not in line
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "right")
    publish.publish(out, "r-p")
    assert capsys.readouterr().err == ""
    assert "r-p" in shown_by(mlflow_server)


def test_a_server_that_lets_nobody_in_is_told_with_what_to_set(
    served: Serve, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracking.TRACKER, served(token="right"))
    with pytest.raises(InputError, match=r"401.*; the server lets nobody in without a name: set MLFLOW_TRACKING_TOKEN"):
        publish.sync_run(out, "r-p")


def test_a_mirror_for_which_no_time_is_left_is_told_and_sync_goes_on(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "OWN_PATIENCE_S", 0.0)
    line, _ = published(out, capsys)
    assert "mlflow.db was not done within 0 s" in line
    mended(out, monkeypatch)


def test_another_process_that_writes_and_stands_still_is_not_waited_for_for_ever(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "OWN_PATIENCE_S", 0.3)
    with FileLocks().hold(out / "runs/mlflow.lock", wait=False) as held:
        assert held
        line, _ = published(out, capsys)
    assert "was not done within 0 s" in line
    mended(out, monkeypatch)
