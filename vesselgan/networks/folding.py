"""Full-resolution convolutions between few channels, computed at half the resolution between eight times as many.

A processor's vector lanes hold 16 numbers, and a convolution library puts channels there: one of 2 channels uses an
eighth of them. :func:`fold` turns every block of 2x2x2 voxels into channels. A 3x3x3 convolution of C output channels
is then one of 8C output channels with kernel 4 and stride 2, since the 8 voxels of a block read 4x4x4 inputs together.
It does 64/27 of the arithmetic with all lanes in use. Only the order of float sums differs.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["fold", "folded_conv3d", "folded_weight", "folded_weight_gradient", "strided_conv3d", "unfold"]

_CORNERS = tuple(product((0, 1), repeat=3))  # of a 2x2x2 block, in the order in which fold() lays them out


def fold(volumes: Tensor) -> Tensor:
    """(B, C, 2X, 2Y, 2Z) -> (B, 8C, X, Y, Z): the voxels of each block, corner by corner, become channels."""
    batch, channels, *size = volumes.shape
    x, y, z = (axis // 2 for axis in size)
    blocks = volumes.reshape(batch, channels, x, 2, y, 2, z, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return blocks.reshape(batch, 8 * channels, x, y, z).contiguous(memory_format=torch.channels_last_3d)


def unfold(blocks: Tensor) -> Tensor:
    """(B, 8C, X, Y, Z) -> (B, C, 2X, 2Y, 2Z): undoes :func:`fold`."""
    batch, channels, x, y, z = blocks.shape
    corners = blocks.reshape(batch, 2, 2, 2, channels // 8, x, y, z).permute(0, 4, 5, 1, 6, 2, 7, 3)
    volumes = corners.reshape(batch, channels // 8, 2 * x, 2 * y, 2 * z)
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def folded_weight(weight: Tensor) -> Tensor:
    """(O, I, 3, 3, 3) -> (8O, I, 4, 4, 4): per corner of a block, the taps at that corner's offset."""
    corners = [F.pad(weight, (z, 1 - z, y, 1 - y, x, 1 - x)) for x, y, z in _CORNERS]
    return torch.cat(corners).contiguous(memory_format=torch.channels_last_3d)


def folded_weight_gradient(gradient: Tensor) -> Tensor:
    """The gradient of a weight from that of its folded form: (8O, I, 4, 4, 4) -> (O, I, 3, 3, 3)."""
    corners = zip(_CORNERS, gradient.chunk(8), strict=True)
    return torch.stack([part[:, :, x : x + 3, y : y + 3, z : z + 3] for (x, y, z), part in corners]).sum(0)


def folded_conv3d(x: Tensor, convolution: nn.Conv3d) -> Tensor:
    """``convolution(x)``, of kernel 3 and padding 1, for few output channels: (B, I, X, Y, Z) -> (B, O, X, Y, Z)."""
    assert convolution.bias is not None
    return unfold(F.conv3d(x, folded_weight(convolution.weight), convolution.bias.repeat(8), stride=2, padding=1))


def strided_conv3d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv3d(x, weight, bias, stride=2, padding=1)`` for few input channels: (B, I, 2X, 2Y, 2Z) -> (B, O, X, Y, Z).

    Only the gradient of ``x`` is computed in another way; any number of derivatives.
    """
    result = F.conv3d(x.detach(), weight, bias, stride=2, padding=1)
    if not x.requires_grad:
        return result
    return _FoldedInputGradient.apply(result, x, weight)  # type: ignore[no-any-return, no-untyped-call]


class _FoldedInputGradient(torch.autograd.Function):
    """Hands on the result of a strided convolution, and brings its gradient back to the input."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dtype = x.dtype
        ctx.mark_dirty(result)  # and no view of it, on which an activation could not work in place
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        # Along an axis, output m is w0 x[2m-1] + w1 x[2m] + w2 x[2m+1]. So voxel 2m has the gradient w1 g[m], and voxel
        # 2m + 1 has w2 g[m] + w0 g[m+1]: for the two corners of a block, two taps each on g[m] and g[m+1].
        (weight,) = ctx.saved_tensors
        taps = F.pad(weight.to(gradient.dtype), (0, 1) * 3)  # (O, I, 4, 4, 4), a zero after w2
        for axis in (2, 3, 4):
            taps = taps.index_select(axis, torch.tensor([1, 3, 2, 0], device=taps.device))
        corners = taps.reshape(*taps.shape[:2], 2, 2, 2, 2, 2, 2)  # per axis: corner, tap
        taps = corners.permute(2, 4, 6, 1, 0, 3, 5, 7).flatten(0, 3)  # (8I, O, 2, 2, 2)
        blocks = F.conv3d(F.pad(gradient, (0, 1) * 3), taps.contiguous(memory_format=torch.channels_last_3d))
        return gradient, unfold(blocks).to(ctx.dtype), None
