"""Number formats: chosen once, really used, never replaced in silence."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks.spectral import SpectralConv3d
from vesselgan.training import WGANConfig, WGANTrainer, choose_precision, critic_loss

SIZE = (16, 16, 16)


def trainer(precision: Any, **settings: Any) -> WGANTrainer:
    config = WGANConfig(patch_size=SIZE, filters=8, latent=8, steps=9, seed=0, precision=precision, **settings)
    return WGANTrainer(config, "cpu")


def real() -> Tensor:
    return torch.rand(2, 2, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_networks_compute_in_the_chosen_format_and_keep_float32_weights(name: str, dtype: torch.dtype) -> None:
    training = trainer(name)
    seen: set[torch.dtype] = set()
    scores: set[torch.dtype] = set()
    layers = [training.generator.output, *training.generator.blocks, *training.critic.blocks]
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    training.critic.score.register_forward_hook(lambda module, inputs, output: scores.add(output.dtype))
    log = training.step(real())
    assert seen == {dtype}
    assert scores == {torch.float32}
    assert {parameter.dtype for parameter in training.critic.parameters()} == {torch.float32}
    assert all(reading.dtype == torch.float32 for name, reading in log.items() if name != "outcome")


def test_low_precision_losses_are_near_the_float32_ones_and_not_equal_to_them() -> None:
    exact = trainer("fp32").step(real())
    for name in ("bf16", "fp16"):
        rounded = trainer(name).step(real())
        assert float(rounded["critic_loss"]) == pytest.approx(float(exact["critic_loss"]), rel=0.02)
        assert not torch.equal(rounded["critic_loss"], exact["critic_loss"])


def test_float16_trains_under_its_scaler_with_the_double_backward_of_the_penalty() -> None:
    training = trainer("fp16")
    assert training.precision.scaler.is_enabled()
    weight = training.critic.score.weight.detach().clone()
    logs = [training.step(real()) for _ in range(3)]
    assert all(torch.isfinite(torch.stack([*log.values()])).all() for log in logs)
    assert not torch.equal(weight, training.critic.score.weight)


def test_the_float16_critic_gradient_is_the_float32_one_up_to_rounding() -> None:
    gradients = {}
    for name in ("fp32", "fp16"):
        precision, critic = choose_precision(name, "cpu"), trainer(name).critic
        with precision.autocast():
            terms = critic_loss(critic, real(), -real(), torch.tensor(0.3), inner_scale=precision.inner_scale)
        scaled = torch.autograd.grad(precision.scaler.scale(terms.loss), list(critic.parameters()))
        gradients[name] = [gradient / precision.scaler.get_scale() for gradient in scaled]
    for half, single in zip(gradients["fp16"], gradients["fp32"], strict=True):
        assert float((half - single).norm()) <= 0.02 * float(single.norm())


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_only_float16_has_a_scaler(name: str) -> None:
    precision = choose_precision(name, "cpu")
    assert not precision.scaler.is_enabled()
    assert precision.inner_scale == 1.0


def test_float32_is_native_and_the_probe_answers_for_the_others() -> None:
    assert choose_precision("fp32", "cpu").native is True
    assert choose_precision("bf16", "cpu").native in (True, False)


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("fp8", "cpu", "unknown precision 'fp8'; known: fp32, tf32, bf16, fp16"),
        ("tf32", "cpu", "tf32 needs a CUDA device"),
        ("fp32", "meta", "device 'meta' is not supported"),
    ],
)
def test_a_format_that_the_device_lacks_is_refused(name: str, device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_precision(name, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_cuda_device_is_refused() -> None:
    with pytest.raises(InputError, match="sees no CUDA device"):
        choose_precision("fp16", "cuda")


def test_spectral_norm_stays_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    layer = SpectralConv3d(2, 4)
    with torch.no_grad(), choose_precision("bf16", "cpu").autocast():
        for _ in range(50):
            layer(torch.zeros(1, 2, 4, 4, 4))
    largest = torch.linalg.matrix_norm(layer.weight_orig.detach().flatten(1), ord=2)
    sigma = layer.weight_u @ layer.weight_orig.detach().flatten(1) @ layer.weight_v
    torch.testing.assert_close(sigma, largest, rtol=1e-5, atol=0)
