"""The WGAN's step and loop: resume, reference step, randomness, bad losses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vesselgan.errors import InputError
from vesselgan.networks import Generator
from vesselgan.recipe import CORRECTED, PAPER_CODE, Recipe
from vesselgan.training import Privacy, WGANConfig, WGANTrainer, load_checkpoint, train_wgan
from vesselgan.training.randomness import generator_for

CONFIG = WGANConfig(patch_size=(32, 16, 16), filters=16, latent=8, steps=8, seed=5, batch=3, norm="spectral")


def real_batch(step: int) -> Tensor:
    return torch.rand(3, 2, *CONFIG.patch_size, generator=torch.Generator().manual_seed(step)) * 2 - 1


def train(config: WGANConfig, **options: Any) -> tuple[Generator, list[tuple[int, Mapping[str, float]]]]:
    seen: list[tuple[int, Mapping[str, float]]] = []
    generator = train_wgan(
        config, real_batch, device="cpu", on_step=lambda step, values: seen.append((step, dict(values))), **options
    )
    return generator, seen


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "fp32", "norm": "instance"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"ema": 0.9},
        {"privacy": Privacy(), "norm": "none"},
    ],
    ids=["fp32", "bf16", "fp16", "average", "private"],
)
def test_seven_steps_and_thirteen_after_a_resume_equal_twenty_to_the_bit(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = replace(CONFIG, steps=20, filters=8, **settings)
    whole, steps = train(config, checkpoint=tmp_path / "whole.pt")
    _, first = train(replace(config, steps=7), checkpoint=tmp_path / "wgan.pt")
    torch.manual_seed(99)  # the caller's random numbers are nobody's business
    resumed, last = train(config, checkpoint=tmp_path / "wgan.pt")
    assert [step for step, _ in first] == list(range(7))
    assert [step for step, _ in steps] == list(range(20))
    assert first + last == steps
    assert same_weights(whole, resumed)
    # And whatever a third part would start from: critic, optimisers, loss scale, average.
    states = [load_checkpoint(tmp_path / name) for name in ("whole.pt", "wgan.pt")]
    leaves = [tree_leaves(state) for state in states]
    assert all(
        torch.equal(one, other) if isinstance(one, Tensor) else one == other for one, other in zip(*leaves, strict=True)
    )


def test_a_crash_between_checkpoints_repeats_steps_and_changes_nothing(tmp_path: Path) -> None:
    whole, steps = train(CONFIG)
    path = tmp_path / "wgan.pt"

    def crash_at_five(step: int) -> Tensor:
        if step == 5:
            raise KeyboardInterrupt
        return real_batch(step)

    with pytest.raises(KeyboardInterrupt):
        train_wgan(CONFIG, crash_at_five, device="cpu", checkpoint=path, checkpoint_every_s=0)
    resumed, seen = train(CONFIG, checkpoint=path)
    assert [step for step, _ in seen] == [5, 6, 7]
    assert seen == steps[5:]
    assert same_weights(whole, resumed)


def test_a_finished_training_is_read_back_without_a_step(tmp_path: Path) -> None:
    trained, _ = train(CONFIG, checkpoint=tmp_path / "wgan.pt")
    again, seen = train(CONFIG, checkpoint=tmp_path / "wgan.pt")
    assert seen == []
    assert same_weights(trained, again)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(replace(CONFIG, steps=1), checkpoint=tmp_path / "wgan.pt")
    with pytest.raises(InputError, match="other settings"):
        train(replace(CONFIG, recipe=PAPER_CODE), checkpoint=tmp_path / "wgan.pt")


@pytest.mark.parametrize("norm", ["spectral", "instance", "none"])
def test_the_papers_plain_step_gives_the_losses_of_the_fast_one(norm: Any) -> None:
    # At a learning rate of 4e-4 Adam makes a full step of any rounding error, so later steps drift apart.
    runs = {}
    for plain in (False, True):
        trainer = WGANTrainer(replace(CONFIG, plain=plain, norm=norm, lr_generator=1e-5, lr_critic=1e-5), "cpu")
        runs[plain] = [torch.stack([*trainer.step(real_batch(step)).values()]) for step in range(4)]
    for found, reference in zip(runs[False], runs[True], strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-3, atol=1e-4)
    losses = slice(0, 5)  # and behind them the gradient norms
    torch.testing.assert_close(runs[False][0][losses], runs[True][0][losses], rtol=1e-4, atol=1e-6)


def test_the_plain_step_keeps_the_waste_of_the_papers_code() -> None:
    fast, plain = (WGANTrainer(replace(CONFIG, plain=plain), "cpu") for plain in (False, True))
    for trainer in (fast, plain):
        trainer.update_critic(real_batch(0))
        for parameter in trainer.critic.parameters():
            parameter.grad = None
        trainer.update_generator(3)
    assert all(parameter.grad is None for parameter in fast.critic.parameters())
    assert all(parameter.grad is not None for parameter in plain.critic.parameters())
    assert {block[0].upsampling for block in plain.generator.blocks} == {"plain"}  # type: ignore[index]
    assert fast.critic.blocks[1][0].weight_orig.is_contiguous(memory_format=torch.channels_last_3d)  # type: ignore[index]


def test_a_seed_decides_weights_and_noise_and_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = WGANTrainer(CONFIG, "cpu").step(real_batch(0))
    assert torch.equal(torch.rand(1), expected)
    assert WGANTrainer(CONFIG, "cpu").step(real_batch(0)) == first
    assert WGANTrainer(replace(CONFIG, seed=6), "cpu").step(real_batch(0)) != first


def test_noise_differs_between_steps_and_roles() -> None:
    drawn = {
        float(torch.randn(1, generator=generator_for(seed, step, role)))
        for seed in (0, 1)
        for step in (0, 1)
        for role in ("noise critic 0", "noise generator", "epsilon 0")
    }
    assert len(drawn) == 12


def test_the_readings_belong_together() -> None:
    log = WGANTrainer(CONFIG, "cpu").step(real_batch(0))
    torch.testing.assert_close(log["critic_loss"], log["penalty"] - log["wasserstein"])
    assert float(log["loss_scale"]) == 1
    assert not any(reading.requires_grad for reading in log.values())


@pytest.mark.parametrize("norm", ["instance", "spectral", "none"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("recipe", [CORRECTED, PAPER_CODE], ids=["corrected", "paper_code"])
def test_critic_norm_number_format_and_recipe_combine_freely(norm: Any, precision: Any, recipe: Recipe) -> None:
    config = replace(CONFIG, norm=norm, precision=precision, recipe=recipe, filters=8, batch=2, seed=1)
    trainer = WGANTrainer(config, "cpu")
    assert trainer.precision.name == precision
    assert trainer.critic.norm == norm
    for step in range(2):
        log = trainer.step(real_batch(step)[:2])
        low = precision == "fp16" and recipe is PAPER_CODE  # D12: whose scaler skips the first steps
        assert low or all(torch.isfinite(torch.stack([*log.values()])[:5]))


def test_float16_trains_with_instance_norm_once_its_scale_is_found() -> None:
    """Over four final positions; with the norm in float16 the scale falls to 1, and on, and 7 of the steps are made."""
    size = (32, 32, 16)
    config = replace(CONFIG, patch_size=size, norm="instance", precision="fp16", seed=6)
    trainer = WGANTrainer(config, "cpu")
    for step in range(24):
        patches = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(step)) * 2 - 1
        assert torch.isfinite(trainer.step(patches)["critic_loss"])
    (made,) = {int(entry["step"]) for entry in trainer.state_dict()["critic_optimiser"]["state"].values()}
    assert made >= 10
    assert trainer.precision.scaler.get_scale() >= 8


def test_a_gradient_norm_is_that_of_all_parameters_together() -> None:
    trainer = WGANTrainer(replace(CONFIG, plain=True), "cpu")  # which keeps its gradients
    log = trainer.step(real_batch(0))
    squares = sum(float(parameter.grad.square().sum()) for parameter in trainer.generator.parameters())  # type: ignore[union-attr]
    assert float(log["generator_gradient_norm"]) == pytest.approx(squares**0.5, rel=1e-5)
    # Under the scaler too, the gradient is that of the loss itself.
    half = WGANTrainer(replace(CONFIG, precision="fp16"), "cpu").step(real_batch(0))
    assert float(half["generator_gradient_norm"]) == pytest.approx(float(log["generator_gradient_norm"]), rel=0.05)
    assert float(half["critic_gradient_norm"]) == pytest.approx(float(log["critic_gradient_norm"]), rel=0.05)


def test_a_training_is_observed_after_the_steps_that_are_named() -> None:
    def observe(trainer: WGANTrainer) -> dict[str, float]:
        if trainer.steps_done not in (1, 3, 6, 8):
            return {}
        with torch.no_grad():
            trainer.critic.eval()
            score = float(trainer.critic(real_batch(0)).mean())
            trainer.critic.train()
        return {"score": score}

    observed, seen = train(CONFIG, observe=observe)
    assert [step for step, values in seen if "score" in values] == [0, 2, 5, 7]
    plain, _ = train(CONFIG)
    assert same_weights(observed, plain)


@pytest.mark.parametrize("limit", [3, 20])
def test_the_number_of_bad_losses_that_stop_a_training_is_an_option(limit: int) -> None:
    config = replace(CONFIG, patch_size=(16, 16, 16), filters=8, max_bad_steps=limit, steps=50, precision="fp32")
    with pytest.raises(RuntimeError, match=f"step {limit + 1}: losses or gradients of {limit} steps in a row"):
        train_wgan(config, lambda step: torch.full((2, 2, 16, 16, 16), float("nan") if step > 1 else 0.5), device="cpu")


@pytest.mark.parametrize("bad_steps", [19, 20])
def test_training_stops_at_twenty_bad_losses_in_a_row_and_not_before(bad_steps: int) -> None:
    # Real patches that are not finite spoil a loss, and the weights survive it.
    config = replace(CONFIG, patch_size=(16, 16, 16), filters=8, steps=40, precision="fp16")

    def spoiled(step: int) -> Tensor:
        return torch.full((2, 2, 16, 16, 16), float("nan") if step < bad_steps else 0.5)

    seen: list[float] = []

    def run() -> None:
        train_wgan(config, spoiled, device="cpu", on_step=lambda step, values: seen.append(values["critic_loss"]))

    if bad_steps == 20:
        with pytest.raises(RuntimeError, match="step 19: losses or gradients of 20 steps in a row were not finite"):
            run()
    else:
        run()
        assert len(seen) == 40


def test_training_learns_a_constant_image() -> None:
    config = replace(
        CONFIG, patch_size=(16, 16, 16), filters=8, steps=60, lr_generator=5e-3, lr_critic=5e-3, recipe=CORRECTED
    )
    target = torch.tensor([0.7, -0.7]).view(1, 2, 1, 1, 1).expand(4, 2, 16, 16, 16)
    generator = train_wgan(config, lambda step: target, device="cpu")
    with torch.no_grad():
        image, label = generator(torch.randn(4, 8, generator=torch.Generator().manual_seed(0))).mean(dim=(0, 2, 3, 4))
    assert float(image) > 0.3
    assert float(label) < -0.3


def test_no_critic_step_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        WGANTrainer(replace(CONFIG, critic_steps=0), "cpu")
