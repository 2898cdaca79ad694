"""Differential privacy: clipped gradients, noise, clipped weights, and the accounting."""

import math
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor

from vesselgan.data import PoissonSampler
from vesselgan.errors import InputError
from vesselgan.networks import Critic
from vesselgan.recipe import CORRECTED
from vesselgan.training import Privacy, WGANConfig, WGANTrainer, epsilon_spent
from vesselgan.training.privacy import private_gradients

SIZE = (16, 16, 16)


def critic() -> Critic:
    torch.manual_seed(0)
    return Critic(SIZE, filters=8, norm="none")


def patches(count: int = 3) -> Tensor:
    return torch.randn(count, 2, *SIZE, generator=torch.Generator().manual_seed(1))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def sample_gradients(net: Critic, samples: Tensor) -> list[list[Tensor]]:
    return [list(torch.autograd.grad(net(sample[None]).sum(), list(net.parameters()))) for sample in samples]


def test_each_samples_gradient_is_shortened_to_the_clipping_norm_and_no_further() -> None:
    net, samples = critic(), patches()
    gradients = sample_gradients(net, samples)
    norms = [math.sqrt(sum(float(part.square().sum()) for part in gradient)) for gradient in gradients]
    clip = sorted(norms)[1]  # the shortest stays as it is
    silent = Privacy(noise_multiplier=1e-12, clip_norm=clip)
    private_gradients(net, (net(sample[None]).squeeze(0) for sample in samples), silent, batch=4, rng=rng())
    for index, parameter in enumerate(net.parameters()):
        terms = [gradient[index] * min(1.0, clip / norm) for gradient, norm in zip(gradients, norms, strict=True)]
        torch.testing.assert_close(parameter.grad, torch.stack(terms).sum(dim=0) / 4, rtol=1e-4, atol=1e-7)


def test_no_sample_moves_the_sum_by_more_than_the_clipping_norm() -> None:
    net, samples = critic(), patches()
    privacy = Privacy(noise_multiplier=1.0, clip_norm=0.5)
    grads = []
    for chosen in (samples, samples[:2]):  # the same noise
        private_gradients(net, (100 * net(sample[None]).squeeze(0) for sample in chosen), privacy, batch=1, rng=rng())
        grads.append([parameter.grad for parameter in net.parameters()])
    moved = math.sqrt(sum(float((one - other).square().sum()) for one, other in zip(*grads, strict=True)))
    assert moved == pytest.approx(0.5, rel=1e-3)


def test_the_noise_has_the_spread_of_multiplier_times_norm() -> None:
    net = Critic(SIZE, filters=64, norm="none")
    private_gradients(net, [], Privacy(noise_multiplier=3.0, clip_norm=0.5), batch=2, rng=rng())
    noise = torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None])
    assert float(noise.std()) == pytest.approx(3.0 * 0.5 / 2, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)


def test_the_gradients_are_those_of_opacus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # opacus's own
        from opacus.grad_sample import GradSampleModule

        samples = patches()
        net = critic()
        for module in net.modules():
            if isinstance(module, torch.nn.LeakyReLU):
                module.inplace = False  # opacus cannot
        theirs = GradSampleModule(net, loss_reduction="sum")
        theirs(samples).sum().backward()
    norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in theirs.parameters()]).norm(dim=0)  # (3,)
    clip = float(norms.median())
    factors = (clip / norms).clamp(max=1)
    net = critic()
    privacy = Privacy(noise_multiplier=1e-12, clip_norm=clip)
    private_gradients(net, (net(sample[None]).squeeze(0) for sample in samples), privacy, batch=1, rng=rng())
    for ours, parameter in zip(net.parameters(), theirs.parameters(), strict=True):
        expected = torch.einsum("n...,n->...", parameter.grad_sample, factors)
        torch.testing.assert_close(ours.grad, expected, rtol=1e-4, atol=1e-6)


def test_epsilon_is_the_one_that_opacus_counts_step_by_step() -> None:
    accountant = RDPAccountant()
    for _ in range(300):
        accountant.step(noise_multiplier=1.1, sample_rate=0.01)
    epsilon, warned = epsilon_spent(noise_multiplier=1.1, sample_rate=0.01, updates=300, delta=1e-5)
    assert epsilon == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=1e-9)
    assert not warned


