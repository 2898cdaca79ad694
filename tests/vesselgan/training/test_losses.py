"""Losses on cases that can be worked out by hand."""

import pytest
import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.training.losses import critic_loss, generator_loss, gradient_penalty, soft_dice_loss

SHAPE = (4, 2, 4, 4, 4)


def slope(norm: float) -> Tensor:
    """Weights of a linear critic, and so its gradient at every sample, of the given norm."""
    return torch.full(SHAPE[1:], norm / 128**0.5)


class LinearCritic:
    """D(x) = w.x, with a record of what it was shown."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.seen: list[Tensor] = []

    def __call__(self, patches: Tensor) -> Tensor:
        self.seen.append(patches.detach())
        return (patches * self.weights).sum(dim=(1, 2, 3, 4))


def pairs() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=rng), torch.randn(SHAPE, generator=rng)


@pytest.mark.parametrize(("norm", "batch", "sample"), [(1.0, 10.0, 0.0), (0.5, 0.0, 2.5), (3.0, 250.0, 40.0)])
def test_four_unit_gradients_are_penalised_by_10_over_the_batch_and_by_0_per_sample(
    norm: float, batch: float, sample: float
) -> None:
    real, fake = pairs()
    for reduction, expected in (("batch", batch), ("sample", sample)):
        penalty = gradient_penalty(LinearCritic(slope(norm)), real, fake, torch.tensor(0.3), 10.0, reduction)  # type: ignore[arg-type]
        assert penalty.shape == ()
        assert float(penalty) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_penalty_runs_the_critic_once_between_real_and_fake() -> None:
    real, fake = pairs()
    critic = LinearCritic(slope(1.0))
    epsilon = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(4, 1, 1, 1, 1)
    gradient_penalty(critic, real, fake, epsilon)
    (seen,) = critic.seen
    torch.testing.assert_close(seen[0], fake[0])
    torch.testing.assert_close(seen[1], 0.25 * real[1] + 0.75 * fake[1])
    torch.testing.assert_close(seen[3], real[3])


def test_the_penalty_is_differentiable_in_the_critics_weights() -> None:
    real, fake = pairs()
    weights = slope(2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(gradient_penalty(LinearCritic(weights), real, fake, torch.tensor(0.5)), weights)
    # d/dw 10 (||w|| - 1)^2 = 20 (||w|| - 1) w / ||w||
    torch.testing.assert_close(gradient, 20 * weights.detach() / 2)


def test_an_inner_scale_changes_no_value_and_saves_float16_from_underflow() -> None:
    real, fake = pairs()

    class HalfCritic(LinearCritic):
        """Its gradient of 1e-4 per voxel passes through 1e-8, which is below float16's smallest number."""

        def __call__(self, patches: Tensor) -> Tensor:
            return ((patches * 1e4).half() * 1e-4 * 1e-4).sum(dim=(1, 2, 3, 4))

    lost = gradient_penalty(HalfCritic(slope(1)), real, fake, torch.tensor(0.5), weight=1.0)
    kept = gradient_penalty(HalfCritic(slope(1)), real, fake, torch.tensor(0.5), weight=1.0, inner_scale=1024.0)
    assert float(lost.detach()) == 1  # (0 - 1)^2
    assert float(kept.detach()) == pytest.approx((1e-4 * 128**0.5 - 1) ** 2, abs=2e-5)
    for scale in (1.0, 1024.0):
        penalty = gradient_penalty(LinearCritic(slope(3.0)), real, fake, torch.tensor(0.5), inner_scale=scale)
        assert float(penalty) == pytest.approx(40, rel=1e-5)


def test_an_unknown_reduction_is_refused() -> None:
    real, fake = pairs()
    with pytest.raises(InputError, match="'sample' or 'batch'"):
        gradient_penalty(LinearCritic(slope(1)), real, fake, torch.tensor(0.5), reduction="mean")  # type: ignore[arg-type]


def test_critic_and_generator_losses_are_the_equations() -> None:
    real, fake = torch.ones(SHAPE), torch.zeros(SHAPE)
    weights = slope(1.0)
    terms = critic_loss(LinearCritic(weights), real, fake, torch.tensor(0.5))
    score = float(weights.sum())
    assert float(terms.wasserstein) == pytest.approx(score)
    assert float(terms.penalty) == pytest.approx(0, abs=1e-9)
    assert float(terms.loss) == pytest.approx(-score)
    assert float(generator_loss(LinearCritic(weights), real)) == pytest.approx(-score)


def test_the_critic_sees_real_then_fake_then_the_interpolate() -> None:
    real, fake = pairs()
    critic = LinearCritic(slope(1.0))
    critic_loss(critic, real, fake, torch.tensor(0.5))
    for seen, expected in zip(critic.seen, (real, fake, (real + fake) / 2), strict=True):
        torch.testing.assert_close(seen, expected)


def test_the_soft_dice_loss_sums_over_the_whole_batch() -> None:
    labels = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(2, 1, 2, 1, 1)  # first sample vessel, second none
    certain = torch.tensor([50.0, -50.0, 50.0, -50.0]).view(2, 1, 2, 1, 1)
    assert float(soft_dice_loss(certain, labels)) == pytest.approx(-(2 * 1 + 1) / (2 + 2 + 1))
    assert float(soft_dice_loss(torch.zeros(2, 1, 2, 1, 1), labels)) == pytest.approx(-(2 * 1 + 1) / (2 + 2 + 1))
    assert float(soft_dice_loss(torch.full((1, 1, 2, 1, 1), -50.0), torch.zeros(1, 1, 2, 1, 1))) == pytest.approx(-1)


def test_the_soft_dice_loss_of_low_precision_logits_is_summed_in_float32() -> None:
    logits = torch.full((1, 1, 64, 64, 64), 50.0, dtype=torch.bfloat16)
    assert float(soft_dice_loss(logits, torch.ones(1, 1, 64, 64, 64, dtype=torch.uint8))) == pytest.approx(-1)
