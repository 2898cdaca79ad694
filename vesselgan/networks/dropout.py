"""Dropout whose random numbers do not take longer than the convolutions around it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Dropout"]

_LEVELS = 2**16


class Dropout(nn.Module):
    """``torch.nn.Dropout``: zeroes voxels with this probability in training, and scales the others up.

    PyTorch draws one number per voxel on a CPU, one after another: a tenth of a U-Net's training time. Here a 64-bit
    draw serves four voxels, so there the probability is rounded to 1 / 65536.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of any shape; the same shape and memory layout back."""
        if x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        dropped = round(self.p * _LEVELS)
        if not self.training or dropped == 0:
            return x
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        # Laid over the voxels in the order in which they lie in memory.
        keep = draws.view(torch.int16)[: x.numel()] >= dropped - _LEVELS // 2
        layout = torch.empty_like(x, device="meta").stride()
        return (x * keep.as_strided(x.shape, layout).to(x.dtype)).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        """The probability, for ``print(network)``."""
        return f"p={self.p}"
