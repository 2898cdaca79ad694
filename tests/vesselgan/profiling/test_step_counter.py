"""Counted memory and operations: hand-made cases, and prediction against a real step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from vesselgan.families import FAMILIES
from vesselgan.processor import native_instructions
from vesselgan.profiling.step_counter import (
    StepCost,
    StepCounter,
    predict_step,
    predict_unet_step,
    watched_step,
)
from vesselgan.recipe import PAPER_CODE
from vesselgan.settings import AutoregressiveConfig, Privacy
from vesselgan.training import UNetConfig, UNetTrainer, WGANConfig, WGANTrainer
from vesselgan.training.counting import tensors_to_count

KIB = 1024


def test_live_bytes_follow_what_is_made_and_dropped() -> None:
    given = torch.zeros(KIB, dtype=torch.uint8)
    with StepCounter() as counter:
        counter.watch(given)
        assert counter.live == KIB
        made = given + 1
        view = made[:10]
        assert counter.live == 2 * KIB, "a view holds no memory of its own"
        del made
        assert counter.live == 2 * KIB, "the view keeps it alive"
        del view
        assert counter.live == KIB
    assert counter.peak == 2 * KIB


def test_operations_of_a_product_are_counted() -> None:
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    with StepCounter() as counter:
        a @ b
    assert counter.flops == 2 * 3 * 5 * 7


def test_what_is_alive_at_the_peak_is_told_by_its_kind() -> None:
    class Two:
        """One weight of 1 KiB with a moment, whose gradient is made, kept for a while and given to an optimiser."""

        def __init__(self) -> None:
            self.network = torch.nn.Linear(256, 1, bias=False)
            self.networks = (self.network,)
            self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)

        def step(self, given: torch.Tensor) -> None:
            self.optimiser.zero_grad()
            torch.autograd.backward(self.network(given).sum())
            more = torch.zeros(3 * KIB, dtype=torch.uint8)
            self.optimiser.step()
            del more

        def state_dict(self) -> dict[str, Any]:
            return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    two, given = Two(), torch.ones(1, 256)
    two.step(given)
    two.optimiser.zero_grad()
    counter = watched_step(two, two.step, given)
    memory = counter.memory()
    assert (memory.parameters, memory.gradients, memory.optimiser) == (KIB, KIB, KIB)
    assert memory.activations >= KIB + 3 * KIB, "what was given, and what was beside it"
    assert memory.total == counter.peak
    assert counter.state == 3 * KIB, "before the step there is no gradient"


SMALL = WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=32, batch=2)
UNET = UNetConfig(batch=2, max_steps=9, validate_every=9, seed=0, filters=(4, 8, 16))
WGANS = {
    "GP": replace(SMALL, norm="instance"),
    "GP bf16": replace(SMALL, norm="instance", precision="bf16"),
    "GP fp16": replace(SMALL, norm="instance", precision="fp16"),
    "SN": SMALL,
    "SN bf16": replace(SMALL, precision="bf16"),
    "SN fp16": replace(SMALL, precision="fp16"),
    "wide": replace(SMALL, filters=128, precision="bf16"),
    "large patches": replace(SMALL, patch_size=(64, 48, 32), batch=1),
    "in pieces": replace(SMALL, patch_size=(64, 64, 32), batch=3, precision="bf16"),
    "many patches": replace(SMALL, batch=12),
    "average": replace(SMALL, ema=0.9),
    "two critic steps": replace(SMALL, critic_steps=2),
    "the paper's code": replace(SMALL, recipe=PAPER_CODE),
    "no norm": replace(SMALL, norm="none"),
    "private": replace(SMALL, norm="none", privacy=Privacy()),
}
COUNTED: dict[str, Callable[[], tuple[StepCost, Any, tuple[torch.Tensor, ...]]]] = {
    **{name: lambda config=config: counted_wgan(config) for name, config in WGANS.items()},
    "U-Net": lambda: counted_unet(UNET),
    "U-Net bf16": lambda: counted_unet(replace(UNET, precision="bf16", ema=0.9)),
    "autoregressive": lambda: counted_autoregressive(),
}


def counted_wgan(config: WGANConfig) -> tuple[StepCost, Any, tuple[torch.Tensor, ...]]:
    return predict_step(config), WGANTrainer(config, "cpu"), (torch.zeros(config.batch, 2, *config.patch_size),)


def counted_unet(config: UNetConfig) -> tuple[StepCost, Any, tuple[torch.Tensor, ...]]:
    size = (32, 32, 16)
    inputs = (torch.zeros(config.batch, 1, *size), torch.zeros(config.batch, 1, *size))
    return predict_unet_step(config, size), UNetTrainer(config, "cpu"), inputs


def counted_autoregressive() -> tuple[StepCost, Any, tuple[torch.Tensor, ...]]:
    family = FAMILIES["autoregressive"]
    config = AutoregressiveConfig(patch_size=(32, 32, 16), steps=9, seed=0, filters=8, batch=4)
    return family.step_cost(config), family.trainer(config, "cpu"), (torch.zeros(4, 2, 32, 32, 16),)


# Where kernels take memory for themselves: convolutions that no fast one serves on this CPU unfold their input.
WITH_WORKSPACES = ("GP fp16", "SN fp16", "large patches", "U-Net", "U-Net bf16", "autoregressive")
# Kernels with tiles (AMX) pack what they read of bf16 first.
TILED = native_instructions("bf16") == "amx_bf16"


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that all are counted on fake tensors."""
    monkeypatch.setattr("vesselgan.training.counting._LARGE", 0)


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.usefixtures("all_are_large")
def test_the_predicted_peak_is_that_of_a_real_step(name: str) -> None:
    """By the same counter on real tensors, and by PyTorch's own record of what its allocator gave and took back."""
    cost, trainer, inputs = COUNTED[name]()
    trainer.step(*inputs)
    counter = watched_step(trainer, trainer.step, *inputs)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        trainer.step(*inputs)
    live = allocated = counter.state
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            allocated = max(allocated, live)
    print(f"{name:>20} {cost.peak_bytes:>10} predicted {counter.peak:>10} counted {allocated:>10} allocated")
    assert cost.peak_bytes == pytest.approx(counter.peak, rel=0.05)
    assert cost.state_bytes == counter.state
    assert cost.flops == counter.flops
    assert cost.peak_bytes < 1.05 * allocated
    if not (name in WITH_WORKSPACES or (TILED and trainer.config.precision == "bf16")):
        assert cost.peak_bytes == pytest.approx(allocated, rel=0.05)


