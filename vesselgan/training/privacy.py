"""Differential privacy of the critic: clipped per-sample gradients, noise, clipped weights (Abadi et al. 2016).

Only the critic sees real patches. The generator learns from the critic alone, so whatever it makes is post-processing
of a private result and costs nothing more.

What the guarantee is worth:

* The unit is one *patch*. A patient gives many overlapping ones, and is protected far less.
* The accountant assumes Poisson sampling: every patch comes into every batch by chance, apart from all others.
  :class:`vesselgan.data.PoissonSampler` draws so. Batches of a shuffled list would not be covered.
* It covers the networks. Losses and gradient norms that are logged on the way come from private patches as they are:
  keep the log of a training that is private in earnest.
* Whether an update is applied or rejected (``vesselgan.training.guard``) is judged by its noisy gradient alone, and so
  tells no more than that.
* The noise is drawn from the training's seed, so that a run can be repeated. Who knows the seed can take it away again:
  keep it secret where privacy is meant in earnest.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.settings import Privacy, WGANConfig
from vesselgan.training.losses import CriticLoss

__all__ = ["epsilon_spent", "private_gradients", "update_private_critic"]


def private_gradients(
    network: nn.Module,
    sample_losses: Iterable[Tensor],
    privacy: Privacy,
    *,
    batch: int,
    rng: torch.Generator,
) -> None:
    """Set every parameter's ``grad`` to (sum of clipped gradients + noise) / batch.

    ``sample_losses`` gives one 0-d loss per sample, each in turn, so that one gradient is held at a time; ``batch`` is
    the *expected* number of samples, since the true one would tell something about the data.
    """
    parameters = list(network.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for loss in sample_losses:
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        factor = privacy.clip_norm / norm.clamp(min=privacy.clip_norm)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_.addcmul_(gradient, factor)
    spread = privacy.noise_multiplier * privacy.clip_norm
    for parameter, sum_ in zip(parameters, total, strict=True):
        noise = torch.randn(sum_.shape, generator=rng).to(sum_.device)
        parameter.grad = sum_.add_(noise, alpha=spread).div_(batch)


def update_private_critic(
    critic: nn.Module,
    apply: Callable[[], Tensor],
    reals: Sequence[Tensor],
    draw_fake: Callable[[int, int], Tensor],
    draw_rng: Callable[[str], torch.Generator],
    config: WGANConfig,
    autocast: Callable[[], AbstractContextManager[object]],
) -> CriticLoss:
    """One critic pass per batch of ``reals`` (each (B, 2, X, Y, Z), B by chance); readings of the last pass.

    With ``dp_updates`` of the recipe ``one``, a pass makes one update, with each real patch and its fake partner as one
    sample. ``two`` (D14): one on the real patches, then one on the fake ones with the critic that came of it.
    ``draw_fake(count, pass)`` gives patches without a graph, ``apply()`` takes the optimiser's step and tells, as a 0-d
    bool, whether it did.
    """
    assert config.privacy is not None  # or the critic has a gradient penalty
    privacy, device = config.privacy, next(critic.parameters()).device
    terms = CriticLoss(*(torch.zeros((), device=device) for _ in range(3)))
    for index, real in enumerate(reals):
        fake = draw_fake(len(real), index) if len(real) else real
        scores: dict[str, list[Tensor]] = {"real": [], "fake": []}

        def score(patches: Tensor, kind: str, at: int, scores: dict[str, list[Tensor]] = scores) -> Tensor:
            with autocast():
                value: Tensor = critic(patches[at : at + 1]).float().squeeze(0)
            scores[kind].append(value.detach())
            return value

        samples = range(len(real))
        applied = torch.zeros((), dtype=torch.bool, device=device)
        if config.recipe.dp_updates == "one":
            parts = [(score(fake, "fake", at) - score(real, "real", at) for at in samples)]
        else:
            parts = [(-score(real, "real", at) for at in samples), (score(fake, "fake", at) for at in samples)]
        for part, losses in enumerate(parts):
            private_gradients(critic, losses, privacy, batch=config.batch, rng=draw_rng(f"privacy {index} {part}"))
            applied |= apply()
        with torch.no_grad():
            bound = torch.where(applied, privacy.weight_clip, torch.inf)
            for parameter in critic.parameters():
                parameter.clamp_(-bound, bound)
        if samples:
            wasserstein = torch.stack(scores["real"]).mean() - torch.stack(scores["fake"]).mean()
            terms = CriticLoss(-wasserstein, wasserstein, torch.zeros_like(wasserstein))
    return terms


def epsilon_spent(
    *, noise_multiplier: float, sample_rate: float, updates: int, delta: float
) -> tuple[float, Sequence[str]]:
    """Epsilon of so many noisy updates on Poisson samples, by opacus's RDP accountant; and what that warns of.

    ``sample_rate`` is the chance of a patch to be in a batch. Raises InputError where opacus is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from opacus.accountants import RDPAccountant
    except ImportError:
        raise InputError(
            "differential privacy needs opacus for its accountant: pip install 'opacus>=1.5.4,<2' (the extra [dp])"
        ) from None
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, updates)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        epsilon = float(accountant.get_epsilon(delta=delta))
    return epsilon, [str(item.message).splitlines()[0] for item in caught]
