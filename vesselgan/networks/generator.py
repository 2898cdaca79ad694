"""The generator of Subramaniam et al. 2022: noise to an image and its vessel label, as two channels."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks.folding import folded_conv3d
from vesselgan.networks.last_block import last_block
from vesselgan.networks.sizes import check_filters, check_patch_size
from vesselgan.networks.synced import SyncedBatchNorm3d
from vesselgan.networks.upsampling import UpsampleConv3d, Upsampling

__all__ = ["Generator"]


class Generator(nn.Module):
    """Linear -> BatchNorm -> ReLU -> 3 x (upsample, conv, BatchNorm, ReLU) -> conv -> tanh.

    Channels go F, F/2, F/4, F/8, 2 with F = ``filters``, while each axis doubles three times. Weights start as PyTorch
    makes them; :func:`vesselgan.networks.initialise` gives the paper's. ``upsampling`` is ``fused`` (fast) or ``plain``
    (the paper's two layers): same parameters, same output but for rounding.

    Raises InputError unless each axis of ``patch_size`` is a multiple of 16 and ``filters`` of 8, and in ``forward``
    for noise of another shape.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        filters: int = 512,
        latent: int = 128,
        channels: int = 2,
        *,
        upsampling: Upsampling = "fused",
    ) -> None:
        super().__init__()
        self.patch_size = check_patch_size(patch_size)
        self.filters = check_filters(filters)
        self.latent = latent
        self.upsampling = upsampling
        x, y, z = (axis // 8 for axis in self.patch_size)
        self.linear = nn.Linear(latent, filters * x * y * z)
        self.seed = nn.Unflatten(1, (filters, x, y, z))
        self.norm = nn.BatchNorm3d(filters)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                UpsampleConv3d(width, width // 2, upsampling),
                nn.BatchNorm3d(width // 2),
                nn.ReLU(inplace=True),
            )
            for width in (filters, filters // 2, filters // 4)
        )
        self.output = nn.Conv3d(filters // 8, channels, kernel_size=3, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Noise (B, latent) or (B, latent, 1, 1, 1), N(0, 1) -> patches (B, channels, X, Y, Z) in [-1, 1]."""
        if noise.ndim < 2 or noise.shape[1:].numel() != self.latent:
            raise InputError(f"noise of {tuple(noise.shape)}; this generator takes (B, {self.latent})")
        hidden = self.seed(self.linear(noise.flatten(1)))  # (B, F, X/8, Y/8, Z/8)
        if self.output.weight.is_contiguous(memory_format=torch.channels_last_3d):
            # The Linear lays channels out first; turned once here, all that follows stays on the fast kernels.
            hidden = hidden.contiguous(memory_format=torch.channels_last_3d)
        hidden = torch.relu_(self.norm(hidden))
        for block in self.blocks[:-1]:
            hidden = block(hidden)
        return torch.tanh(self._last_block(hidden))

    def _last_block(self, hidden: Tensor) -> Tensor:
        block = cast(nn.Sequential, self.blocks[-1])
        if self.upsampling == "plain":
            plain: Tensor = self.output(block(hidden))
            return plain
        if self.training and not isinstance(block[1], SyncedBatchNorm3d):
            return last_block(hidden, cast(UpsampleConv3d, block[0]), cast(nn.BatchNorm3d, block[1]), self.output)
        return folded_conv3d(block(hidden), self.output)
