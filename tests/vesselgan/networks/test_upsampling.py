"""The fused upsampling against the two layers that it stands for."""

import pytest
import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks import Generator, UNet, UpsampleConv3d


def output_and_gradients(network: nn.Module, *inputs: Tensor) -> list[Tensor]:
    output = network(*inputs)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    return [output, *torch.autograd.grad((output * weights).sum(), list(network.parameters()))]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * float(other.detach().abs().max()) + 1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (8, 8, 4)])
def test_fused_upsampling_equals_upsample_then_convolve_at_the_borders_too(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = UpsampleConv3d(5, 3)
    x = torch.randn(2, 5, *shape)
    reference = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv3d(5, 3, 3, padding=1))
    reference[1].load_state_dict(layer.state_dict())
    assert_same(output_and_gradients(layer, x), output_and_gradients(reference, x))
    layer.upsampling = "plain"
    assert_same(output_and_gradients(layer, x), output_and_gradients(reference, x), tolerance=1e-7)


def test_a_fused_generator_has_the_parameters_and_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    fused, plain = (Generator((16, 32, 16), filters=16, latent=8, upsampling=kind) for kind in ("fused", "plain"))
    plain.load_state_dict(fused.state_dict())
    # In double precision, since BatchNorm leaves nothing but rounding of the gradient of the bias before it.
    fused.double().to(memory_format=torch.channels_last_3d)
    noise = torch.randn(4, 8, dtype=torch.float64)
    assert_same(output_and_gradients(fused, noise), output_and_gradients(plain.double(), noise), tolerance=1e-10)


def test_a_fused_unet_has_the_parameters_and_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    fused, plain = (UNet(filters=(4, 8, 8), dropout=0.0, upsampling=kind) for kind in ("fused", "plain"))
    plain.load_state_dict(fused.state_dict())
    images = torch.randn(2, 1, 16, 16, 8)
    assert_same(output_and_gradients(fused, images), output_and_gradients(plain, images), tolerance=1e-4)


def test_an_unknown_way_of_upsampling_is_refused() -> None:
    with pytest.raises(InputError, match="'fused' or 'plain'"):
        UpsampleConv3d(4, 2, "fast")  # type: ignore[arg-type]
