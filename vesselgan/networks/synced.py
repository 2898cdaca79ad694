"""A batch norm over the batches of several processes, which together are the one that a single process would have."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["SyncedBatchNorm3d", "sync_batch_norms"]


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm3d(nn.BatchNorm3d):
    """``nn.BatchNorm3d``, in training mode with the mean and the variance of all processes' samples together.

    PyTorch's own ``SyncBatchNorm`` computes on GPUs only. Statistics are in float32 at least, in two passes, so that
    nothing cancels; parameters, buffers and their names are those of ``nn.BatchNorm3d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> the same shape; every process has a B of its own, and all of them must call."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            axes, shape = (0, 2, 3, 4), (1, -1, 1, 1, 1)
            count = wide.new_tensor(wide.numel() // wide.shape[1])
            dist.all_reduce(count)
            mean = _sum_over_processes(wide.sum(axes)) / count
            centred = wide - mean.view(shape)
            variance = _sum_over_processes(centred.square().sum(axes)) / count
            scale = self.weight * torch.rsqrt(variance + self.eps)
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return total


def sync_batch_norms(network: nn.Module) -> None:
    """Make every ``nn.BatchNorm3d`` of a network one over all processes; weights and buffers stay the same objects."""
    for module in network.modules():
        if type(module) is nn.BatchNorm3d:
            module.__class__ = SyncedBatchNorm3d
