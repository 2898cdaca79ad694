"""Timings are kept so that the next ones can be compared with them, and those of a busy machine are marked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(group="yardstick")
def test_a_matrix_product_is_the_yardstick_of_saved_timings(benchmark: BenchmarkFixture) -> None:
    """Where it differs from an earlier one, so does the machine, and other times differ for that reason."""
    a, b = torch.rand(2, 512, 512, generator=torch.Generator().manual_seed(0)).unbind()
    product = benchmark(torch.matmul, a, b)
    assert product.shape == (512, 512)


@pytest.mark.slow
def test_timings_are_saved_compared_and_marked_where_the_machine_was_busy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--benchmark", str(Path(__file__).relative_to(ROOT)), "-q"]
    command += ["-p", "no:cacheprovider", f"--benchmark-storage={tmp_path}"]
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    finally:
        for process in load:
            process.kill()
            process.wait()
    (saved,) = tmp_path.rglob("*.json")
    for timing in json.loads(saved.read_text())["benchmarks"]:
        assert timing["extra_info"]["others_cores"] > 0
        assert "other programs used" in timing["extra_info"]["busy"]
    assert "timings on a busy machine, which support no claim" in first.stdout
    again = subprocess.run([*command, "--benchmark-compare"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "Comparing against benchmarks from" in again.stdout + again.stderr
    assert len(list(tmp_path.rglob("*.json"))) == 2
