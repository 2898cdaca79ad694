"""The average of the generator's weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.training import WGANConfig, WGANTrainer, train_wgan
from vesselgan.training.averaging import WeightAverage

CONFIG = WGANConfig(patch_size=(16, 16, 16), filters=8, latent=8, steps=6, seed=5, ema=0.5)


def real(step: int) -> Tensor:
    return torch.rand(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


def test_the_average_forgets_fast_at_first_and_at_its_decay_later() -> None:
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, decay=0.3)
    expected, keeps = 1.0, [2 / 11, 3 / 12, 0.3, 0.3]
    for step, keep in enumerate(keeps):
        with torch.no_grad():
            network.weight.fill_(step)
            network.running_mean.fill_(step)  # type: ignore[union-attr]
            network.num_batches_tracked.fill_(step)  # type: ignore[union-attr]
        average.update(network)
        expected = keep * expected + (1 - keep) * step
        assert float(average.network().weight.detach()) == pytest.approx(expected, rel=1e-6)  # type: ignore[arg-type]
        assert int(average.network().num_batches_tracked) == step  # type: ignore[arg-type]
    assert float(average.network().running_mean) == pytest.approx(expected - 0.3**2 * 0.25 * 2 / 11, rel=1e-5)  # type: ignore[arg-type]


def test_a_training_with_an_average_gives_it_and_trains_the_same_weights() -> None:
    with_average, without = (WGANTrainer(WGANConfig(**{**vars(CONFIG), "ema": ema}), "cpu") for ema in (0.5, None))
    own = WeightAverage(with_average.generator, 0.5)
    for step in range(3):
        assert with_average.step(real(step)) == without.step(real(step))
        own.update(with_average.generator)
    assert without.generator_for_use is without.generator
    for name, tensor in with_average.generator_for_use.state_dict().items():
        assert torch.equal(tensor, own.network().state_dict()[name])
    assert not torch.equal(with_average.generator_for_use.output.weight, without.generator.output.weight)


def test_train_wgan_returns_the_average() -> None:
    averaged = train_wgan(CONFIG, real, device="cpu")
    plain = train_wgan(WGANConfig(**{**vars(CONFIG), "ema": None}), real, device="cpu")
    assert not torch.equal(averaged.output.weight, plain.output.weight)


def test_a_decay_outside_zero_and_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ema is 1; a decay lies between 0 and 1"):
        WGANTrainer(WGANConfig(**{**vars(CONFIG), "ema": 1}), "cpu")
