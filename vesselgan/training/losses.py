"""The losses of WGAN-GP and of the U-Net, as equations: no device, no logging, no optimiser."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vesselgan.errors import InputError

__all__ = [
    "CriticLoss",
    "Network",
    "Reduction",
    "Reductions",
    "critic_loss",
    "generator_loss",
    "gradient_penalty",
    "soft_dice_loss",
]

Network = Callable[[Tensor], Tensor]
Reduction = Literal["sample", "batch"]
Reductions = Literal["low", "float32"]


class CriticLoss(NamedTuple):
    """What the critic minimises, and its two readings; each a 0-d tensor."""

    loss: Tensor
    wasserstein: Tensor  # mean D(real) - mean D(fake)
    penalty: Tensor


def critic_loss(
    critic: Network,
    real: Tensor,
    fake: Tensor,
    epsilon: Tensor,
    *,
    weight: float = 10.0,
    penalty_norm: Reduction = "sample",
    reductions: Reductions = "float32",
    inner_scale: float = 1.0,
) -> CriticLoss:
    """E[D(fake)] - E[D(real)] + weight * E[(||grad D(x_hat)||_2 - 1)^2]         (Gulrajani et al. 2017, eq. 3)

    The critic runs on real, on fake and on the interpolate, in this order: a spectral norm moves with each forward.
    Only the penalty sees the graph that ``fake`` may carry.
    """
    real_score = _mean(critic(real), reductions)
    fake_score = _mean(critic(fake.detach()), reductions)
    penalty = gradient_penalty(critic, real, fake, epsilon, weight, penalty_norm, inner_scale=inner_scale)
    return CriticLoss(fake_score - real_score + penalty, real_score - fake_score, penalty)


def generator_loss(critic: Network, fake: Tensor, *, reductions: Reductions = "float32") -> Tensor:
    """-E[D(fake)]."""
    return -_mean(critic(fake), reductions)


def gradient_penalty(
    critic: Network,
    real: Tensor,
    fake: Tensor,
    epsilon: Tensor,
    weight: float = 10.0,
    reduction: Reduction = "sample",
    *,
    inner_scale: float = 1.0,
) -> Tensor:
    """The critic's gradient g at x_hat = epsilon * real + (1 - epsilon) * fake, drawn to norm one; a 0-d tensor.

    ``sample``: weight * mean_i (||g_i|| - 1)^2.   ``batch``: weight * (||g|| - 1)^2, one norm over the whole batch.
    ``real`` and ``fake`` are (B, C, X, Y, Z), ``epsilon`` is 0-d or (B, 1, 1, 1, 1). One critic forward; differentiable
    with respect to the critic's parameters, and to ``fake`` if that carries a graph.

    ``inner_scale`` multiplies the score before the inner gradient, which is divided by it in float32 afterwards. In
    float16 a gradient of norm one, spread over a million voxels, lies near the smallest normal number; a power of two
    lifts it without changing its digits. The outer backward is divided by it, and without that overflows at the scale
    at which a GradScaler starts. That scale itself will not do here: a float16 gradient of the score cannot hold it.
    """
    if reduction not in ("sample", "batch"):
        raise InputError(f"penalty reduction is {reduction!r}; it can be 'sample' or 'batch'")
    interpolate = epsilon * real + (1 - epsilon) * fake
    if not interpolate.requires_grad:
        interpolate.requires_grad_()
    score = critic(interpolate).float().sum() * inner_scale
    # A backward keeps the formats of its forward. Inside autocast it would also lower what the forward had kept.
    with torch.autocast(interpolate.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(score, interpolate, create_graph=True)
        gradient = gradient.float() / inner_scale
        # vector_norm takes the axes as they lie in memory, where flatten would copy a channels-last gradient.
        axes = tuple(range(1, gradient.ndim)) if reduction == "sample" else None
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=axes)  # (B,) or one number
        return weight * (norms - 1).square().mean()


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-(2 sum(y p) + 1) / (sum y + sum p + 1) with p = sigmoid(logits), each sum over the whole batch.

    Both (B, 1, X, Y, Z), labels in {0, 1}; a 0-d tensor in [-1, 0), lower is better, -1 also for a batch without
    vessel that is predicted empty. Sums are in float32 whatever the dtype of the logits.
    """
    probability, labels = logits.float().sigmoid(), labels.float()
    return -(2 * (labels * probability).sum() + 1) / (labels.sum() + probability.sum() + 1)


def _mean(scores: Tensor, reductions: Reductions) -> Tensor:
    return scores.mean() if reductions == "low" else scores.float().mean()
