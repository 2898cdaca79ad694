"""Every operation that is written by hand, on a card: against the CPU in float32, and in the formats that it has."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks import UNet, place
from vesselgan.networks.dropout import Dropout
from vesselgan.networks.folding import folded_conv3d, strided_conv3d
from vesselgan.networks.instance import Float32InstanceNorm3d
from vesselgan.networks.last_block import last_block
from vesselgan.networks.spectral import SpectralConv3d
from vesselgan.networks.upsampling import UpsampleConv3d
from vesselgan.training import choose_precision

pytestmark = pytest.mark.cuda

DEVICE = os.environ.get("VESSELGAN_TEST_DEVICE", "cuda")
# Of the largest value: a card's products of 10, 8 and 11 bits of mantissa, several in a row.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 6e-2, "fp16": 1e-2}


class LastBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.upsample, self.norm, self.output = (
            UpsampleConv3d(32, 16),
            nn.BatchNorm3d(16),
            nn.Conv3d(16, 2, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # as the block before it gives its result
        return last_block(x, self.upsample, self.norm, self.output)


class Folded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Conv3d(16, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return folded_conv3d(x, self.output)


class Strided(nn.Module):
    """With the gradient of its input's gradient, as a penalty has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 16, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.first.bias is not None
        result = strided_conv3d(x, self.first.weight, self.first.bias)
        (inner,) = torch.autograd.grad(result.float().square().sum(), x, create_graph=True)
        return inner


OPERATIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "last block": (LastBlock, (4, 32, 16, 16, 8)),
    "upsampling convolution": (lambda: UpsampleConv3d(32, 16), (2, 32, 16, 16, 8)),
    "folded convolution": (Folded, (2, 16, 32, 32, 16)),
    "strided convolution, twice differentiated": (Strided, (2, 2, 32, 32, 16)),
    "spectral convolution": (lambda: SpectralConv3d(16, 32), (2, 16, 16, 16, 8)),
    "folded spectral convolution": (lambda: SpectralConv3d(2, 32, folded=True), (2, 2, 32, 32, 16)),
    "instance norm": (lambda: Float32InstanceNorm3d(16), (2, 16, 8, 8, 4)),
}


def formats() -> list[str]:
    """Those of the device; asking for them changes how it computes float32."""
    found = []
    for name in TOLERANCE:
        try:
            choose_precision(name, DEVICE)
            found.append(name)
        except (InputError, RuntimeError):
            continue
    return found


def computed(name: str, device: str, precision: str) -> list[Tensor]:
    """The result, and the gradients of input and weights."""
    make, shape = OPERATIONS[name]
    torch.manual_seed(0)
    module = make()
    x = torch.randn(shape)
    chosen = choose_precision(precision, device)
    place(module, device, torch.channels_last_3d)
    x = x.to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    with chosen.autocast():
        result = module(x)
    weighted = (result.float() * torch.linspace(-1, 1, result.numel(), device=device).view(result.shape)).sum()
    wanted = [x, *module.parameters()]
    gradients = torch.autograd.grad(weighted, wanted, allow_unused=True)
    return [result, *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_what_the_cpu_gives_in_float32(name: str, precision: str) -> None:
    if precision not in formats():
        pytest.skip(f"{DEVICE} has no {precision}")
    expected = computed(name, "cpu", "fp32")
    found = computed(name, DEVICE, precision)
    for one, other in zip(found, expected, strict=True):
        # By their lengths: where an activation has its kink, a rounding turns a single gradient on or off.
        error = torch.linalg.vector_norm(one.detach().float().cpu() - other.detach())
        length = torch.linalg.vector_norm(other.detach()).clamp(min=1e-3)
        print(f"{name} {precision}: {error / length:.1e} of the length")
        assert error <= TOLERANCE[precision] * length


def test_dropout_draws_its_share_and_the_same_for_a_seed() -> None:
    drop, ones = Dropout(0.1), torch.ones(2, 8, 32, 32, 16, device=DEVICE)
    torch.manual_seed(3)
    first = drop(ones)
    torch.manual_seed(3)
    assert torch.equal(first, drop(ones))
    assert not torch.equal(first, drop(ones))
    kept = first != 0
    assert float(kept.float().mean()) == pytest.approx(0.9, abs=0.005)
    torch.testing.assert_close(first[kept], torch.full_like(first[kept], 1 / 0.9), rtol=1e-4, atol=0)


def test_a_unet_segments_as_on_the_cpu_also_with_norms_in_place() -> None:
    torch.manual_seed(0)
    unet = UNet(filters=(8, 16, 32)).eval()
    images = torch.randn(2, 1, 32, 32, 16)
    choose_precision("fp32", DEVICE)
    with torch.no_grad():
        expected = unet(images)
        place(unet, DEVICE, torch.channels_last_3d)
        found = unet(images.to(DEVICE))
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(unet.for_inference()(images.to(DEVICE)), found, rtol=1e-4, atol=1e-4)
