"""U-Net and ResNet-10 against second programs of the same networks, written from their descriptions.

The references are plain function calls over a list of tensors: they share neither modules nor names with ours. Weights
are handed over in the order of `parameters()`, so a layer in another place or of another shape does not fit.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks import ResNet10, UNet


def random_weights(network: nn.Module) -> list[Tensor]:
    """Random values for every parameter, given to the network, and returned as independent leaves."""
    rng = torch.Generator().manual_seed(0)
    leaves = []
    with torch.no_grad():
        for parameter in network.parameters():
            values = torch.randn(parameter.shape, generator=rng, dtype=torch.float64) * 0.1
            if parameter.ndim == 1:
                values += 0.5  # norms that neither vanish nor explode
            parameter.copy_(values)
            leaves.append(parameter.detach().clone().contiguous().requires_grad_())
    return leaves


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """With the batch's own statistics: (x - mean) / sqrt(biased variance + 1e-5)."""
    mean = x.mean(dim=(0, 2, 3, 4), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3, 4), keepdim=True)
    shape = (1, -1, 1, 1, 1)
    return (x - mean) / (variance + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)


def reference_unet(images: Tensor, weights: Iterator[Tensor], levels: int) -> Tensor:
    """BatchNorm; levels of conv3-ReLU-BN-conv3-ReLU-BN, max-pooled between; two 1x1x1 conv-ReLU; then upward: nearest
    upsampling, concat with the skip, the same block; 1x1x1 conv. Without dropout."""

    def block(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.conv3d(x, next(weights), next(weights), padding=1).clamp(min=0)
            x = batch_norm(x, next(weights), next(weights))
        return x

    hidden = batch_norm(images, next(weights), next(weights))
    skips = []
    for level in range(levels):
        if level:
            n, c, x, y, z = hidden.shape
            hidden = hidden.view(n, c, x // 2, 2, y // 2, 2, z // 2, 2).amax(dim=(3, 5, 7))
        hidden = block(hidden)
        skips.append(hidden)
    hidden = skips.pop()
    for _ in range(2):
        hidden = F.conv3d(hidden, next(weights), next(weights)).clamp(min=0)
    for skip in reversed(skips):
        for axis in (2, 3, 4):
            hidden = hidden.repeat_interleave(2, dim=axis)
        hidden = block(torch.cat([hidden, skip], dim=1))
    return F.conv3d(hidden, next(weights), next(weights))


def reference_resnet10(images: Tensor, weights: Iterator[Tensor]) -> Tensor:
    """conv7/2, BN, ReLU, maxpool3/2; basic blocks of 64, 128 (stride 2), 256 (dilation 2), 512 (dilation 4), whose
    shortcut is a 1x1x1 conv and BN wherever the shape changes; mean over all positions."""

    def conv_norm(x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = next(weights)
        padding = dilation * (weight.shape[-1] // 2)
        x = F.conv3d(x, weight, stride=stride, padding=padding, dilation=dilation)
        return batch_norm(x, next(weights), next(weights))

    hidden = conv_norm(images, stride=2).clamp(min=0)
    hidden = F.max_pool3d(F.pad(hidden, (1,) * 6, value=-torch.inf), 3, 2)
    width = 64
    for wider, stride, dilation in ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4)):
        inner = conv_norm(hidden, stride, dilation).clamp(min=0)
        inner = conv_norm(inner, 1, dilation)
        shortcut = hidden if wider == width else conv_norm(hidden, stride)
        hidden, width = (inner + shortcut).clamp(min=0), wider
    return hidden.flatten(2).mean(dim=2)


def assert_close(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * float(reference.detach().abs().max()) + 1e-12)


@pytest.mark.parametrize("upsampling", ["fused", "plain"])
@pytest.mark.parametrize("filters", [(4, 8), (4, 6, 8, 10)])
def test_the_unet_and_its_gradients_are_those_of_the_reference(filters: tuple[int, ...], upsampling: str) -> None:
    unet = UNet(filters=filters, dropout=0.0, upsampling=upsampling).double()  # type: ignore[arg-type]
    weights = random_weights(unet)
    images = torch.randn(2, 1, 16, 24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rest = iter(weights)
    ours, reference = unet(images), reference_unet(images, rest, len(filters))
    assert not list(rest)
    assert_close(ours, reference, 1e-10)
    direction = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad((ours * direction).sum(), list(unet.parameters()))
    expected = torch.autograd.grad((reference * direction).sum(), weights)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10 * largest)


def test_the_resnet_and_its_gradients_are_those_of_the_reference() -> None:
    net = ResNet10().double()
    weights = random_weights(net)
    images = torch.randn(2, 1, 24, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rest = iter(weights)
    ours, reference = net(images), reference_resnet10(images, rest)
    assert not list(rest)
    assert_close(ours, reference, 1e-10)
    direction = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad((ours * direction).sum(), list(net.parameters()))
    expected = torch.autograd.grad((reference * direction).sum(), weights)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10 * largest)
