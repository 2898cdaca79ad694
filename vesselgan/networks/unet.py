"""The 3D U-Net that tests the synthetic data: the one of the BRAVE-NET code, whose files the paper's scripts use."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.errors import InputError
from vesselgan.networks.dropout import Dropout
from vesselgan.networks.upsampling import Upsampling, upsample_conv3d

__all__ = ["UNet"]


class UNet(nn.Module):
    """BatchNorm -> encoder -> two 1x1x1 convolutions -> decoder with skips -> 1x1x1 convolution to one logit.

    Each level is conv3-ReLU-BatchNorm-dropout-conv3-ReLU-BatchNorm; levels are joined by 2x2x2 max-pooling on the way
    down and nearest-neighbour upsampling on the way up. 5.97 million parameters at the default widths, from the
    finest level to the coarsest. ``upsampling`` chooses how a decoder's first convolution is computed, see
    :mod:`vesselgan.networks.upsampling`; the result is the same but for rounding.

    Raises InputError for fewer than two levels, and in ``forward`` for images of another rank or number of channels and
    for an axis that cannot be halved often enough.
    """

    def __init__(
        self,
        channels: int = 1,
        filters: Sequence[int] = (32, 64, 128, 256),
        dropout: float = 0.1,
        *,
        upsampling: Upsampling = "fused",
    ) -> None:
        super().__init__()
        if len(filters) < 2:
            raise InputError(f"U-Net filters {list(filters)}: at least two levels are needed")
        self.channels = channels
        self.multiple = 2 ** (len(filters) - 1)
        self.norm = nn.BatchNorm3d(channels)
        self.encoder = nn.ModuleList(
            _Level(nn.Conv3d(width_in, width_out, 3, padding=1), width_out, dropout)
            for width_in, width_out in pairwise((channels, *filters))
        )
        self.bottleneck = nn.Sequential(
            nn.Conv3d(filters[-1], filters[-1], 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(filters[-1], filters[-1], 1),
            nn.ReLU(inplace=True),
        )
        self.decoder = nn.ModuleList(
            _Level(_SkipConv3d(coarse, fine, fine, upsampling), fine, dropout)
            for coarse, fine in pairwise(reversed(filters))
        )
        self.output = nn.Conv3d(filters[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, X, Y, Z) -> logits (B, 1, X, Y, Z); vessel where the logit is above 0."""
        if images.ndim != 5 or images.shape[1] != self.channels:
            raise InputError(f"U-Net input of {tuple(images.shape)}; it takes (B, {self.channels}, X, Y, Z)")
        if any(axis % self.multiple for axis in images.shape[2:]):
            nearest = tuple(max(1, round(axis / self.multiple)) * self.multiple for axis in images.shape[2:])
            raise InputError(
                f"U-Net input of {tuple(images.shape[2:])} voxels: each axis must be a multiple of {self.multiple}; "
                f"the nearest is {nearest}"
            )
        hidden = self.norm(images)
        skips = []
        for depth, level in enumerate(self.encoder):
            hidden = level(F.max_pool3d(hidden, 2) if depth else hidden)
            skips.append(hidden)
        hidden = self.bottleneck(skips.pop())
        for level in self.decoder:
            hidden = level(hidden, skips.pop())
        logits: Tensor = self.output(hidden)
        return logits

    def for_inference(self) -> Self:
        """A copy for inference alone: the same values, but each level's norms are computed in place.

        To the bit in channels_last_3d; elsewhere PyTorch computes norms in another order. For CPUs: no GPU has been
        tried. Raises ValueError in training mode.
        """
        if self.training:
            raise ValueError("a U-Net in training mode has no fixed statistics; call eval() before")
        unet = copy.deepcopy(self).requires_grad_(False)
        for level in (*unet.encoder, *unet.decoder):
            assert isinstance(level, _Level)
            for index, layer in enumerate(level.rest):
                if isinstance(layer, nn.BatchNorm3d):
                    level.rest[index] = _NormInPlace(layer)
        return unet


class _Level(nn.Module):
    """conv3-ReLU-BatchNorm-dropout-conv3-ReLU-BatchNorm, the first convolution being given."""

    def __init__(self, first: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.first = first
        self.rest = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.BatchNorm3d(width),
            Dropout(dropout),
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm3d(width),
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        hidden: Tensor = self.rest(self.first(*inputs))
        return hidden


class _NormInPlace(nn.Module):
    """A BatchNorm with fixed statistics that overwrites what it is given; it takes a fraction of the time.

    `nn.BatchNorm3d` writes to new memory, which for large tiles costs more than the arithmetic, and goes through few
    channels a few numbers at a time. Here the last axis and the channels are one: a row of channels_last_3d.
    """

    def __init__(self, norm: nn.BatchNorm3d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        voxels = x.contiguous(memory_format=torch.channels_last_3d).permute(0, 2, 3, 4, 1)
        rows = voxels.flatten(3).permute(0, 3, 1, 2)
        norm = self.norm
        weight, bias, mean, variance = (
            values.repeat(x.shape[-1])
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            if values is not None  # none of them is
        )
        none = weight.new_empty(0)  # statistics of the batch, which are not wanted
        torch.native_batch_norm(rows, weight, bias, mean, variance, False, 0.0, norm.eps, out=(rows, none, none))
        return rows.permute(0, 2, 3, 1).view(voxels.shape).permute(0, 4, 1, 2, 3)


class _SkipConv3d(nn.Module):
    """conv3(concat(upsample(coarse), skip)).

    A convolution is linear in its input channels, so ``fused`` adds the convolution of the skip to that of the coarse
    input, which then needs no upsampling; neither the upsampled nor the joined tensor is made.
    """

    def __init__(self, coarse: int, skip: int, out_channels: int, upsampling: Upsampling) -> None:
        super().__init__()
        convolution = nn.Conv3d(coarse + skip, out_channels, 3, padding=1)
        self.weight, self.bias = convolution.weight, convolution.bias
        self.upsampling = upsampling

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        if self.upsampling == "plain":
            joined = torch.cat((F.interpolate(coarse, scale_factor=2, mode="nearest"), skip), dim=1)
            return F.conv3d(joined, self.weight, self.bias, padding=1)
        from_coarse, from_skip = self.weight[:, : coarse.shape[1]], self.weight[:, coarse.shape[1] :]
        return F.conv3d(skip, from_skip, self.bias, padding=1).add_(upsample_conv3d(coarse, from_coarse))
