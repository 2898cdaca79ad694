"""A loss, and a family of generators, are one file each: those that ARCHITECTURE.md shows go through a whole run."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT

from benchmark.artifacts.store import Store
from benchmark.commands.report import publish_report
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.forecast import Prediction, predict
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import write_run_folder
from benchmark.trained.datasheet import Dataset, datasheet
from benchmark.trained.generator import find_generator
from vesselgan.errors import InputError
from vesselgan.export import Intensities
from vesselgan.families import FAMILIES
from vesselgan.training import LOSSES, WGANConfig, WGANTrainer
from vesselgan.variants import VARIANTS

PROTOCOL = """
protocol: own
title: A loss and a family of one's own
default_profile: tiny
profiles:
  tiny:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 2, validation: 1, test: 1}
    patch: [32, 32, 16]
    patches: {grid: [1, 1, 1], vessel: 15}
    filters: 16
    batch: 4
    steps: 4
    losses: {hinge: {margin: 0.25}}
    mean: {steps: 6, noise: 0.3}
    precision: {full: fp32, mixed: bf16}
    pairs: 16
    score: {extractor: random_resnet10, samples: 16}
    unet: {filters: [4, 8], batch: 4, steps: 4, validate_every: 2, learning_rate: 1.0e-2}
    measure: {rounds: 3, steps: 1, warmup: 1, threads: 1}
    baselines: [threshold]
matrix: {variant: [SN, HINGE, MEAN], seed: [0]}
metrics: {fid: {}}
claims:
  - hinge lowers FID: {less: [fid @ HINGE, fid @ SN]}
  - means lower FID:  {less: [fid @ MEAN, fid @ SN]}
