"""Trainings on a card: kernels checked, the loss scale, stopping and going on, memory, and what does not fit."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmark.commands import app
from benchmark.run.calibration import calibrate
from vesselgan.families import FAMILIES
from vesselgan.networks.last_block import pieces_as_on
from vesselgan.profiling.step_counter import predict_step
from vesselgan.profiling.timing import peak_tensor_bytes
from vesselgan.training import WGANConfig, WGANTrainer
from vesselgan.training.guard import Outcome

pytestmark = pytest.mark.cuda

DEVICE = os.environ.get("VESSELGAN_TEST_DEVICE", "cuda")
SIZE = (64, 64, 32) if DEVICE == "cuda" else (32, 32, 16)
FILTERS = 128 if DEVICE == "cuda" else 16


def config(**settings: Any) -> WGANConfig:
    common: dict[str, Any] = {"patch_size": SIZE, "filters": FILTERS, "batch": 4, "steps": 99, "seed": 0}
    return WGANConfig(**common | settings)


def batch(step: int) -> torch.Tensor:
    return torch.rand(4, 2, *SIZE, generator=torch.Generator().manual_seed(step)) * 2 - 1


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def test_the_products_of_a_smoke_run_are_right_here_or_got_round() -> None:
    result = CliRunner().invoke(app, ["check-numerics", "paper", "--profile", "smoke", "--device", DEVICE])
    print(result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "error:" not in result.output, "an operation that no way computes rightly"
    assert "operations, " in result.output


def test_the_loss_scale_of_fp16_only_falls_with_an_overflow() -> None:
    trainer = WGANTrainer(config(precision="fp16"), DEVICE)
    logs = [trainer.step(batch(step)) for step in range(30)]
    scales = [float(log["loss_scale"]) for log in logs]
    print("loss scales:", scales)
    for log, scale, after in zip(logs, scales, scales[1:], strict=False):
        overflowed = int(log["outcome"]) == Outcome.LOSS_SCALE
        assert after == (scale / 2 if overflowed else scale)
    assert int(logs[-1]["outcome"]) == Outcome.APPLIED
    assert all(bool(log["critic_loss"].isfinite()) for log in logs[10:])


@pytest.mark.parametrize("norm", ["instance", "spectral"])
def test_seven_and_thirteen_steps_are_twenty_to_the_bit(norm: str, deterministic: None) -> None:
    def made() -> WGANTrainer:
        trainer = WGANTrainer(config(norm=norm), DEVICE)
        torch.backends.cudnn.benchmark = False  # which may choose another algorithm each time
        return trainer

    whole = made()
    for step in range(20):
        whole.step(batch(step))
    first = made()
    for step in range(7):
        first.step(batch(step))
    second = made()
    second.load_state_dict(first.state_dict())
    for step in range(7, 20):
        second.step(batch(step))
    for network, other in zip(whole.networks, second.networks, strict=True):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("norm", ["instance", "spectral"])
def test_the_peak_of_the_memory_is_near_the_prediction(norm: str, precision: Any) -> None:
    if DEVICE == "cpu" and precision == "tf32":
        pytest.skip("cpu has no tf32")
    asked = config(norm=norm, precision=precision)
    with pieces_as_on(DEVICE):
        predicted = predict_step(asked)
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated() if DEVICE == "cuda" else 0
    trainer, real = WGANTrainer(asked, DEVICE), batch(0).to(DEVICE)
    trainer.step(real)
    with peak_tensor_bytes(trainer, real) as peak:
        trainer.step(real)
    found = peak() - before
    print(
        f"{norm} {precision}: {predicted.peak_bytes} predicted, {found} allocated, {found / predicted.peak_bytes:.3f}"
    )
    # Workspaces come on top of tensors: how much is what a card has to say.
    assert 0.95 < found / predicted.peak_bytes < 2


def test_a_step_that_does_not_fit_is_a_result_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES["wgan"]
    wide, narrow = config(filters=8 * FILTERS), config()
    if DEVICE == "cuda":
        room = predict_step(wide).peak_bytes / 2 / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(room)
    else:
        monkeypatch.setattr(
            "vesselgan.training.counting._LARGE", 0
        )  # or the step that is counted would be refused, too
        make = type(family).trainer

        def refuse(self: Any, asked: WGANConfig, device: str) -> Any:
            if asked.filters == wide.filters and torch._guards.detect_fake_mode() is None:
                raise torch.OutOfMemoryError
            return make(self, asked, device)

        monkeypatch.setattr(type(family), "trainer", refuse)
    try:
        found = calibrate([("wide", family, wide), ("narrow", family, narrow)], DEVICE)
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    print(found.model_dump_json(indent=1))
    full = {one.what: one for one in found.steps if one.precision == "fp32"}
    assert full["wide"].allocated_bytes is None
    assert full["narrow"].allocated_bytes is not None
