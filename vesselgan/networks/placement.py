"""Where a network's tensors are and how they lie in memory."""

import torch
from torch import nn

__all__ = ["place"]


def place(
    network: nn.Module, device: torch.device | str, layout: torch.memory_format, dtype: torch.dtype = torch.float32
) -> None:
    """Move a network to a device, its 5-D tensors in `layout`, its numbers (not its counters) in `dtype`, in place.

    As `network.to`, which refuses the fake tensors that a step's memory is predicted with.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        tensor.data = tensor.data.to(device, kind, memory_format=layout if tensor.ndim == 5 else torch.preserve_format)
