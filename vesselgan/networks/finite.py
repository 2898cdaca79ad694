"""Weights that are numbers: those of a training that diverged are not."""

from pathlib import Path

import torch
from torch import nn

from vesselgan.errors import InputError

__all__ = ["refuse_non_finite"]


def refuse_non_finite(network: nn.Module, path: Path) -> None:
    """Raise InputError, naming the file of the weights, where one is NaN or infinite."""
    bad = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(f"{path}: {bad[0]}{more} holds NaN or infinity: the training diverged; take earlier weights")
