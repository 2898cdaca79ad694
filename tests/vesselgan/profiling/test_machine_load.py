"""A machine that is busy with something else is noticed before its timings are believed."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.stages import STAGES, Context
from benchmark.stages import measure as costs
from vesselgan.profiling.machine_load import OtherLoad, why_not_steady

QUIET = [10.0, 10.4, 9.8, 10.1]


def test_the_work_of_another_process_is_seen() -> None:
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        busy = OtherLoad()
        time.sleep(1.0)
        seen = busy.cores()
    finally:
        other.kill()
        other.wait()
    cores = psutil.cpu_count() or 1
    assert 0.3 < seen <= cores + 0.2


def test_ones_own_work_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(100.0, 40.0), (103.0, 42.5)])
    clock = iter([0.0, 2.0])
    monkeypatch.setattr("vesselgan.profiling.machine_load._busy_seconds", lambda: next(readings))
    monkeypatch.setattr("vesselgan.profiling.machine_load.time.perf_counter", lambda: next(clock))
    assert OtherLoad().cores() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("rounds", "others", "threads", "reason"),
    [
        (QUIET, 0.05, 2, None),
        (QUIET, 1.2, 2, "other programs used 1.2 of 2 cores"),
        (QUIET, 0.9, 1, None),  # they have the other core
        ([10.0, 30.0, 8.0, 90.0], 0.0, 1, "its rounds vary by a factor of"),
        ([10.0], 0.0, 1, None),
    ],
)
def test_load_and_spread_are_judged(
    monkeypatch: pytest.MonkeyPatch, rounds: list[float], others: float, threads: int, reason: str | None
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    found = why_not_steady(rounds, others, threads)
    assert found == reason or (reason is not None and found is not None and found.startswith(reason))


def measured(folder: Path) -> dict[str, Any]:
    configuration = {
        **{"norm": "spectral", "precision": "fp32", "filters": 8, "batch": 2, "ema": None, "privacy": None},
        **{"critic_steps": 1, "lr_generator": 1e-4, "lr_critic": 1e-4, "recipe": {}},
    }
    options = {"configurations": {"SN": configuration}, "patch": [32, 32, 16], "penalty_weight": 10.0}
    options |= {"rounds": 3, "steps": 1, "warmup": 1}
    context = Context(options, {}, {"device": "cpu", "threads": 1}, {}, folder, lambda done, total, what: None)
    return dict(STAGES["measure"].run(context))


def test_a_disturbed_measurement_is_made_again_and_marked_if_it_stays_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verdicts = iter(["other programs used 1.0 of 2 cores", None])
    monkeypatch.setattr(costs, "why_not_steady", lambda *_: next(verdicts))
    assert measured(tmp_path)["configurations"]["SN"]["busy"] is None
    calls = []
    monkeypatch.setattr(costs, "why_not_steady", lambda *_: calls.append(1) or "busy")
    values = measured(tmp_path)
    assert values["configurations"]["SN"]["busy"] == "busy"
    assert len(calls) == costs.ATTEMPTS
    assert values["others_cores"] >= 0
