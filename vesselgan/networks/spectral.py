"""A convolution divided by its largest singular value (Miyato et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks.folding import strided_conv3d

__all__ = ["SpectralConv3d"]


class SpectralConv3d(nn.Module):
    """3x3x3 convolution, stride 2, padding 1, whose weight is ``weight_orig / sigma``.

    In training mode every forward does one power iteration, v first: v = normalise(W^T u), u = normalise(W v),
    sigma = u.Wv. That is the order, the parameter order (bias, then ``weight_orig``) and the buffer names of
    ``torch.nn.utils.spectral_norm``, with which the paper's checkpoints were made;
    ``torch.nn.utils.parametrizations.spectral_norm`` updates u first and gives other numbers. ``folded`` takes the
    input's gradient in the way that is fast for few input channels.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, folded: bool = False) -> None:
        super().__init__()
        self.folded = folded
        convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        assert convolution.bias is not None
        self.bias = convolution.bias
        self.weight_orig = convolution.weight
        self.register_buffer("weight_u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(in_channels * 27), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, X, Y, Z) -> (B, O, X/2, Y/2, Z/2)."""
        weight = self.weight_orig / self._sigma()
        if self.folded:
            return strided_conv3d(x, weight, self.bias)
        return F.conv3d(x, weight, self.bias, stride=2, padding=1)

    def _sigma(self) -> Tensor:
        # In float32 under autocast too: the vectors carry over from step to step, and so would their rounding.
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            weight = self.weight_orig.flatten(1)  # (O, I * 27)
            u, v = self.weight_u, self.weight_v
            if self.training:
                with torch.no_grad():
                    v = F.normalize(weight.t() @ u, dim=0, eps=1e-12)
                    u = F.normalize(weight @ v, dim=0, eps=1e-12)
                    # Into the buffers, not over them: backward needs this forward's u and v after the next one.
                    self.weight_u.copy_(u)
                    self.weight_v.copy_(v)
            return torch.dot(u, weight @ v)
