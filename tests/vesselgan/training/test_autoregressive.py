"""Training of the autoregressive generator: resume, learning, and what it refuses."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks.atlas import ATLAS_SHAPE
from vesselgan.networks.autoregressive import AutoregressiveGenerator
from vesselgan.networks.places import PLACE
from vesselgan.training.autoregressive import AutoregressiveConfig, AutoregressiveTrainer, train_autoregressive
from vesselgan.training.guard import Outcome, loss_scale

CONFIG = AutoregressiveConfig(patch_size=(32, 16, 16), steps=12, seed=5, filters=8, batch=8)


def real_batch(step: int) -> tuple[Tensor, Tensor]:
    """Bright bars, which are vessels, on a dark ground with noise; and places, which say nothing."""
    rng = torch.Generator().manual_seed(step)
    pairs = torch.full((CONFIG.batch, 2, *CONFIG.patch_size), -1.0)
    for pair, x, y in zip(pairs, *torch.randint(0, 11, (2, CONFIG.batch), generator=rng).tolist(), strict=True):
        pair[:, x : x + 6, y : y + 6] = 1
    pairs[:, 0] = 0.3 * pairs[:, 0] + 0.05 * torch.randn(pairs[:, 0].shape, generator=rng)
    return pairs.clamp(-1, 1), torch.rand(len(pairs), PLACE, generator=rng)


def atlas() -> Tensor:
    """Of heads that are grey everywhere: it says nothing."""
    return torch.tensor([0.7, 0.1, 0.3])[:, None, None, None].expand(-1, *ATLAS_SHAPE)


def train(
    config: AutoregressiveConfig, **options: Any
) -> tuple[AutoregressiveGenerator, list[tuple[int, Mapping[str, float]]]]:
    seen: list[tuple[int, Mapping[str, float]]] = []
    generator = train_autoregressive(
        config,
        real_batch,
        atlas,
        device="cpu",
        on_step=lambda step, values: seen.append((step, dict(values))),
        **options,
    )
    return generator, seen


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"ema": None}])
def test_a_training_that_is_stopped_and_resumed_equals_one_without_a_stop_to_the_bit(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = replace(CONFIG, **settings)
    whole, steps = train(config)

    class StopError(Exception):
        pass

    def stop(step: int, values: Mapping[str, float]) -> None:
        if step == 5:
            raise StopError

    with pytest.raises(StopError):
        train_autoregressive(
            config, real_batch, atlas, device="cpu", checkpoint=tmp_path / "c.pt", checkpoint_every_s=0, on_step=stop
        )
    torch.manual_seed(99)  # the caller's random numbers are nobody's business
    resumed, rest = train(config, checkpoint=tmp_path / "c.pt")
    assert [step for step, _ in rest] == list(range(5, 12))
    assert rest == steps[5:]
    assert same_weights(whole, resumed)


def test_another_seed_starts_from_other_weights() -> None:
    one, other = (AutoregressiveTrainer(replace(CONFIG, seed=seed), "cpu") for seed in (1, 2))
    assert not same_weights(one.generator, other.generator)


@pytest.mark.slow
def test_likelihood_rises_on_every_level_and_samples_look_like_the_data() -> None:
    generator, seen = train(replace(CONFIG, steps=300, lr=5e-3, filters=16))
    first, last = seen[0][1], seen[-1][1]
    for name in (name for name in first if name.startswith("nll/")):
        assert last[name] < first[name] - 0.5, name
    drawn, (real, _) = generator.sample(32, torch.Generator().manual_seed(0)), real_batch(1000)
    vessel, truth = drawn.labels == 1, real[:, 1] > 0
    assert 0.3 < vessel.float().mean().item() / truth.float().mean().item() < 2  # roughly, after so short a training
    assert drawn.images[vessel].mean().item() - drawn.images[~vessel].mean().item() > 0.3  # of 0.6
    assert drawn.images[~vessel].mean().item() == pytest.approx(-0.3, abs=0.05)


def test_the_learning_rate_rises_then_falls_to_almost_nothing() -> None:
    config = replace(CONFIG, steps=200, warmup=10)
    rates = [config.decay(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert rates[-1] == pytest.approx(0.02, rel=0.02)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_coarse_levels_see_all_pairs_of_a_step_and_the_finest_a_few() -> None:
    assert replace(CONFIG, batch=24).patches(4) == [2, 4, 24, 24]
    assert replace(CONFIG, batch=2).patches(4) == [1, 1, 2, 2]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(replace(CONFIG, steps=1), checkpoint=tmp_path / "c.pt")
    with pytest.raises(InputError, match="other settings"):
        train(CONFIG, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "at least 1"),
        ({"steps": 0}, "at least 1"),
        ({"ema": 1.0}, "ema"),
        ({"patch_size": (32, 30, 16)}, "multiple of 16"),
        ({"precision": "fp8"}, "unknown precision"),
    ],
)
def test_settings_that_do_not_work_are_told_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoregressiveTrainer(replace(CONFIG, **settings), "cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_rejected_step_changes_nothing_and_a_training_that_diverges_is_told(precision: str) -> None:
    trainer = AutoregressiveTrainer(replace(CONFIG, precision=precision), "cpu")
    for step in range(3):
        trainer.step(*real_batch(step))
    before = copy.deepcopy(trainer.state_dict())
    log = trainer.step(real_batch(3)[0] * float("nan"))
    assert int(log["outcome"]) == Outcome.NOT_FINITE
    after = trainer.state_dict()
    for name in ("generator", "average"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0, equal_nan=True)
    diverging = replace(CONFIG, precision=precision, lr=1e30, warmup=1, steps=40, max_bad_steps=3)
    with pytest.raises(RuntimeError, match="lower the learning rates"):
        train_autoregressive(diverging, real_batch, atlas, device="cpu")


def test_a_loss_scale_that_is_too_large_is_lowered_and_the_step_left_out() -> None:
    trainer = AutoregressiveTrainer(replace(CONFIG, precision="fp16"), "cpu")
    loss_scale(trainer.precision.scaler, trainer.device)  # it has none before its first use
    trainer.precision.scaler.update(2.0**60)
    before = [parameter.detach().clone() for parameter in trainer.generator.parameters()]
    log = trainer.step(*real_batch(0))
    assert int(log["outcome"]) == Outcome.LOSS_SCALE
    assert loss_scale(trainer.precision.scaler, trainer.device) == 2.0**59
    assert all(map(torch.equal, trainer.generator.parameters(), before))


def test_a_training_without_finite_likelihood_stops() -> None:
    def broken(step: int) -> tuple[Tensor, Tensor]:
        return torch.full((2, 2, *CONFIG.patch_size), float("nan")), torch.zeros(2, PLACE)

    with pytest.raises(RuntimeError):
        train_autoregressive(replace(CONFIG, steps=50, max_bad_steps=3), broken, atlas, device="cpu")
