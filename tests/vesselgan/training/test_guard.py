"""Garbage in the middle of a training: it is rejected, counted, and where it is too much, the reason is told."""

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from benchmark.stages import STAGES, Context
from vesselgan.data import EpochSampler, open_store
from vesselgan.families.wgan import real_pairs
from vesselgan.networks import UNet
from vesselgan.recipe import CORRECTED
from vesselgan.training import (
    Outcome,
    Privacy,
    UNetConfig,
    UNetTrainer,
    WGANConfig,
    WGANTrainer,
    load_checkpoint,
    save_checkpoint,
    train_unet,
    train_wgan,
)
from vesselgan.training import guard as guard_module
from vesselgan.training.guard import CEILING, FACTOR, FLOOR, WARM_UP, GuardedOptimiser, KeptBuffers, StepGuard, Update

SIZE = (16, 16, 16)
CONFIG = WGANConfig(patch_size=SIZE, filters=8, latent=8, steps=30, seed=5, batch=2, norm="spectral", ema=0.9)
UNET = UNetConfig(batch=2, max_steps=30, validate_every=30, seed=1, filters=(4, 8), dropout=0.2, lr=1e-3, ema=0.9)
CPU = torch.device("cpu")

FORMATS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "plain": {"plain": True},
    "plain fp16": {"plain": True, "precision": "fp16"},
    "private": {"norm": "none", "privacy": Privacy()},
    "private bf16": {"norm": "none", "privacy": Privacy(), "precision": "bf16"},
}


def real_batch(step: int) -> Tensor:
    return torch.rand(2, 2, *SIZE, generator=torch.Generator().manual_seed(step)) * 2 - 1


def unet_batch(step: int) -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(step))
    return images, (images > 1).float()


def contents(trainer: WGANTrainer | UNetTrainer, *, without: tuple[str, ...] = ()) -> list[Any]:
    """All that a checkpoint would hold of what a training has learned, as copies."""
    state = {name: value for name, value in trainer.state_dict().items() if name not in without}
    state.pop("steps_done")
    state.pop("losses", None)  # of the U-Net's log
    state["scaler"].pop("_growth_tracker", None)  # how long since the scale last changed
    return [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in tree_leaves(state)]


def equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(one, other, strict=True)
    )


def garbage_once(module: nn.Module, value: float, call: int = 0) -> None:
    """At its n-th call from now the module's output is this number, as a wrong kernel's may be; right ever after."""
    calls = [call]

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        calls[0] -= 1
        if calls[0] >= 0:
            return output
        handle.remove()
        return output * 0 + value

    handle = module.register_forward_hook(hook)


@cache
def warm_state(config: WGANConfig) -> dict[str, Any]:
    trainer = WGANTrainer(config, "cpu")
    while int(trainer.state_dict()["generator_guard"]["accepted"]) <= WARM_UP:
        trainer.step(real_batch(trainer.steps_done))
    return trainer.state_dict()


def warmed_up(config: WGANConfig) -> WGANTrainer:
    trainer = WGANTrainer(config, "cpu")
    trainer.load_state_dict(copy.deepcopy(warm_state(config)))
    return trainer


@pytest.mark.parametrize(
    ("name", "value"),
    # A private update clips every sample's gradient, so that no finite one is absurd.
    [
        (name, value)
        for name in FORMATS
        for value in (math.nan, math.inf, 1e30)
        if value != 1e30 or "private" not in name
    ],
)
def test_garbage_in_the_critic_leaves_every_weight_moment_average_and_buffer_as_it_was(name: str, value: float) -> None:
    trainer = warmed_up(replace(CONFIG, **FORMATS[name]))
    before = contents(trainer)
    garbage_once(trainer.critic.blocks[1], value)
    log = trainer.step(real_batch(99))
    assert int(log["outcome"]) > Outcome.LOSS_SCALE
    assert equal(contents(trainer), before)
    assert int(trainer.step(real_batch(100))["outcome"]) == Outcome.APPLIED
    assert not equal(contents(trainer), before)


@pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS.keys())
def test_a_generator_whose_activations_are_absurd_for_once_leaves_no_trace_in_its_running_statistics(
    settings: dict[str, Any],
) -> None:
    """Its patches end in a tanh, so no loss would tell."""
    trainer = warmed_up(replace(CONFIG, **settings))
    before = contents(trainer)
    garbage_once(trainer.generator.linear, 1e15 if settings.get("precision") != "fp16" else float("inf"))
    log = trainer.step(real_batch(99))
    assert int(log["outcome"]) > Outcome.LOSS_SCALE
    assert equal(contents(trainer), before)


@pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS.keys())
def test_garbage_in_the_generators_part_alone_costs_only_the_generators_update(settings: dict[str, Any]) -> None:
    trainer = warmed_up(replace(CONFIG, **settings))
    of_critic = ("critic", "critic_optimiser", "critic_guard")
    before = contents(trainer, without=of_critic)
    critic = trainer.critic.score.weight.detach().clone()
    garbage_once(trainer.generator.linear, float("nan"), call=1)
    trainer.step(real_batch(99))
    # What the generator's forward moved in the critic's part was right, and stays.
    statistics = [name for name in trainer.generator.state_dict() if "running" in name or "tracked" in name]
    assert statistics
    changed = [
        torch.equal(a, b)
        for a, b in zip(contents(trainer, without=of_critic), before, strict=True)
        if isinstance(a, Tensor)
    ].count(False)
    assert changed == len(statistics)
    assert not torch.equal(trainer.critic.score.weight, critic)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("value", [float("nan"), 1e15])
def test_garbage_in_a_unet_leaves_it_as_it_was(precision: Any, value: float) -> None:
    trainer = UNetTrainer(replace(UNET, precision=precision), "cpu")
    for step in range(WARM_UP + 1):
        trainer.step(*unet_batch(step))
    before = contents(trainer)
    garbage_once(trainer.unet.encoder[0], value)
    log = trainer.step(*unet_batch(99))
    assert int(log.outcome) > Outcome.LOSS_SCALE
    assert equal(contents(trainer), before)
    trainer.validate(lambda unet: 0.0)
    assert int(trainer.step(*unet_batch(100)).outcome) == Outcome.APPLIED


def test_a_rejected_step_is_left_out_of_the_mean_training_loss() -> None:
    trainer = UNetTrainer(replace(UNET, validate_every=2), "cpu")
    loss = float(trainer.step(*unet_batch(0)).loss)
    garbage_once(trainer.unet.output, float("nan"))
    trainer.step(*unet_batch(1))
    trainer.validate(lambda unet: 0.0)
    assert trainer.history[0].training_loss == loss


def test_of_several_critic_passes_a_rejected_one_forbids_the_generators_update() -> None:
    trainer = warmed_up(replace(CONFIG, critic_steps=3))
    critic, generator = trainer.critic.score.weight.detach().clone(), contents(trainer, without=("critic",))
    steps = next(iter(trainer.state_dict()["critic_optimiser"]["state"].values()))["step"].clone()
    garbage_once(trainer.critic.blocks[1], float("nan"), call=3)  # three calls a pass
    log = trainer.step(real_batch(99))
    assert int(log["outcome"]) == Outcome.NOT_FINITE
    assert int(next(iter(trainer.state_dict()["critic_optimiser"]["state"].values()))["step"]) == int(steps) + 2
    assert not torch.equal(trainer.critic.score.weight, critic)
    weights = list(trainer.generator.parameters())
    assert all(any(torch.equal(weight, leaf) for leaf in generator if isinstance(leaf, Tensor)) for weight in weights)


def unguarded_step(self: GuardedOptimiser, *losses: Tensor, held: Tensor | None = None) -> Update:
    """What a step was before there was a guard."""
    self._scaler.step(self._optimiser)
    return Update(guard_module.gradient_norm(self._network), torch.zeros((), dtype=torch.int64))


def logged(train: Callable[[Any], Any]) -> list[Mapping[str, float]]:
    seen: list[Mapping[str, float]] = []
    train(lambda step, values: seen.append({name: value for name, value in values.items() if name != "outcome"}))
    return seen


@pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS.keys())
def test_a_healthy_training_is_that_without_a_guard_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    config = replace(CONFIG, steps=WARM_UP + 4, critic_steps=2, **settings)

    def train(name: str) -> tuple[str, list[Any]]:
        path = tmp_path / name
        seen = logged(lambda on_step: train_wgan(config, real_batch, device="cpu", checkpoint=path, on_step=on_step))
        state = load_checkpoint(path)
        return repr(seen), tree_leaves(
            [value for key, value in state.items() if "guard" not in key and key != "bad_steps"]
        )

    guarded = train("guarded.pt")
    monkeypatch.setattr(GuardedOptimiser, "step", unguarded_step)
    bare = train("bare.pt")
    assert guarded[0] == bare[0]
    assert equal(guarded[1], bare[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_healthy_unet_is_that_without_a_guard_to_the_bit(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    def train() -> list[Any]:
        trainer = UNetTrainer(replace(UNET, precision=precision), "cpu")
        logs = [trainer.step(*unet_batch(step))[:3] for step in range(WARM_UP + 4)]
        return [*tree_leaves(logs), *contents(trainer, without=("guard",))]

    guarded = train()
    monkeypatch.setattr(GuardedOptimiser, "step", unguarded_step)
    assert repr(train()) == repr(guarded)


def test_the_rule_knows_numbers_that_are_none_absurd_ones_and_growth() -> None:
    def readings(*values: float) -> list[Tensor]:
        return [torch.tensor(value) for value in values]

    rule = StepGuard(2, CPU)
    assert int(rule.judge(readings(2 * CEILING, 0.0))) == Outcome.ABSURD
    for _ in range(WARM_UP):
        assert int(rule.judge(readings(-2.0, 1e6))) == Outcome.APPLIED, "anything below the ceiling, at first"
    assert int(rule.judge(readings(2.1 * FACTOR, 0.0))) == Outcome.ABSURD
    assert int(rule.judge(readings(-2.1 * FACTOR, 0.0))) == Outcome.ABSURD
    assert int(rule.judge(readings(1.9 * FACTOR, float("nan")))) == Outcome.NOT_FINITE
    assert int(rule.judge(readings(1.9 * FACTOR, 0.0), torch.tensor(int(Outcome.ABSURD)))) == Outcome.ABSURD
    assert int(rule.judge(readings(2.1 * FACTOR, 0.0))) == Outcome.ABSURD, "what is rejected teaches nothing"
    assert int(rule.judge(readings(1.9 * FACTOR, 0.0))) == Outcome.APPLIED
    assert int(rule.judge(readings(2.1 * FACTOR, 0.0))) == Outcome.APPLIED
    assert int(rule.judge(readings(2 * CEILING, 0.0))) == Outcome.ABSURD
    scaled = StepGuard(2, CPU, scaled=True)
    assert int(scaled.judge(readings(1.0, float("inf")))) == Outcome.LOSS_SCALE
    assert int(scaled.judge(readings(float("inf"), float("inf")))) == Outcome.NOT_FINITE
    assert int(scaled.judge(readings(2 * CEILING, float("inf")))) == Outcome.ABSURD


def test_buffers_of_any_kind_are_put_back_where_that_is_asked_for() -> None:
    network = nn.BatchNorm3d(3)
    buffers = KeptBuffers(network)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.full((2, 3, 4, 4, 4), 1e20))
    assert float(buffers.largest()) > 1e18
    buffers.put_back(torch.tensor(False))
    assert int(network.num_batches_tracked) == 1  # type: ignore[arg-type]
    buffers.put_back(torch.tensor(True))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_a_loss_scale_that_overflows_is_lowered_and_one_that_met_garbage_is_not() -> None:
    trainer = warmed_up(replace(CONFIG, precision="fp16"))
    scale = trainer.precision.scaler.get_scale()
    garbage_once(trainer.critic.blocks[1], float("nan"))
    trainer.step(real_batch(99))
    assert trainer.precision.scaler.get_scale() == scale
    trainer.precision.scaler.update(2.0**40)
    log = trainer.step(real_batch(100))
    assert int(log["outcome"]) == Outcome.LOSS_SCALE
    assert trainer.precision.scaler.get_scale() == 2.0**39


def spoiled(bad: Callable[[int], bool]) -> Callable[[int], Tensor]:
    return lambda step: real_batch(step) * float("nan") if bad(step) else real_batch(step)


def test_nineteen_bad_steps_of_twenty_are_stopped_over_any_number_of_restarts(tmp_path: Path) -> None:
    batches, done = spoiled(lambda step: step % 20 != 19), -1

    def crash_now_and_then(step: int) -> Tensor:
        nonlocal done
        if step % 5 == 4 and step > done:
            done = step
            raise KeyboardInterrupt
        return batches(step)

    def restart_for_ever() -> None:
        while True:
            with suppress(KeyboardInterrupt):
                train_wgan(
                    replace(CONFIG, steps=200),
                    crash_now_and_then,
                    device="cpu",
                    checkpoint=tmp_path / "c.pt",
                    checkpoint_every_s=0,
                )
                return

    with pytest.raises(RuntimeError, match="step 21: losses or gradients of 21 steps of 22 were not finite or absurd"):
        restart_for_ever()


def test_one_bad_step_in_thirty_is_counted_and_no_reason_to_stop(tmp_path: Path) -> None:
    seen: list[float] = []
    path = tmp_path / "c.pt"
    config = replace(CONFIG, steps=90, max_bad_steps=1, ema=None)
    with pytest.raises(RuntimeError, match="step 0: losses or gradients of 1 steps in a row"):
        train_wgan(config, spoiled(lambda step: step % 30 == 0), device="cpu")
    config = replace(config, max_bad_steps=2)
    train_wgan(
        config,
        spoiled(lambda step: step % 30 == 0),
        device="cpu",
        checkpoint=path,
        on_step=lambda step, values: seen.append(values["outcome"]),
    )
    assert [step for step, outcome in enumerate(seen) if outcome] == [0, 30, 60]
    assert load_checkpoint(path)["bad_steps"]["NOT_FINITE"] == 3


def test_a_short_training_of_mostly_bad_steps_is_no_training() -> None:
    with pytest.raises(RuntimeError, match="of 5 steps of 8 were not finite or absurd; the batch itself"):
        train_wgan(replace(CONFIG, steps=8), spoiled(lambda step: step < 5), device="cpu")
    train_wgan(replace(CONFIG, steps=8), spoiled(lambda step: step < 4), device="cpu")


def test_a_checkpoint_of_before_there_was_a_guard_is_continued(tmp_path: Path) -> None:
    path, config = tmp_path / "c.pt", replace(CONFIG, steps=6)
    whole = train_wgan(config, real_batch, device="cpu")
    train_wgan(replace(config, steps=3), real_batch, device="cpu", checkpoint=path)
    state = load_checkpoint(path)
    for name in ("critic_guard", "generator_guard", "bad_steps"):
        del state[name]
    state["average"]["updates"] = int(state["average"]["updates"])
    save_checkpoint(path, state)
    resumed = train_wgan(config, real_batch, device="cpu", checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def wrong_where(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], bool]) -> None:
    right = F.conv3d

    def conv3d(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        result: Tensor = right(x, *arguments, **options)
        return result * float("nan") if wrong(x) else result

    monkeypatch.setattr(F, "conv3d", conv3d)


def test_arithmetic_that_fails_in_one_format_is_told_from_a_training_that_diverges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(CONFIG, max_bad_steps=3)
    with monkeypatch.context() as patch:
        wrong_where(patch, lambda x: torch.is_autocast_enabled("cpu"))
        with pytest.raises(
            RuntimeError, match=r"right in fp32, so it is the arithmetic of bf16.*check-numerics.*fp32$"
        ):
            train_wgan(replace(config, precision="bf16"), real_batch, device="cpu")
        with pytest.raises(RuntimeError, match=r"right in fp32, so it is the arithmetic of bf16.*check-numerics"):
            train_unet(replace(UNET, precision="bf16", max_bad_steps=3), unet_batch, lambda unet: 0.0, device="cpu")
    with monkeypatch.context() as patch:
        wrong_where(patch, lambda x: x.dtype == torch.float32)
        for settings in ({}, {"norm": "none", "privacy": Privacy()}):
            with pytest.raises(RuntimeError, match=r"right in fp64, so it is the arithmetic of fp32.*check-numerics"):
                train_wgan(replace(config, **settings), real_batch, device="cpu")
    for precision in ("fp32", "bf16"):
        with pytest.raises(RuntimeError, match=r"bad in fp.. too, so the training diverges: lower.*lr_critic 1e\+09"):
            train_wgan(replace(config, lr_critic=1e9, precision=precision), real_batch, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"the batch itself holds values that are not finite.*check-data"):
        train_wgan(config, spoiled(lambda step: True), device="cpu")


def test_a_loss_scale_that_collapses_names_the_formats_that_need_none() -> None:
    def overflow(trainer: WGANTrainer) -> dict[str, float]:
        trainer.critic.score.bias.register_hook(lambda gradient: gradient * float("inf"))
        return {}

    config = replace(CONFIG, precision="fp16", steps=60)
    with pytest.raises(RuntimeError, match=r"overflow float16 however low the loss scale.*use bf16 or fp32"):
        train_wgan(config, real_batch, device="cpu", observe=overflow)


def test_a_unet_is_not_chosen_by_validation_losses_that_are_no_numbers() -> None:
    config = replace(UNET, max_steps=4, validate_every=2)
    with pytest.raises(RuntimeError, match="none of 2 validation losses was a number"):
        train_unet(config, unet_batch, lambda unet: float("nan"), device="cpu")
    losses = iter([float("nan"), -0.5])

    def validate(unet: UNet) -> float:
        return next(losses)

    _, history = train_unet(config, unet_batch, validate, device="cpu")
    assert [entry.validation_loss for entry in history][1] == -0.5


def test_a_wider_copy_makes_the_same_step() -> None:
    trainer = warmed_up(replace(CONFIG, norm="spectral"))
    twin = trainer.in_a_wider_format(trainer.steps_done)
    assert twin.generator.output.weight.dtype == torch.float64
    wide, own = (each.step(real_batch(7)) for each in (twin, trainer))
    for name in ("critic_loss", "penalty", "generator_loss", "critic_gradient_norm", "generator_gradient_norm"):
        torch.testing.assert_close(wide[name].float(), own[name], rtol=1e-3, atol=1e-4)
    unet = UNetTrainer(replace(UNET, dropout=0), "cpu")  # which follows the layout, another one in float64
    unet.step(*unet_batch(0))
    wide_loss = unet.in_a_wider_format(1).step(*unet_batch(1)).loss
    torch.testing.assert_close(wide_loss.float(), unet.step(*unet_batch(1)).loss, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_no_healthy_training_comes_within_a_tenth_of_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded phantom, over critics, formats, learning rates and seeds; prints the largest ratio of each."""
    keys = [f"phantom-{index:03d}" for index in range(4)]
    options = {
        "source": {"phantom": {"shape": [48, 48, 32], "spacing_mm": None, "seed": 0, "subjects": 4}},
        "split": {"train": keys[:2], "validation": keys[2:3], "test": keys[3:]},
        "patch": [32, 32, 16],
        "patches": {"grid": [2, 2, 2], "vessel": 8},
        "seed": 0,
        "recipe": {},
    }
    STAGES["prepare"].run(Context(options, {}, {"device": "cpu"}, {}, tmp_path, lambda done, total, what: None))
    store = open_store(tmp_path / "store")
    patches = store.patches("train")
    ratios: list[float] = []
    judge = StepGuard.judge

    def judged(self: StepGuard, readings: Any, held: Any = None) -> Tensor:
        largest, accepted = self._largest.clamp(min=FLOOR), int(self._accepted)
        if accepted >= WARM_UP:
            values = torch.stack([reading.detach().float().abs() for reading in readings])
            ratios.append(float((values / largest)[values.isfinite()].max()))
        return judge(self, readings, held)

    monkeypatch.setattr(StepGuard, "judge", judged)
    kinds: dict[str, dict[str, Any]] = {
        "GP": {"norm": "instance"},
        "SN": {},
        "SN-MP": {"precision": "bf16"},
        "GP fp16": {"norm": "instance", "precision": "fp16"},
        "fast": {"norm": "instance", "lr_generator": 2e-3, "lr_critic": 4e-3},
        "private": {"norm": "none", "privacy": Privacy()},
    }
    for name, settings in kinds.items():
        for seed in range(2):
            steps = 50
            trainer = WGANTrainer(
                WGANConfig(
                    **{"patch_size": (32, 32, 16), "filters": 16, "batch": 4, "steps": steps, "seed": seed, **settings}
                ),
                "cpu",
            )
            sampler = EpochSampler(len(patches), 4, seed=seed, drop_last=True)
            ratios.clear()
            outcomes = [
                int(trainer.step(real_pairs(store, patches[sampler(step)], CORRECTED))["outcome"])
                for step in range(steps)
            ]
            print(f"{name}, seed {seed}: {max(ratios):.3g}")
            assert max(outcomes) <= Outcome.LOSS_SCALE
            assert max(ratios) < FACTOR / 10
