"""A Ray cluster of three nodes, simulated on this machine: what is left when a node, the driver or the folder goes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_protocol import PROTOCOL, made, metrics

pytestmark = [
    pytest.mark.slow,
    # Ray's client server leaves its logs open.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


def longer(steps: int) -> str:
    text = PROTOCOL.replace("    steps: 4\n    precision", f"    steps: {steps}\n    precision")
    return text.replace("seed: [0]", "seed: [0, 1]")


STEPS = 2500  # so many that checkpoints, one every half a minute, are written in the middle of a training
LONG, MEDIUM = longer(STEPS), longer(500)
NODES = 3
MEMORY = {"object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "ray_client_server_port": port, **MEMORY})
    cluster.client_address = f"ray://127.0.0.1:{port}"
    cluster.computing = [cluster.add_node(num_cpus=1, **MEMORY) for _ in range(NODES)]
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_this_machine(tmp_path_factory.mktemp("local"), MEDIUM)


def on_this_machine(folder: Path, protocol: str) -> Path:
    run = started(folder, protocol, "--engine", "local", "--workers", "2")
    output, errors = run.communicate(timeout=1800)
    assert (run.returncode, errors) == (0, ""), output
    return folder


def started(folder: Path, protocol: str, *more: str) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(protocol)
    command = [sys.executable, "-m", "benchmark", "run", "small.yaml", "--device", "cpu", *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def on(cluster: Any) -> tuple[str, ...]:
    return "--engine", "ray", "--address", cluster.address


def wait_for(found: Callable[[], Any], timeout_s: float = 600) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    raise TimeoutError


def starts(folder: Path) -> dict[str, list[str]]:
    """By stage, the first lines that its processes wrote."""
    logs = {path.parent.name: path.read_text() for path in folder.glob("runs/stages/*/log.txt")}
    return {key: re.findall(rf".*{key} starts \(process (\d+)", text) for key, text in logs.items()}


def ends(folder: Path) -> dict[str, int]:
    logs = {path.parent.name: path.read_text() for path in folder.glob("runs/stages/*/log.txt")}
    return {key: text.count(" done after ") for key, text in logs.items()}


def test_a_killed_node_s_stages_go_on_elsewhere_from_their_checkpoints(cluster: Any, tmp_path: Path) -> None:
    local, tmp_path = tmp_path / "local", tmp_path / "ray"
    run = started(tmp_path, LONG, *on(cluster))
    checkpoint = wait_for(lambda: next(tmp_path.glob("runs/stages/train_gan-*/checkpoint.pt"), None))
    key = checkpoint.parent.name
    (process,) = starts(tmp_path)[key]
    raylet = psutil.Process(int(process)).parent()
    assert raylet is not None
    (node,) = (
        node
        for node in cluster.computing
        if raylet.pid in {info.process.pid for infos in node.all_processes.values() for info in infos}
    )
    killed = time.monotonic()
    cluster.remove_node(node, allow_graceful=False)
    wait_for(lambda: len(starts(tmp_path)[key]) == 2)
    print(f"killed the node of {key}; it started elsewhere after {time.monotonic() - killed:.1f} s")
    output, errors = run.communicate(timeout=1800)
    print(output)
    assert run.returncode == 0, errors
    assert re.search(rf"warning {key}: \S+ is gone; it goes on on \S+", output)
    second = (tmp_path / f"runs/stages/{key}/log.txt").read_text().rpartition(" starts ")[2]
    first_step = re.search(rf"WGAN steps: (\d+) of {STEPS}", second)
    assert first_step is not None
    print(f"went on at step {first_step[1]}")
    assert int(first_step[1]) > 10
    assert set(ends(tmp_path).values()) == {1}
    on_this_machine(local, LONG)
    assert made(tmp_path) == made(local)
    assert metrics(tmp_path) == metrics(local)


def test_a_killed_driver_leaves_no_task_and_the_next_one_repeats_nothing(
    cluster: Any, local: Path, tmp_path: Path
) -> None:
    run = started(tmp_path, MEDIUM, *on(cluster))
    wait_for(lambda: next(tmp_path.glob("runs/stages/train_gan-*/steps.jsonl"), None))
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/stages/*/result.json")}
    assert done
    processes = [int(pid) for pids in starts(tmp_path).values() for pid in pids]
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in processes), 60)
    again = started(tmp_path, MEDIUM, *on(cluster))
    output, errors = again.communicate(timeout=1800)
    assert again.returncode == 0, output + errors
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert set(ends(tmp_path).values()) == {1}
    assert made(tmp_path) == made(local)


def test_two_drivers_on_one_folder_share_the_work(cluster: Any, local: Path, tmp_path: Path) -> None:
    runs = [started(tmp_path, MEDIUM, *on(cluster), "--workers", "2") for _ in range(2)]
    for run in runs:
        output, errors = run.communicate(timeout=1800)
        assert run.returncode == 0, output + errors
    assert set(ends(tmp_path).values()) == {1}
    assert made(tmp_path) == made(local)
    assert metrics(tmp_path) == metrics(local)


def test_a_folder_that_nodes_do_not_see_is_an_error_that_names_it(cluster: Any, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run = started(here, PROTOCOL, *on(cluster), "--map", f"{here}={there}")
    output, errors = run.communicate(timeout=300)
    assert run.returncode == 2, output
    (line,) = set(errors.splitlines())
    assert re.match(rf"error: {there}/runs: as \S+ sees it, this is not the folder of the run; mount that there", line)


def test_a_folder_that_nodes_lose_is_an_error_that_names_it(cluster: Any, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.symlink_to(here)
    run = started(here, MEDIUM, *on(cluster), "--map", f"{here}={there}")
    wait_for(lambda: next(here.glob("runs/stages/train_gan-*/steps.jsonl"), None))
    there.unlink()
    output, errors = run.communicate(timeout=600)
    assert run.returncode == 2, output
    assert f"error: {there}/runs: as {os.uname().nodename} sees it" in errors
    assert "Traceback" not in errors + output


def test_a_dry_run_tells_where_each_stage_would_go(cluster: Any, tmp_path: Path) -> None:
    run = started(tmp_path, LONG, *on(cluster), "--dry-run")
    output, errors = run.communicate(timeout=300)
    assert (run.returncode, errors) == (0, "")
    places = {line.split()[-1] for line in output.splitlines() if "to do" in line}
    assert places == {f"{os.uname().nodename}/{node.node_id[:6]}" for node in cluster.computing}


def test_a_driver_outside_of_the_cluster_goes_through_its_client_server(cluster: Any, tmp_path: Path) -> None:
    run = started(tmp_path, PROTOCOL, "--engine", "ray", "--address", cluster.client_address)
    output, errors = run.communicate(timeout=600)
    assert run.returncode == 0, output + errors
    assert "done SN_f16_s0: FID" in output


def test_an_address_where_nothing_answers_is_told(tmp_path: Path) -> None:
    run = started(tmp_path, PROTOCOL, "--engine", "ray", "--address", "127.0.0.1:1")
    output, errors = run.communicate(timeout=300)
    assert run.returncode == 2, output
    assert errors.startswith("error: --address 127.0.0.1:1: nothing answers there (")
    assert len(errors.splitlines()) == 1
