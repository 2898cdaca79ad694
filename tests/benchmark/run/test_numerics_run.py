"""A whole run on a machine whose library computes one layer wrongly: planted in every process of the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import HELPERS, ROOT

PROTOCOL = """
protocol: planted
title: One cell
default_profile: tiny
profiles:
  tiny:
    about: As small as it gets.
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 4, validation: 2, test: 2}
    patch: [32, 32, 16]
    patches: {grid: [1, 1, 1], vessel: 7}
    filters: 16
    batch: 4
    steps: 6
    precision: {full: fp32, mixed: bf16}
    pairs: 32
    score: {extractor: random_resnet10, samples: 32}
    unet: {filters: [4, 8], batch: 8, steps: 4, validate_every: 4, learning_rate: 1.0e-2}
    measure: {rounds: 3, steps: 1, warmup: 1, threads: 1}
    threads: 1
matrix: {variant: [SN-MP], seed: [0]}
metrics: {fid: {}, prd: {clusters: 4, runs: 2}}
"""

# Python imports this by itself wherever it starts with its folder on the path; the plant waits for torch.
PLANT = """
import sys
sys.path.insert(0, {tests!r})
import importlib.abc, importlib.util

class Wait(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "vesselgan.training.wgan":
            return None
        sys.meta_path.remove(self)
        from kernel_plants import wrong_convolution
        globals()["plant"] = wrong_convolution((16, 8, 3, 3, 3))
        plant.__enter__()
        return importlib.util.find_spec(name)

sys.meta_path.insert(0, Wait())
"""


@pytest.mark.slow
def test_a_run_with_a_wrong_kernel_finds_it_goes_round_it_and_tells(tmp_path: Path) -> None:
    (tmp_path / "planted.yaml").write_text(PROTOCOL)
    plant = tmp_path / "plant"
    plant.mkdir()
    (plant / "sitecustomize.py").write_text(PLANT.format(tests=str(HELPERS)))
    environment = {**os.environ, "PYTHONPATH": str(plant)}
    command = [sys.executable, "-m", "benchmark", "run", str(tmp_path / "planted.yaml"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr + done.stdout
    results = json.loads((tmp_path / "reports/planted-tiny/results.json").read_text())
    assert {cell["status"] for cell in results["cells"]} == {"done"}
    (faulty,) = (check for check in results["environment"]["numerics"] if check["faults"])
    assert (faulty["network"], faulty["precision"]) == ("wgan", "bf16")
    assert faulty["remedy"] is not None
    page = " ".join((tmp_path / "reports/planted-tiny/index.html").read_text().split())
    assert f"bf16 on this processor: {len(faulty['faults'])} of {faulty['operations']} operations" in page
    gan = next((tmp_path / "runs/stages").glob("train_gan-*"))
    assert json.loads((gan / "spec.json").read_text())["runtime"]["remedy"] == faulty["remedy"]
    steps = [json.loads(line) for line in (gan / "steps.jsonl").read_text().splitlines()]
    assert all(step["critic_loss"] is not None for step in steps), "every step was computed right"
