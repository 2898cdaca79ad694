"""MLflow as a person meets it: `ui` as it starts, its pages in Chromium, and a server that is only reached by http."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser

from benchmark.report.mlflow_content import contents_of
from benchmark.report.mlflow_mirror import MlflowClient
from benchmark.report.mlflow_writing import write_all
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run

COLUMNS = ("label", "precision", "filters", "seed", "dsc/intracranial", "dsc/all", "fid_over_floor", "step_time_ms")
STARTS_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def out(finished_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(finished_smoke, tmp_path_factory.mktemp("ui") / "out"))


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of `ui`, and the lines that it printed. In the end it is stopped as Ctrl-C does."""
    port = free_port()
    command = [sys.executable, "-m", "benchmark", "ui", "paper-smoke", "--out", str(out), "--port", str(port)]
    log = out / "ui.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + STARTS_S
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            if answer.status == 200:
                break
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.3)
    started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert not [each for each in started if any("job" in word for word in each.cmdline())], "which nothing here needs"
    yield address, log.read_text().splitlines()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    _, alive = psutil.wait_procs(started, timeout=10)
    for left in alive:
        left.kill()
    assert not alive, [left.cmdline() for left in alive]


def test_a_server_that_is_only_reached_by_http_gets_all_of_a_run(server: tuple[str, list[str]], out: Path) -> None:
    client = MlflowClient(server[0])
    experiment = client.create_experiment("by http", artifact_location=(out / "elsewhere").as_uri())
    run = load_run(out, "paper-smoke")
    results = results_of(run)

    def ids() -> dict[str, str]:
        return {found.info.run_name: found.info.run_id for found in client.search_runs([experiment])}

    write_all(client, experiment, contents_of(run, results, out / "reports/paper-smoke"))
    first = ids()
    assert len(first) == 8
    client.set_tag(first["real_s0"], "mlflow.note.content", "my own words")
    real = next(cell for cell in results["cells"] if cell["id"] == "real_s0")
    real["metrics"]["dsc/all"]["value"] = 0.125
    write_all(client, experiment, contents_of(run, results, out / "reports/paper-smoke"))
    second = ids()
    assert {name for name in second if second[name] == first[name]} == second.keys() - {"real_s0"}
    changed = client.get_run(second["real_s0"])
    assert changed.data.metrics["dsc/all"] == 0.125
    assert changed.data.tags["mlflow.note.content"] == "my own words"
    assert len(client.search_logged_models([experiment])) == 9


# At the very first visit MLflow opens a panel of its own over a quarter of the page.
NO_PANEL = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
WINDOW: Any = {"width": 1440, "height": 900}


def address(lines: list[str], start: str) -> str:
    """Of a page that `ui` printed."""
    return next(line.split()[-1] for line in lines if line.startswith(start))


def test_the_charts_of_a_run_begin_with_what_counts(server: tuple[str, list[str]], chromium: Browser) -> None:
    with chromium.new_page(viewport=WINDOW) as page:
        page.add_init_script(NO_PANEL)
        page.goto(address(server[1], "in charts:"))
        first = page.get_by_text(re.compile(r"^What counts"))
        first.wait_for(timeout=30_000)
        for name in ("dsc/intracranial", "dsc/all", "fid_over_floor", "prd_auc", "step_time_ms", "peak_memory_mib"):
            chart = page.get_by_text(name, exact=True).first
            chart.wait_for(timeout=10_000)
            assert (box := chart.bounding_box()), name
            assert box["x"] + box["width"] <= WINDOW["width"], name
            assert box["y"] + box["height"] <= WINDOW["height"], f"{name} is below the first screen"
        page.locator(".js-plotly-plot .bars").first.wait_for(timeout=20_000)
        training = page.get_by_text("Training", exact=True)
        training.wait_for(timeout=10_000)
        assert (above := first.bounding_box())
        assert (below := training.bounding_box())
        assert above["y"] < below["y"]


def test_mlflows_own_list_opens_a_run_as_model_training_once_that_was_chosen(
    server: tuple[str, list[str]], chromium: Browser
) -> None:
    with chromium.new_page(viewport=WINDOW) as page:
        page.add_init_script(NO_PANEL)
        page.goto(f"{server[0]}/#/experiments")
        page.get_by_text("Model training", exact=True).first.click()
        page.goto("about:blank")
        page.goto(f"{server[0]}/#/experiments")
        page.get_by_role("link", name="paper-smoke").first.click()
        page.wait_for_url(re.compile("workflowType=machine_learning"), timeout=20_000)
        assert "/runs" in page.url
        assert page.get_by_text("Judges").count() == 0, "that is the page for language models"


def test_the_ui_is_there_for_this_machine_alone(server: tuple[str, list[str]]) -> None:
    """A page of another host, which a browser shows, must not reach it under its own name."""
    port = int(server[0].rpartition(":")[2])
    heard = {each.laddr.ip for each in psutil.net_connections("tcp") if each.laddr.port == port and not each.raddr}
    assert heard == {"127.0.0.1"}
    statuses = []
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "elsewhere.example", f"elsewhere.example:{port}"):
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            path = "/api/2.0/mlflow/experiments/search?max_results=1"
            connection.request("GET", path, headers={"Host": host})
            statuses.append(connection.getresponse().status)
    assert statuses == [200, 200, 403, 403]


def test_the_first_sight_of_a_run_has_the_columns_that_matter(
    server: tuple[str, list[str]], out: Path, chromium: Browser
) -> None:
    table, side_by_side = (address(server[1], start) for start in ("compare the cells:", "side by side:"))
    results = json.loads((out / "reports/paper-smoke/results.json").read_text())
    with chromium.new_page(viewport=WINDOW) as page:
        page.add_init_script(NO_PANEL)
        page.goto(table)
        page.get_by_text("c-SN-MP_f32_s0").first.wait_for(timeout=30_000)
        for name in (*COLUMNS, "peak_memory_mib"):
            heading = page.locator(".ag-header-cell").filter(has_text=re.compile(rf"^\s*{name}\s*$")).first
            heading.wait_for(timeout=10_000)
            box = heading.bounding_box()
            assert box is not None, name
            assert box["x"] + box["width"] <= WINDOW["width"], f"{name} is beyond the window"
        shown = page.get_by_role("row").all_inner_texts()
        order = sorted(results["cells"], key=lambda cell: -cell["metrics"]["dsc/intracranial"]["value"])
        names = [cell["id"] for cell in order]
        found = [name for row in shown for name in names if name in row.split()]
        assert list(dict.fromkeys(found)) == names, "a row is listed anew for the columns that stay"
        assert page.get_by_text("paper-smoke").count() >= 1
        assert page.get_by_text("Judges").count() == 0, "that is the page for language models"
        page.goto("about:blank")  # the rest of an address after # does not load a page anew
        page.goto(side_by_side)
        page.get_by_text("Comparing 7 Runs from 1 Experiment").wait_for(timeout=30_000)
