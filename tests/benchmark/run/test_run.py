"""The main job, whole: the smoke run, what it leaves, a second run, and runs that are killed."""

import contextlib
import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

SMOKE = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke"]
KILLS = 5
COSTS = {"step_time_ms", "patches_per_s"}  # timings: the only numbers that may differ between two runs


def smoke(folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(SMOKE, cwd=folder, capture_output=True, text=True, timeout=600, **more)


def results_without_timings(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "reports/paper-smoke/results.json").read_text())
    for name in ("work_seconds", "measurement", "cost_ratios"):
        results.pop(name)
    results["leaders"] = [each for each in results["leaders"] if each["metric"] not in COSTS]
    for holder in [*results["cells"], *results["groups"]]:
        holder.pop("seconds", None)
        holder.pop("stage_seconds", None)
        for name in COSTS:
            holder["metrics"].pop(name, None)
    # Verdicts on timings, estimates of hours, and what is corrected together with timings follow the timings.
    timed = {"needed", "p_corrected", "reason"}
    results["claims"] = [
        {key: value for key, value in claim.items() if key not in timed}
        for claim in results["claims"]
        if claim["metric"] not in COSTS
    ]
    return results


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Its worker processes; other children (git, for the commit) come and go."""
    workers = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--serve" in child.cmdline():
                workers.append(child)
    return workers


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a dead one that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def finished(finished_smoke: Path) -> Path:
    """Only runs that find nothing to do may be made in it."""
    return finished_smoke


def test_the_smoke_run_leaves_every_product(finished: Path) -> None:
    folder = finished / "reports/paper-smoke"
    for name in ("index.html", "results.json", "cells.csv", "groups.csv", "subjects.csv", "claims.csv", "table.md"):
        assert (folder / name).stat().st_size > 100, name


def test_results_hold_every_metric_of_every_cell(finished: Path) -> None:
    results = json.loads((finished / "reports/paper-smoke/results.json").read_text())
    assert {"protocol", "profile", "environment", "cells", "claims", "subjects"} <= results.keys()
    cells = {cell["label"]: cell for cell in results["cells"]}
    without_pairs = ["real", "threshold", "vesselness"]
    assert list(cells) == [*without_pairs, "GP", "SN", "SN-MP", "c-SN-MP"]
    overlaps = ("dsc", "cldice", "sensitivity", "precision", "volume_similarity")
    distances_of_masks = (f"{name}_{unit}" for name in ("bavd", "ahd", "hd95") for unit in ("voxel", "mm"))
    bettis = (f"betti_{number}_error" for number in range(3))
    segmentation = {
        f"{name}/{region}" for name in (*overlaps, *distances_of_masks, *bettis) for region in ("all", "intracranial")
    }
    distances = {
        "fid",
        "fid_infinite",
        "kid",
        "prd_f8",
        "prd_f1_8",
        "prd_auc",
        "precision",
        "recall",
        "density",
        "coverage",
    }
    distances |= {"label_volume_fraction", "label_radius", "label_branch_count", "label_component_count"}
    distances |= {"memorised_share/features", "memorised_share/images"}
    costs = {"step_time_ms", "patches_per_s", "peak_memory_mib"}
    for label, cell in cells.items():
        assert cell["status"] == "done"
        assert cell["metrics"].keys() == (segmentation if label in without_pairs else segmentation | distances | costs)
        for metric in cell["metrics"].values():
            assert {"value", "n", "ci_low", "ci_high"} <= metric.keys()
            assert metric["value"] is not None
    assert cells["SN-MP"]["precision"] == "bf16"
    memory = {
        label: cell["metrics"]["peak_memory_mib"]["value"]
        for label, cell in cells.items()
        if label not in without_pairs
    }
    assert memory["SN-MP"] < memory["SN"] < memory["c-SN-MP"]
    subjects = [row for row in results["subjects"] if row["cell"] == "real_s0" and row["metric"] == "dsc/all"]
    assert len(subjects) == 4, "two validation and two test subjects"
    assert {(gain["label"], gain["metric"]) for gain in results["gain"]} == {
        (label, f"dsc/{region}") for label in cells if label not in without_pairs for region in ("all", "intracranial")
    }
    assert all(gain["untrained"] in without_pairs[1:] for gain in results["gain"])
    assert results["realism"]["labels"].keys() == cells.keys() - set(without_pairs)


def test_mlflow_mirrors_the_run_as_parent_and_children(finished: Path) -> None:
    from benchmark.report.mlflow_mirror import MlflowClient, run_urls, store_uri
    from benchmark.report.publish import sync_run

    results = json.loads((finished / "reports/paper-smoke/results.json").read_text())
    client = MlflowClient(store_uri(finished))
    experiment = client.get_experiment_by_name("paper-smoke")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    rules = {"threshold", "vesselness"}
    assert children.keys() == rules | {"real_s0", "GP_f16_s0", "SN_f16_s0", "SN-MP_f16_s0", "c-SN-MP_f32_s0"}
    assert parent.data.metrics["fid_over_floor/SN"] == results["realism"]["labels"]["SN"]["fid_over_floor"]
    defined = [gain for gain in results["gain"] if gain["value"] is not None]
    shares = [name for name in parent.data.metrics if name.startswith("real_gain_share/") and name.count("/") == 2]
    assert len(shares) == len(defined), "of each label; the best one's stands there without its name, too"
    child = children["SN-MP_f16_s0"]
    assert child.info.status == "FINISHED"
    assert child.data.params["precision"] == "bf16"
    assert child.data.params["recipe.penalty_norm"] == "sample"
    assert {"fid", "dsc/all", "step_time_ms", "gan/critic_loss", "unet/loss"} <= child.data.metrics.keys()
    table, _, side_by_side = run_urls(finished, "paper-smoke", 5000)
    assert f"/experiments/{experiment.experiment_id}/runs?" in table
    assert all(run.info.run_id in side_by_side for run in children.values())
    sync_run(finished, "paper-smoke")
    again = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert again == {run.info.run_id for run in runs}, "what is there already is left alone"


def test_a_second_run_repeats_nothing_and_takes_seconds(finished: Path) -> None:
    stages = finished / "runs/stages"
    before = {path: path.stat().st_mtime_ns for path in stages.glob("*/result.json")}
    assert len(before) == 35
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = smoke(finished)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime  # of the processor: others compute here, too
    assert result.returncode == 0
    assert "(0 to do)" in result.stdout
    assert result.stdout.count(" done ") == 7, "a line per cell"
    assert {path: path.stat().st_mtime_ns for path in stages.glob("*/result.json")} == before
    assert seconds < 5, seconds


def test_one_stage_runs_by_itself_and_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    (source,) = (finished / "runs/stages").glob("prepare-*")
    target = tmp_path / "runs/stages" / source.name
    target.mkdir(parents=True)
    (target / "spec.json").write_bytes((source / "spec.json").read_bytes())
    command = [sys.executable, "-m", "benchmark", "stage", "prepare"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    files = [json.loads((folder / "result.json").read_text())["files"] for folder in (source, target)]
    assert files[0] == files[1]


def test_every_stage_has_a_log_that_says_what_it_did(finished: Path) -> None:
    logs = {path.parent.name: path.read_text() for path in (finished / "runs/stages").glob("*/log.txt")}
    assert len(logs) == 35
    for key, text in logs.items():
        lines = text.splitlines()
        assert f"{key} starts" in lines[0]
        assert "done after" in lines[-1]
    assert any("WGAN steps: 12 of 12" in text for text in logs.values())


def test_a_stage_whose_inputs_are_missing_says_which(finished: Path, tmp_path: Path) -> None:
    (source,) = (finished / "runs/stages").glob("reference-*")
    target = tmp_path / "runs/stages" / source.name
    target.mkdir(parents=True)
    (target / "spec.json").write_bytes((source / "spec.json").read_bytes())
    command = [sys.executable, "-m", "benchmark", "stage", source.name]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "needs prepare-" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("and_workers", [False, True], ids=["the driver", "driver and workers"])
def test_killed_runs_end_in_the_results_of_an_uninterrupted_one(
    and_workers: bool, finished: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments: nothing is lost, nothing is half done, no worker lives on."""
    moments = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(SMOKE, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moments.uniform(2, 9))
            break  # all was done before the last kills
        except subprocess.TimeoutExpired:
            workers = workers_of(process) if and_workers else []
            process.send_signal(signal.SIGKILL)
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            process.wait()
            kills += 1
    assert kills >= 3
    assert smoke(tmp_path).returncode == 0
    assert results_without_timings(tmp_path) == results_without_timings(finished)


@pytest.mark.parametrize(("signals", "status"), [([signal.SIGINT], 130), ([signal.SIGTERM, signal.SIGTERM], 143)])
def test_a_run_that_is_asked_to_stop_leaves_no_worker_and_no_traceback(
    signals: list[signal.Signals], status: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(SMOKE, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not (workers := workers_of(process)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    for number in signals:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    # One that was being started when the signal came is not killed: it leaves when it finds nobody at its input.
    deadline = time.monotonic() + 30
    while (left := [worker for worker in workers if lives(worker)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_cell_and_the_next_run_mends_it(finished: Path, tmp_path: Path) -> None:
    command = [*SMOKE, "-k", "real"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    # A numerics check that dies is made again with the rest; what comes after it is not.
    while not list(tmp_path.glob("runs/stages/prepare-*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    [worker] = workers_of(process)
    worker.kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "its process died (signal SIGKILL" in output
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert "done real_s0" in again.stdout