def test_epsilon_is_that_of_the_gaussian_mechanism_where_everything_is_sampled() -> None:
    """RDP of one Gaussian release is alpha / (2 sigma^2) at every order; epsilon is the best conversion of it."""
    sigma, delta = 2.0, 1e-5
    epsilon, _ = epsilon_spent(noise_multiplier=sigma, sample_rate=1.0, updates=1, delta=delta)
    orders = np.concatenate([np.arange(1.1, 11, 0.1), np.arange(11, 64)])
    rdp = orders / (2 * sigma**2)
    # Canonne, Kamath and Steinke 2020, proposition 12
    converted = rdp + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    assert epsilon == pytest.approx(converted.min(), rel=0.01)


def test_epsilon_falls_with_noise_and_grows_with_updates_and_sampling() -> None:
    base: dict[str, Any] = {"noise_multiplier": 1.0, "sample_rate": 0.01, "updates": 100, "delta": 1e-4}

    def epsilon(**changed: float) -> float:
        return epsilon_spent(**{**base, **changed})[0]

    assert epsilon(noise_multiplier=2.0) < epsilon() < epsilon(updates=400)
    assert epsilon() < epsilon(sample_rate=0.04)


def test_without_opacus_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(InputError, match=r"pip install 'opacus.*the extra \[dp\]"):
        epsilon_spent(noise_multiplier=1.0, sample_rate=0.1, updates=1, delta=1e-3)


def private_trainer(**settings: Any) -> WGANTrainer:
    base: dict[str, Any] = {"patch_size": SIZE, "filters": 8, "latent": 8, "steps": 9, "seed": 3, "norm": "none"}
    return WGANTrainer(WGANConfig(**{**base, "privacy": Privacy(), **settings}), "cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_private_step_trains_both_networks_and_clips_the_critics_weights(precision: Any) -> None:
    trainer = private_trainer(precision=precision)
    before = [parameter.detach().clone() for parameter in trainer.generator.parameters()]
    log = trainer.step(patches())
    assert all(float(parameter.detach().abs().max()) <= 0.01 for parameter in trainer.critic.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, trainer.generator.parameters(), strict=True))
    assert float(log["penalty"]) == 0
    assert all(torch.isfinite(torch.stack([*log.values()])))


def test_passes_may_have_batches_of_any_size_and_none_at_all() -> None:
    trainer = private_trainer(critic_steps=3)
    log = trainer.step([patches(5), patches(1), patches(0)])
    assert all(torch.isfinite(torch.stack([*log.values()])))
    (count,) = {int(entry["step"]) for entry in trainer.state_dict()["critic_optimiser"]["state"].values()}
    assert count == 3  # the empty batch is noise alone


def test_what_does_not_fit_privacy_is_refused() -> None:
    for settings, message in (({"norm": "spectral"}, "spectral norm"), ({"precision": "fp16"}, "loss scale of fp16")):
        with pytest.raises(InputError, match=message):
            private_trainer(**settings)
    with pytest.raises(InputError, match="noise_multiplier is 0; it must be positive"):
        Privacy(noise_multiplier=0)


def test_poisson_batches_hold_each_sample_by_chance_and_repeat() -> None:
    sampler = PoissonSampler(50, 5, seed=1)
    batches = [sampler(step) for step in range(2000)]
    assert sampler.sample_rate == 0.1
    assert sampler.steps_per_epoch == 10
    sizes = np.array([len(batch) for batch in batches])
    assert sizes.mean() == pytest.approx(5, abs=0.2)
    assert sizes.var() == pytest.approx(50 * 0.1 * 0.9, rel=0.1)
    counts = np.bincount(np.concatenate(batches), minlength=50)
    assert counts.min() > 130
    assert counts.max() < 270
    assert all(len(set(batch.tolist())) == len(batch) for batch in batches)
    np.testing.assert_array_equal(PoissonSampler(50, 5, seed=1)(7), batches[7])


@pytest.mark.parametrize("updates", ["one", "two"])
def test_an_empty_batch_still_trains_the_generator_on_the_expected_number(updates: Any) -> None:
    config = WGANConfig(
        patch_size=(16, 16, 16),
        steps=1,
        seed=0,
        filters=8,
        norm="none",
        batch=2,
        privacy=Privacy(),
        recipe=replace(CORRECTED, dp_updates=updates),
    )
    trainer = WGANTrainer(config, "cpu")
    before = [parameter.clone() for parameter in trainer.generator.parameters()]
    assert torch.isfinite(trainer.step(torch.zeros(0, 2, 16, 16, 16))["generator_loss"])
    assert any(not torch.equal(*pair) for pair in zip(before, trainer.generator.parameters(), strict=True))
