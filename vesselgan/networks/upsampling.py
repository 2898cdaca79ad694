"""Nearest-neighbour upsampling by two and a 3x3x3 convolution, as one operation.

Along one axis, upsampling repeats every value, so the taps (w0, w1, w2) meet each input value twice:

    y[2m]   = w0 x[m-1] + (w1 + w2) x[m]
    y[2m+1] =             (w0 + w1) x[m] + w2 x[m+1]

which is a transposed convolution with kernel 4, stride 2, padding 1 and taps (w2, w1 + w2, w0 + w1, w0). In three
dimensions it takes 8 products per output voxel in place of 27, and the upsampled tensor, the largest of a training
step, never exists. Zero padding at the borders is the same in both. Only the order of float sums differs.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.errors import InputError

__all__ = ["UpsampleConv3d", "Upsampling", "transposed_weight", "transposed_weight_gradient", "upsample_conv3d"]

Upsampling = Literal["fused", "plain"]


def upsample_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None = None, upsampling: Upsampling = "fused") -> Tensor:
    """``conv3d(upsample(x), weight, bias, padding=1)``: (B, I, X, Y, Z) -> (B, O, 2X, 2Y, 2Z).

    ``weight`` (O, I, 3, 3, 3) is the ordinary convolution's in both ways of computing it. ``plain`` is the reference.
    """
    if upsampling == "plain":
        return F.conv3d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    return F.conv_transpose3d(x, transposed_weight(weight), bias, stride=2, padding=1)


def transposed_weight(weight: Tensor) -> Tensor:
    """Taps of the equal transposed convolution: (O, I, 3, 3, 3) -> (I, O, 4, 4, 4); differentiable."""
    for axis in (2, 3, 4):
        first, middle, last = weight.unbind(axis)
        weight = torch.stack((last, middle + last, first + middle, first), dim=axis)
    return weight.transpose(0, 1)


def transposed_weight_gradient(gradient: Tensor) -> Tensor:
    """The gradient of a weight from that of its transposed form: (I, O, 4, 4, 4) -> (O, I, 3, 3, 3)."""
    for axis in (2, 3, 4):
        t0, t1, t2, t3 = gradient.unbind(axis)
        gradient = torch.stack((t2 + t3, t1 + t2, t0 + t1), dim=axis)
    return gradient.transpose(0, 1)


class UpsampleConv3d(nn.Module):
    """Upsampling by two and a 3x3x3 convolution; ``weight`` and ``bias`` are those of ``nn.Conv3d``.

    ``upsampling`` may be changed at any time: it chooses how the result is computed, not what it is.
    """

    def __init__(self, in_channels: int, out_channels: int, upsampling: Upsampling = "fused") -> None:
        super().__init__()
        if upsampling not in ("fused", "plain"):
            raise InputError(f"upsampling is {upsampling!r}; it can be 'fused' or 'plain'")
        convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
        assert convolution.bias is not None
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.upsampling: Upsampling = upsampling

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, X, Y, Z) -> (B, O, 2X, 2Y, 2Z)."""
        return upsample_conv3d(x, self.weight, self.bias, self.upsampling)

    def extra_repr(self) -> str:
        """Channels and the way of computing, for ``print(network)``."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, upsampling={self.upsampling!r}"