"""


def snippet(title: str) -> dict[str, Any]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition(f"### {title}\n")[2]
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0], "snippet", "exec"), names)
    return names


@dataclass(frozen=True)
class Finished:
    """A run, and what is asked of it."""

    home: Path
    plan: Plan
    results: dict[str, Any]
    page: str
    predicted: Prediction

    def stage(self, cell: str, role: str) -> Path:
        (planned,) = (planned for planned in self.plan.cells if planned.cell.id == cell)
        return self.home / "runs/stages" / planned.stages[role]

    def values(self, cell: str, role: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.stage(cell, role) / "result.json").read_text())["values"]
        return values


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    home = tmp_path_factory.mktemp("own")
    for title in ("A loss", "A generator family"):
        snippet(title)
    try:
        (home / "own.yaml").write_text(PROTOCOL, encoding="utf-8")
        protocol = load_protocol(home / "own.yaml")
        profile, store = protocol.profiles["tiny"], Store(home / "runs")
        source = choose_source("tiny", profile, None)
        plan = build_plan(protocol, "tiny", profile, cells_of(protocol, profile), source, "cpu")
        predicted = predict(plan, list(plan.specs))
        write_run_folder(plan, store, home, PROTOCOL)
        for key in plan.specs:
            run_stage(store, key)
        page = publish_report(home, plan.name, quiet=True)
        results = json.loads((page.parent / "results.json").read_text())
        yield Finished(home, plan, results, unescape(page.read_text(encoding="utf-8")), predicted)
    finally:
        del LOSSES["hinge"], VARIANTS["HINGE"], FAMILIES["mean"], VARIANTS["MEAN"]


CELLS = {"HINGE_f16_s0": "margin_violations", "MEAN_s0": "change"}


@pytest.mark.parametrize(("cell", "reading"), CELLS.items())
def test_it_is_trained_and_its_reading_is_logged(finished: Finished, cell: str, reading: str) -> None:
    lines = [json.loads(line) for line in (finished.stage(cell, "gan") / "steps.jsonl").read_text().splitlines()]
    assert len(lines) == {"HINGE_f16_s0": 4, "MEAN_s0": 6}[cell]
    assert all(0 <= line[reading] <= 1 for line in lines)
    assert finished.values(cell, "gan")["mean_of_last_tenth"][reading] == lines[-1][reading]


@pytest.mark.parametrize("cell", CELLS)
def test_its_step_is_checked_timed_and_forecast(finished: Finished, cell: str) -> None:
    label = cell.partition("_")[0]
    measured = finished.values(cell, "measure")["configurations"][label]
    assert len(measured["step_time_ms"]) == 3
    assert measured["peak_memory_mib"] > 0
    assert finished.predicted.hours_by_label[label] > 0
    assert finished.values(cell, "verify_gan")["faults"] == []


@pytest.mark.parametrize(("cell", "reading"), CELLS.items())
def test_it_is_scored_claimed_and_reported(finished: Finished, cell: str, reading: str) -> None:
    label = cell.partition("_")[0]
    (entry,) = (entry for entry in finished.results["cells"] if entry["id"] == cell)
    assert entry["status"] == "done"
    assert {"fid", "dsc/all", "step_time_ms", "memorised_share/images"} <= entry["metrics"].keys()
    claims = {claim["left"]: claim for claim in finished.results["claims"]}
    assert claims[label]["effect"] is not None
    assert f"generator: {reading.replace('_', ' ')}" in finished.page


def test_the_options_of_both_reach_key_training_and_datasheet(finished: Finished) -> None:
    specs = {
        cell.cell.id: finished.plan.specs[cell.stages["gan"]] for cell in finished.plan.cells if "gan" in cell.stages
    }
    assert specs["HINGE_f16_s0"].options["wgan"]["loss_options"] == {"margin": 0.25}
    assert specs["MEAN_s0"].options["options"]["noise"] == 0.3
    assert not {"loss", "loss_options", "latent", "betas"} & specs["SN_f16_s0"].options["wgan"].keys(), "keys stay"
    for cell, option in (("HINGE_f16_s0", {"loss_options": {"margin": 0.25}}), ("MEAN_s0", {"noise": 0.3})):
        found = find_generator(
            "own-tiny", runs=finished.home / "runs", cell=cell, patch=(32, 32, 16), recipe=None, device="cpu"
        )
        asked = Dataset("n", 4, "npz", 0, 4, None, False, Intensities(0, 1), True, "none", "cpu")
        sheet = datasheet(found, asked)["generator"]["training"]
        assert option.items() <= sheet.items()
    for name in ("losses.hinge.margin", "mean.noise"):
        assert f"<code>{name}</code>" in finished.page


def test_the_pairs_of_the_family_are_what_it_says(finished: Finished) -> None:
    """Means of real patches with noise of that SD; vessels as often as there."""
    images, labels = (np.load(finished.stage("MEAN_s0", "pairs") / f"{name}.npy") for name in ("images", "labels"))
    facts = json.loads((finished.stage("MEAN_s0", "gan") / "generator.json").read_text())
    assert facts["kind"] == "mean"
    inside = np.abs(images / 32767).mean(axis=0) < 0.4
    assert np.std(images / 32767, axis=0, ddof=1)[inside].mean() == pytest.approx(0.3, rel=0.1)
    assert labels[:, 16, 16, 8].mean() > 0.5, "nearly all patches are centred on a vessel"


def test_the_loss_is_what_its_equation_says(finished: Finished) -> None:
    config = WGANConfig(patch_size=(32, 16, 16), steps=1, seed=0, filters=8, batch=2, loss="hinge", norm="none")
    trainer = WGANTrainer(config, "cpu")
    for parameter in trainer.critic.parameters():
        parameter.data.zero_()
    log = trainer.step(some_pairs())
    assert float(log["critic_loss"]) == 2.0, "a critic of zeros is one margin short on either side"
    assert float(log["margin_violations"]) == 1.0
    half = WGANTrainer(replace(config, loss_options=(("margin", 0.5),)), "cpu")
    for parameter in half.critic.parameters():
        parameter.data.zero_()
    assert float(half.step(some_pairs())["critic_loss"]) == 1.0


def some_pairs() -> torch.Tensor:
    return torch.rand(2, 2, 32, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin: 0.25", "margn: 0.25", "15:22: profiles.tiny.losses.hinge.margn: unknown key, did you mean 'margin'?"),
        ("margin: 0.25", "margin: wide", "15:22: profiles.tiny.losses.hinge.margin: input should be a valid number"),
        ("hinge:", "hing:", "15:5: profiles.tiny.losses: unknown loss 'hing', did you mean 'hinge'?"),
        ("noise: 0.3", "nois: 0.3", "16:22: profiles.tiny.mean.nois: unknown key, did you mean 'noise'?"),
    ],
)
def test_a_slip_is_told_where_it_stands(finished: Finished, tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(PROTOCOL.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        load_protocol(tmp_path / "own.yaml")
    assert message in str(refusal.value)


def test_an_option_that_the_loss_lacks_is_refused_by_the_trainer(finished: Finished) -> None:
    config = WGANConfig(patch_size=(32, 16, 16), steps=1, seed=0, filters=8)
    with pytest.raises(InputError, match="loss 'wasserstein' has no option 'margin'"):
        WGANTrainer(replace(config, loss_options=(("margin", 1.0),)), "cpu")
    with pytest.raises(InputError, match="unknown loss 'hing', did you mean 'hinge'"):
        WGANTrainer(replace(config, loss="hing"), "cpu")
