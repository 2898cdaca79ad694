"""Names and shapes of the checkpoints of the paper's public code, as its model.py has them."""

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Shapes", "batch_norm", "one_number", "paper_critic", "paper_generator"]

Shapes = dict[str, tuple[int, ...]]


def batch_norm(name: str, width: int) -> Shapes:
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (width,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}


def paper_generator(ngf: int, size: tuple[int, int, int]) -> Shapes:
    """Every entry of the state of `Generator` in the public model.py, in its order."""
    positions = (size[0] // 8) ** 2 * (size[2] // 8)
    shapes: Shapes = {"linear1.0.weight": (ngf * positions, 128), "linear1.0.bias": (ngf * positions,)}
    shapes |= batch_norm("batch1.0", ngf)
    for layer, width in (("layer2", ngf), ("layer3", ngf // 2), ("layer4", ngf // 4)):
        shapes |= {f"{layer}.1.weight": (width // 2, width, 3, 3, 3), f"{layer}.1.bias": (width // 2,)}
        shapes |= batch_norm(f"{layer}.2", width // 2)
    return shapes | {"layer5.weight": (2, ngf // 8, 3, 3, 3), "layer5.bias": (2,)}


def paper_critic(ndf: int, *, spectral: bool) -> Shapes:
    """Every entry of the state of `Discriminator`; its last layer is written for 8 x 8 x 4 positions."""
    shapes: Shapes = {}
    widths = (2, ndf // 8, ndf // 4, ndf // 2, ndf)
    for layer, (before, width) in enumerate(pairwise(widths), start=1):
        kernel = (width, before, 3, 3, 3)
        name = f"layer{layer}.0"
        if spectral:
            shapes |= {f"{name}.bias": (width,), f"{name}.weight_orig": kernel}
            shapes |= {f"{name}.weight_u": (width,), f"{name}.weight_v": (before * 27,)}
        else:
            shapes |= {f"{name}.weight": kernel, f"{name}.bias": (width,)}
    return shapes | {"layer5.weight": (1, ndf * 8 * 8 * 4), "layer5.bias": (1,)}


def one_number(shapes: Shapes, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of these shapes that take no space in the file."""
    return {
        prefix + name: torch.zeros((), dtype=torch.long) if not shape else torch.full((1,), 0.5).expand(shape)
        for name, shape in shapes.items()
    }
