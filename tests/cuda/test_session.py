"""The script for a machine with a card, on a machine without one: that it runs, and what it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SESSION = ROOT / "tests/cuda/session.sh"


@pytest.mark.slow
def test_the_session_leaves_at_most_eight_files_and_says_how_each_part_ended(tmp_path: Path) -> None:
    small = {
        "DEVICE": "cpu",
        "PROFILE": "smoke",
        "CELLS": "real",
        "STEP": "--patch 32,32,16 --filters 16 --batch 2 --rounds 2",
        "LIMITS": "240 120 240",
    }
    environment = os.environ | small | {"PYTHON": sys.executable}
    result = subprocess.run(
        ["bash", SESSION, tmp_path / "out"], env=environment, capture_output=True, text=True, timeout=700
    )
    assert result.returncode == 0, result.stdout + result.stderr
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        *("session.txt", "tests.txt", "tests.xml", "steps.jsonl", "steps.txt", "run.txt"),
        *("results.json", "index.html"),
    }
    assert sum(files.values()) < 16 * 2**20
    for name in ("tests", "steps", "run", "report"):
        assert f"{name}: exit status 0 after" in result.stdout
    steps = [json.loads(line) for line in (tmp_path / "out/steps.jsonl").read_text().splitlines()]
    assert [(step["norm"], step["precision"]) for step in steps] == [
        (norm, precision) for norm in ("spectral", "instance") for precision in ("fp32", "fp16", "bf16")
    ]
    for step in steps:
        for way, found in step["ways"].items():
            if "compiled" not in way:
                assert found["step_time_ms"] > 0
        ours = step["ways"]["ours"]
        assert ours["peak_bytes"] > 0.95 * step["predicted_bytes"]
        if step["precision"] == "fp32":  # 16-bit kernels may take memory for themselves
            assert ours["peak_bytes"] == pytest.approx(step["predicted_bytes"], rel=0.05)
        assert len(ours["loss_scales"]) == 3
    cells = {cell["id"]: cell["status"] for cell in json.loads((tmp_path / "out/results.json").read_text())["cells"]}
    assert cells["real_s0"] == "done"


@pytest.mark.slow
def test_a_part_that_takes_too_long_does_not_stop_the_others(tmp_path: Path) -> None:
    environment = os.environ | {"DEVICE": "cpu", "PROFILE": "none", "CELLS": "real", "LIMITS": "1 1 1"}
    environment |= {"PYTHON": sys.executable}
    result = subprocess.run(["bash", SESSION, tmp_path], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    for name in ("tests", "steps", "run"):
        assert f"{name}: exit status 124 after" in result.stdout
    assert "report: exit status 2 after" in result.stdout, "nothing was made"


def test_the_session_asks_for_a_place() -> None:
    result = subprocess.run(["bash", SESSION], capture_output=True, text=True, timeout=30)
    assert result.returncode != 0
    assert "where to, such as session.sh results" in result.stderr
