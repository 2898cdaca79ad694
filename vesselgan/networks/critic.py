"""The critic (discriminator) of Subramaniam et al. 2022: a labelled patch to a score."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks.folding import strided_conv3d
from vesselgan.networks.instance import Float32InstanceNorm3d
from vesselgan.networks.sizes import check_filters, check_patch_size
from vesselgan.networks.spectral import SpectralConv3d
from vesselgan.settings.options import CriticNorm

__all__ = ["Critic"]


class Critic(nn.Module):
    """4 x (3x3x3 convolution of stride 2, norm, LeakyReLU 0.2) -> flatten -> Linear -> one score per sample.

    Channels go 2, F/8, F/4, F/2, F with F = ``filters``. ``norm`` is ``instance`` (no affine, no running statistics),
    ``spectral`` (of the convolutions; the Linear has none) or ``none``. The published code fixes the Linear to 8x8x4
    positions; here it follows the patch. Under autocast ``float32_score`` keeps the Linear, a sum over all features, in
    float32: in float16 the gradient of its bias is the loss scale itself, which starts beyond float16's largest number.
    ``folded`` takes the gradient of the patches, of 2 channels only, in a way that is fast: the same but for rounding.

    Raises InputError unless each axis of ``patch_size`` is a multiple of 16 and ``filters`` of 8, and for an instance
    norm that would have a single final position, whose normalised value is always zero; in ``forward`` for patches of
    another shape.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        filters: int = 512,
        channels: int = 2,
        norm: CriticNorm = "instance",
        *,
        float32_score: bool = True,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = check_patch_size(patch_size)
        self.filters = check_filters(filters)
        self.channels = channels
        self.norm = norm
        self.float32_score = float32_score
        x, y, z = (axis // 16 for axis in self.patch_size)
        if norm not in ("instance", "spectral", "none"):
            raise InputError(f"critic norm is {norm!r}; it can be 'instance', 'spectral' or 'none'")
        if norm == "instance" and x * y * z == 1:
            raise InputError(
                f"patch size {self.patch_size}: an instance-norm critic would normalise a single final position; "
                "the nearest size that works is (32, 16, 16)"
            )
        widths = (channels, filters // 8, filters // 4, filters // 2, filters)
        self.blocks = nn.Sequential(
            *(_block(*pair, norm, folded and index == 0) for index, pair in enumerate(pairwise(widths)))
        )
        self.score = nn.Linear(filters * x * y * z, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (B, channels, X, Y, Z) -> scores (B,); higher means more real."""
        wanted = (self.channels, *self.patch_size)
        if tuple(patches.shape[1:]) != wanted:
            raise InputError(f"patches of {tuple(patches.shape)}; this critic takes (B, {', '.join(map(str, wanted))})")
        features = self.blocks(patches).flatten(1)
        if self.float32_score:
            with torch.autocast(features.device.type, enabled=False):
                return self._score(features.float())
        return self._score(features)

    def _score(self, features: Tensor) -> Tensor:
        score: Tensor = self.score(features)  # (B, 1)
        return score.squeeze(1)


class _FoldedConv3d(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return strided_conv3d(x, self.weight, self.bias)


def _block(in_channels: int, out_channels: int, norm: CriticNorm, folded: bool) -> nn.Sequential:
    # In place, the activation keeps one tensor per layer for backward instead of two.
    activation = nn.LeakyReLU(0.2, inplace=True)
    if norm == "spectral":
        return nn.Sequential(SpectralConv3d(in_channels, out_channels, folded=folded), activation)
    kind = _FoldedConv3d if folded else nn.Conv3d
    convolution = kind(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
    if norm == "instance":
        return nn.Sequential(convolution, Float32InstanceNorm3d(out_channels), activation)
    return nn.Sequential(convolution, activation)