@pytest.mark.parametrize("name", ["GP bf16", "SN", "average", "two critic steps", "the paper's code", "private"])
@pytest.mark.usefixtures("all_are_large")
def test_a_step_is_counted_as_if_another_had_gone_before(name: str) -> None:
    config = WGANS[name]
    with FakeTensorMode():
        trainer, real = WGANTrainer(config, "cpu"), torch.zeros(config.batch, 2, *config.patch_size)
        trainer.step(real)
        second = watched_step(trainer, trainer.step, real)
    cost = predict_step(config)
    assert (cost.memory, cost.state_bytes, cost.flops) == (second.memory(), second.state, second.flops)


@pytest.mark.parametrize(("size", "filters", "is_small"), [(32, 64, True), (16, 512, True), (16, 1024, False)])
def test_wide_networks_are_large_however_small_their_patches(size: int, filters: int, is_small: bool) -> None:
    with tensors_to_count(2, (size, size, 16), filters) as mode:
        assert (mode is None) == is_small


def test_a_small_step_is_computed_which_is_the_faster_way_to_count_it(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = predict_step(SMALL)
    monkeypatch.setattr("vesselgan.training.counting.FakeTensorMode", lambda: pytest.fail("it is small"))
    assert predict_step(SMALL) == computed
    with pytest.raises(pytest.fail.Exception):
        predict_step(replace(SMALL, filters=1024))


def test_the_papers_size_is_predicted_without_its_memory() -> None:
    config = WGANConfig(patch_size=(128, 128, 64), steps=1, seed=0, filters=1024, precision="fp16", batch=4)
    cost = predict_step(config)
    parameters = 289_123_714 + 18_850_433
    assert cost.peak_bytes > 4 * 4 * parameters, (
        "weights, gradients and two moments are float32 even in mixed precision"
    )
    assert cost.flops > 1e12
