"""What `plan` says of a protocol, for a device that is not here."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmark.artifacts.roles import Role
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.plan import build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import choose_profile, find_protocol, load_protocol
from benchmark.run import calibration as calibrating
from benchmark.run.memory import stage_memory
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES
from vesselgan.profiling.step_counter import predict_step
from vesselgan.training import WGANConfig

Asked = Callable[..., Result]
SMOKE_SN = ("paper", "--profile", "smoke", "-k", "SN and not MP")


@pytest.fixture(scope="module")
def plan() -> Asked:
    def asked(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["plan", *map(str, arguments)], catch_exceptions=False)

    return asked


@pytest.fixture(scope="module")
def smoke(plan: Asked) -> dict[str, Any]:
    """A device on which SN fits, but for what nobody has measured."""
    needed = predict_step(WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=16, batch=4)).peak_bytes
    size = f"{1.05 * needed / 2**20:.3f}MiB"
    chosen = ("--profile", "smoke", "-k", "SN or real", "--gpu-memory", size, "--device-tflops", "fp32=10,bf16=40")
    found: dict[str, Any] = json.loads(plan("paper", *chosen, "--json").stdout)
    return found | {"memory": 1.05 * needed}


def step(found: dict[str, Any], label: str) -> dict[str, Any]:
    (one,) = (step for step in found["steps"] if label in step["labels"])
    return dict(one)


@pytest.mark.slow
def test_the_papers_profile_is_planned_without_data_weights_or_a_gpu(plan: Asked) -> None:
    started = time.process_time()
    found = json.loads(
        plan("paper", "--profile", "paper", "--gpu-memory", "16GiB", "--device-tflops", "10", "--json").stdout
    )
    assert time.process_time() - started < 40, "under 20 on a quiet machine"
    assert found["device"] == "cuda"
    assert found["training_patches"] == 2350
    assert found["data"].startswith("as many subjects as the profile splits")
    wide = step(found, "c-SN-MP")
    assert wide["cost"]["parameters"] == 289_123_714 + 18_850_433
    assert wide["steps"] == 100 * 588
    full, mixed = found["widest"]
    assert full["filters"] < mixed["filters"], "why the paper widened its model in mixed precision"


def test_the_parts_of_the_memory_are_those_of_the_networks(smoke: dict[str, Any]) -> None:
    for each in smoke["steps"]:
        memory = each["cost"]["memory"]
        assert sum(memory.values()) == each["peak_bytes"]
        if each["network"] == "generator":  # beside buffers; Adam has two moments
            assert memory["parameters"] == pytest.approx(4 * each["cost"]["parameters"], rel=0.1)
            assert memory["optimiser"] == pytest.approx(8 * each["cost"]["parameters"], rel=0.1)
    full, mixed = (step(smoke, label)["cost"]["memory"]["activations"] for label in ("SN", "SN-MP"))
    assert 0.5 < mixed / full < 1, "half the bytes, but for what stays in float32"


def test_hours_are_operations_over_the_speed_that_was_given(smoke: dict[str, Any]) -> None:
    for label, speed in (("SN", 10e12), ("SN-MP", 40e12)):
        own = step(smoke, label)
        assert own["hours"] == pytest.approx(own["cost"]["flops"] * own["steps"] / speed / 3600)
    of_all = sum(one["hours"] * one["trainings"] for one in smoke["steps"] if one["labels"])
    assert smoke["hours"] == pytest.approx(of_all)


def test_which_cells_fit_follows_the_memory(smoke: dict[str, Any], plan: Asked) -> None:
    assert smoke["fitting"]["SN_f16_s0"] == "tight"
    assert smoke["fitting"]["c-SN-MP_f32_s0"] == "no"
    told = plan(*SMOKE_SN, "--gpu-memory", "0.01MiB").stdout
    assert "widest WGAN (spectral) in 0.01MiB: none in fp32/tf32" in told
    assert "fits no: SN_f16_s0" in told


def test_the_widest_that_fits_is_followed_by_one_that_does_not(smoke: dict[str, Any]) -> None:
    full, mixed = smoke["widest"]
    assert full["formats"] == ["fp32", "tf32"]
    assert full["filters"] <= mixed["filters"]
    room = 0.85 * smoke["memory"]
    config = WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=full["filters"], batch=4)
    assert full["needed_bytes"] == predict_step(config).peak_bytes <= room
    assert predict_step(replace(config, filters=full["filters"] + 8)).peak_bytes > room


def test_cells_can_be_chosen_without_those_that_they_rest_on(plan: Asked) -> None:
    found = json.loads(plan("utility", "--profile", "smoke", "-k", "real+", "--json").stdout)
    assert [step["network"] for step in found["steps"]] == ["U-Net"]
    assert found["fitting"] == {}


@pytest.mark.slow
def test_a_calibrated_plan_has_the_time_and_memory_that_were_measured(plan: Asked, tmp_path: Path) -> None:
    kept = tmp_path / "here.json"
    told = plan(*SMOKE_SN, "--calibrate", kept).stdout
    assert "calibrated by" in told
    found = calibrating.load_calibration(kept)
    assert {one.precision for one in found.steps} >= {"fp32"}
    for one in found.steps:
        assert one.allocated_bytes is not None
        assert one.predicted_bytes == pytest.approx(one.allocated_bytes, rel=0.05)
    # Twice the reserve, a thousandth of the speed, and a context.
    slow = found.model_copy(
        update={
            "context_bytes": 1000,
            "steps": [
                one.model_copy(update={"reserved_bytes": 2 * one.predicted_bytes, "flops_per_s": 1e6})
                for one in found.steps
            ],
        }
    )
    calibrating.save_calibration(slow, kept)
    planned = json.loads(plan(*SMOKE_SN, "--calibration", kept, "--json").stdout)
    own = step(planned, "SN")
    assert own["needed_bytes"] == 2 * own["peak_bytes"] + 1000
    assert own["hours"] == pytest.approx(own["cost"]["flops"] * own["steps"] / 1e6 / 3600)


def test_a_step_that_does_not_fit_is_a_result_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    family = FAMILIES["wgan"]
    narrow, wide = (WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=width, batch=1) for width in (8, 16))
    make = type(family).trainer

    def refuse(self: Any, config: WGANConfig, device: str) -> Any:
        if config.filters == 16 and torch._guards.detect_fake_mode() is None:
            raise torch.OutOfMemoryError
        return make(self, config, device)

    monkeypatch.setattr(type(family), "trainer", refuse)
    monkeypatch.setattr(calibrating, "FORMATS", ("fp32",))
    monkeypatch.setattr("vesselgan.training.counting._LARGE", 0)  # predicted on fake tensors, though it is small
    found = calibrating.calibrate([("wide", family, wide), ("narrow", family, narrow)], "cpu")
    by_name = {one.what: one for one in found.steps}
    assert by_name["wide"].allocated_bytes is None
    assert by_name["narrow"].allocated_bytes is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu-memory", "much"), "--gpu-memory 'much': give a size such as 16GiB"),
        (("--gpu-memory", "0"), "--gpu-memory '0': give a size"),
        (("--device-tflops", "fast"), "--device-tflops 'fast': give a positive number"),
        (("--device-tflops", "fp64=3"), "--device-tflops 'fp64=3': give a positive number"),
        (("--device-tflops", "-1"), "--device-tflops '-1': give a positive number"),
        (("--calibration", "none.json"), "none.json: no such file; make it on the machine that is planned for"),
        (("--calibration", "x", "--calibrate", "y"), "give one of them"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(arguments: tuple[str, ...], said: str, plan: Asked) -> None:
    with pytest.raises(InputError) as error:
        plan("paper", "--profile", "smoke", *arguments)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_calibration_is_named(plan: Asked, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"device": "x", "kind": "cuda", "versions": {}, "date": "", "steps": 3}')
    with pytest.raises(InputError, match=r"wrong.json: steps: Input should be a valid array; make it on"):
        plan("paper", "--profile", "smoke", "--calibration", wrong)


def test_the_memory_of_stages_is_there_for_engines() -> None:
    loaded = load_protocol(find_protocol("paper"))
    name, profile = choose_profile(loaded, "smoke")
    source = choose_source(name, profile, None)
    planned = build_plan(loaded, name, profile, cells_of(loaded, profile), source, "cpu")
    memory = {role: stage_memory(planned, planned.keys_of(role)[0]) for role in Role if planned.keys_of(role)}
    gan = planned.specs[planned.keys_of(Role.GAN)[0]]
    assert gan.options["wgan"]["norm"] == "instance"
    config = WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=16, batch=4, norm="instance")
    assert memory[Role.GAN] == predict_step(config).peak_bytes
    assert memory[Role.DATA] is None
    assert memory[Role.VERIFY_GAN] is None
    for role in (Role.UNET, Role.MEASURE):
        nbytes = memory[role]
        assert nbytes is not None
        assert nbytes > 2**20
    measured, trained = memory[Role.MEASURE], memory[Role.GAN]
    assert measured is not None
    assert trained is not None
    assert measured > trained, "all configurations are in memory"
