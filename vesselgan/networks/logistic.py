"""Intensities in [-1, 1] as a mixture of logistic distributions; what falls beyond an end lies on that end.

Scans are clipped at both ends, so the ends themselves have a probability: air that overhangs a volume is exactly -1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mixture_nll", "mixture_sample"]

_LOG_SCALES = (-5.5, 1.5)  # from less than one grey level of 500 to flat over the whole range
_END = 0.9999
_SMALLEST = 1e-6  # of a uniform number, so that its logarithms are finite


def mixture_nll(parameters: Tensor, values: Tensor) -> Tensor:
    """-log p(value), in nats, of values (...) under parameters (..., 3M): M logits, M means and M log scales.

    p is a density inside and a probability at the ends (Salimans et al. 2017, PixelCNN++, for continuous values).
    """
    logits, means, log_scales = _parts(parameters)
    z = (values[..., None] - means) * torch.exp(-log_scales)
    density = -z - log_scales - 2 * F.softplus(-z)
    at = values[..., None]
    inside = torch.where(at <= -_END, F.logsigmoid(z), torch.where(at >= _END, F.logsigmoid(-z), density))
    return -torch.logsumexp(F.log_softmax(logits, dim=-1) + inside, dim=-1)


def mixture_sample(parameters: Tensor, rng: torch.Generator) -> Tensor:
    """Values (...) in [-1, 1] drawn from parameters (..., 3M)."""
    logits, means, log_scales = _parts(parameters)
    chosen = category_sample(logits, rng)[..., None]
    mean, log_scale = (part.gather(-1, chosen)[..., 0] for part in (means, log_scales))
    share = _uniform(mean, rng)
    return (mean + torch.exp(log_scale) * (torch.log(share) - torch.log1p(-share))).clamp(-1, 1)


def category_sample(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Classes (...) drawn from logits (..., K), by the Gumbel trick."""
    return (logits - torch.log(-torch.log(_uniform(logits, rng)))).argmax(dim=-1)


def _parts(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits, means, log_scales = parameters.float().chunk(3, dim=-1)
    return logits, means, log_scales.clamp(*_LOG_SCALES)


def _uniform(like: Tensor, rng: torch.Generator) -> Tensor:
    """Uniform numbers in (0, 1), drawn on the CPU for the same numbers on every device."""
    drawn = torch.rand(like.shape, generator=rng)
    return drawn.clamp_(_SMALLEST, 1 - _SMALLEST).to(like.device)
