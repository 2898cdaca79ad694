"""What is told before a run starts: every shipped protocol and profile, what is left to do, and what it will take."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from paths import ROOT
from typer.testing import CliRunner

import benchmark.run.forecast as prediction
import benchmark.run.memory as memory
from benchmark.commands import app
from benchmark.protocol.load import load_protocol
from vesselgan.data import save_volume
from vesselgan.families import FAMILIES, Family
from vesselgan.processor import native_instructions
from vesselgan.profiling.step_counter import StepCost, predict_step
from vesselgan.training import WGANConfig, WGANTrainer

PROTOCOLS = sorted((ROOT / "protocols").glob("*.yaml"))
ALL = [(path.stem, profile) for path in PROTOCOLS for profile in load_protocol(path).profiles]


@pytest.fixture(scope="module")
def counted() -> dict[Any, StepCost]:
    return {}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty subjects, as many as the largest arm of `utility` needs; a plan reads no voxels."""
    folder, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index in range(40):
        save_volume(folder / f"imagesTr/case_{index:03d}_0000.nii.gz", rng.random((4, 4, 4)), np.eye(4))
        save_volume(folder / f"labelsTr/case_{index:03d}.nii.gz", rng.random((4, 4, 4)) > 0.5, np.eye(4))
    return folder


@pytest.fixture
def dry_run(counted: dict[Any, StepCost], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The command, in this process. A step of each kind is counted once, at a small size; no speed is measured."""

    def count(family: Family[Any], config: Any, device: str) -> StepCost:
        kind = replace(config, patch_size=(32, 32, 16), filters=16, batch=2, ema=config.ema and 0.9)
        kind = replace(kind, precision="fp32" if config.precision == "fp32" else "bf16")
        if isinstance(kind, WGANConfig):
            kind = replace(kind, critic_steps=min(kind.critic_steps, 2))
        if kind not in counted:
            counted[kind] = family.step_cost(kind)
        return counted[kind]

    for module in (prediction, memory):
        monkeypatch.setattr(module, "counted", count)
    monkeypatch.setattr(prediction, "probed", lambda family, precision, device: (10**9, 1.0))

    def run(*arguments: object) -> Result:
        command = ["run", *map(str, arguments), "--dry-run", "--out", str(tmp_path), "--device", "cpu"]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    return run


@pytest.mark.parametrize(("protocol", "profile"), ALL)
def test_every_shipped_protocol_and_profile_has_a_dry_run(
    protocol: str, profile: str, dry_run: Callable[..., Result], cohort: Path, medicalnet_file: Path, tmp_path: Path
) -> None:
    real = load_protocol(next(path for path in PROTOCOLS if path.stem == protocol)).profiles[profile].requires.data
    data = ("--data", cohort, "--weights", medicalnet_file, "--pair-by-listing")
    result = dry_run(protocol, "--profile", profile, *(data if real else ()))
    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("predicted: "))
    trains = protocol != "precision"
    assert ("of training generators (each: " in line) == trains
    assert ("configurations" in line) != trains
    assert ("of disk" in line) == trains
    assert "(each: )" not in line
    emulated = native_instructions("fp16") is None
    assert ("fp16 is emulated on this device" in result.stdout) == (emulated and profile in ("paper", "gpu"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_predicted_follows_the_cells_that_are_chosen(dry_run: Callable[..., Result]) -> None:
    everything = dry_run("paper", "--profile", "smoke").stdout
    one = dry_run("paper", "--profile", "smoke", "-k", "SN and not MP").stdout
    assert "GP under a minute, SN under a minute, SN-MP" in everything
    assert "(each: SN under a minute)" in one
    assert "no generator is left to train" in dry_run("paper", "--profile", "smoke", "-k", "real").stdout


def test_the_plan_and_its_prediction_are_there_for_programs(dry_run: Callable[..., Result]) -> None:
    result = dry_run("paper", "--profile", "smoke", "--json", "-k", "SN and not MP")
    plan: dict[str, Any] = json.loads(result.stdout)
    assert plan["run"] == "paper-smoke"
    assert [cell["id"] for cell in plan["cells"]] == ["SN_f16_s0"]
    assert {stage["state"] for stage in plan["cells"][0]["stages"].values()} == {"to do"}
    assert plan["predicted"]["trainings"] == 1
    assert plan["predicted"]["hours"] > 0


def test_networks_of_more_sizes_than_can_be_counted_are_not(
    dry_run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "MOST_SIZES", 3)
    for protocol, sizes in (("paper", 4), ("precision", 8)):
        result = dry_run(protocol, "--profile", "smoke")
        assert f"predicted: {sizes} generators of different sizes are not counted" in result.stdout
        assert "choose some cells with -k" in result.stdout
    asked = json.loads(dry_run("paper", "--profile", "smoke", "--json").stdout)["predicted"]
    assert (asked["hours"], asked["memory_gib"], asked["trainings"]) == (None, None, 4)
    assert "(each: SN under a minute)" in dry_run("paper", "--profile", "smoke", "-k", "SN and not MP").stdout


@pytest.mark.parametrize("name", FAMILIES)
def test_the_step_that_is_timed_is_counted_as_one_on_fake_tensors_is(name: str) -> None:
    family = FAMILIES[name]
    flops, seconds = prediction.probed(family, "fp32", "cpu")
    assert flops == family.step_cost(family.probe("fp32")).flops
    assert seconds > 0


def test_a_step_that_waited_for_other_programs_is_not_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step that was slow made 15 minutes of training 58 hours."""
    told = iter([9.0, 1.0, 2.0])
    monkeypatch.setattr(prediction, "seconds_per_step", lambda trainer, real, steps: next(told))
    _, seconds = prediction.probed.__wrapped__(FAMILIES["wgan"], "fp32", "cpu")
    assert seconds == 1.0


def test_the_state_between_steps_is_part_of_the_peak() -> None:
    config = WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=16, batch=2, ema=0.9)
    cost = predict_step(config)
    trainer = WGANTrainer(config, "cpu")
    weights = sum(weight.nbytes for net in (trainer.generator, trainer.critic) for weight in net.parameters())
    assert 3 * weights < cost.state_bytes < cost.peak_bytes, "weights and two moments, the average and gradients"
