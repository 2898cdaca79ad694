"""The U-Net's training: it learns, stops, and resumes exactly."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks import UNet
from vesselgan.training import UNetConfig, UNetTrainer, train_unet
from vesselgan.training.averaging import WeightAverage
from vesselgan.training.losses import soft_dice_loss
from vesselgan.training.segmentation import EarlyStopping

CONFIG = UNetConfig(batch=2, max_steps=8, validate_every=2, seed=1, filters=(4, 8), dropout=0.2, lr=1e-3)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """A bright box in noise, at a place of the step's own."""
    rng = torch.Generator().manual_seed(step)
    labels = torch.zeros(2, 1, 16, 16, 8)
    corner = torch.randint(0, 8, (2,), generator=rng).tolist()
    labels[:, :, corner[0] : corner[0] + 6, corner[1] : corner[1] + 6, 2:6] = 1
    return labels * 2 + torch.randn(labels.shape, generator=rng) * 0.3, labels


def validation_loss(unet: UNet) -> float:
    assert not unet.training
    images, labels = batch(1000)
    return float(soft_dice_loss(unet(images), labels))


def test_a_small_unet_learns_a_box() -> None:
    config = replace(CONFIG, max_steps=120, validate_every=40, lr=1e-2, dropout=0.1, patience=9)
    unet, history = train_unet(config, batch, validation_loss, device="cpu")
    assert [entry.step for entry in history] == [40, 80, 120]
    assert min(entry.validation_loss for entry in history) < -0.9
    images, labels = batch(2000)
    with torch.no_grad():
        predicted = unet(images) > 0
    assert float(2 * (predicted * labels).sum() / (predicted.sum() + labels.sum())) > 0.95


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_seven_steps_and_thirteen_after_a_resume_equal_twenty_to_the_bit(
    tmp_path: Path, precision: Any, ema: float | None
) -> None:
    config = replace(CONFIG, precision=precision, max_steps=20, patience=99, ema=ema)
    whole, history = train_unet(config, batch, validation_loss, device="cpu")
    path = tmp_path / "unet.pt"

    def crash_at_seven(step: int) -> tuple[Tensor, Tensor]:
        if step == 7:
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        train_unet(config, crash_at_seven, validation_loss, device="cpu", checkpoint=path, checkpoint_every_s=0)
    torch.manual_seed(99)
    steps: list[int] = []
    resumed, resumed_history = train_unet(
        config, batch, validation_loss, device="cpu", checkpoint=path, on_step=lambda step, _: steps.append(step)
    )
    assert steps == list(range(7, 20))
    assert list(resumed_history) == list(history)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    again, _ = train_unet(config, batch, validation_loss, device="cpu", checkpoint=path)
    assert torch.equal(again.output.weight, whole.output.weight)


def test_dropout_is_drawn_from_the_seed_and_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    losses = [UNetTrainer(replace(CONFIG, seed=seed), "cpu").step(*batch(0)).loss for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    trainer = UNetTrainer(CONFIG, "cpu")
    trainer.steps_done = 1
    assert not torch.equal(trainer.step(*batch(0)).loss, losses[0])


def test_the_best_unet_is_returned_and_training_stops_when_patience_runs_out() -> None:
    losses = iter([-0.1, -0.5, -0.4, -0.5, -0.45, -0.9])
    weights = []

    def scripted(unet: UNet) -> float:
        weights.append(unet.output.weight.detach().clone())
        return next(losses)

    unet, history = train_unet(replace(CONFIG, max_steps=99, patience=3), batch, scripted, device="cpu")
    assert [entry.step for entry in history] == [2, 4, 6, 8, 10]
    assert torch.equal(unet.output.weight, weights[1])
    assert not unet.training


def test_an_average_of_the_weights_is_validated_and_given_and_leaves_the_training_as_it_is() -> None:
    seen: list[Tensor] = []

    def validate(unet: UNet) -> float:
        assert not unet.training
        seen.append(unet.output.weight.detach().clone())
        return -float(len(seen))

    averaged, plain = (UNetTrainer(replace(CONFIG, ema=ema), "cpu") for ema in (0.5, None))
    own = WeightAverage(plain.unet, 0.5)
    for step in range(4):
        assert averaged.step(*batch(step)) == plain.step(*batch(step))
        averaged.validate(validate)
        own.update(plain.unet)
    expected = own.network().state_dict()
    assert len(seen) == 2
    assert torch.equal(seen[-1], expected["output.weight"])
    assert not torch.equal(seen[-1], plain.unet.output.weight)
    for name, tensor in averaged.best_unet().state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_early_stopping_keeps_any_better_loss_and_is_patient_only_for_real_gains() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.1)
    kept = [stopping.update(loss) for loss in (-0.5, -0.55, float("nan"))]
    assert kept == [True, True, False]
    assert stopping.stop
    assert stopping.best == -0.55
    patient = EarlyStopping(patience=2, min_delta=0.1)
    for loss in (-0.5, -0.55, -0.61):
        patient.update(loss)
    assert not patient.stop
    assert math.isinf(EarlyStopping(1, 0.0).best)


def test_the_last_step_is_validated_also_between_two_validations() -> None:
    _, history = train_unet(replace(CONFIG, max_steps=3), batch, validation_loss, device="cpu")
    assert [entry.step for entry in history] == [2, 3]
    assert all(-1 <= entry.training_loss < 0 for entry in history)


def test_bfloat16_is_used_in_training_and_in_validation() -> None:
    seen = set()

    def validate(unet: UNet) -> float:
        seen.add(unet(batch(0)[0]).dtype)
        return 0.0

    train_unet(replace(CONFIG, max_steps=1, precision="bf16"), batch, validate, device="cpu")
    assert seen == {torch.bfloat16}


def test_losses_that_stay_bad_stop_the_training() -> None:
    def bad(step: int) -> tuple[Tensor, Tensor]:
        images, labels = batch(step)
        return images * float("nan"), labels

    with pytest.raises(RuntimeError, match="step 19: losses or gradients of 20 steps in a row were not finite"):
        train_unet(replace(CONFIG, max_steps=50, validate_every=50), bad, validation_loss, device="cpu")


def test_settings_that_cannot_train_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        UNetTrainer(replace(CONFIG, validate_every=0), "cpu")
    with pytest.raises(InputError, match="ema is 1"):
        UNetTrainer(replace(CONFIG, ema=1), "cpu")
    with pytest.raises(InputError, match="other settings"):
        UNetTrainer(CONFIG, "cpu").load_state_dict(UNetTrainer(replace(CONFIG, lr=1.0), "cpu").state_dict())
