"""A trained generator -> labelled synthetic patches."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vesselgan.errors import InputError
from vesselgan.networks.generator import Generator
from vesselgan.recipe import Recipe
from vesselgan.training.precision import Precision
from vesselgan.training.randomness import generator_for

__all__ = ["Pairs", "refuse_non_finite_pairs", "synthesise"]


class Pairs(NamedTuple):
    """A batch of synthetic patches."""

    images: NDArray[np.float32]  # (B, X, Y, Z) in [-1, 1]
    labels: NDArray[np.bool_]  # (B, X, Y, Z)


def synthesise(
    generator: Generator,
    count: int,
    *,
    seed: int,
    recipe: Recipe,
    precision: Precision,
    batch: int = 16,
    start: int = 0,
) -> Iterator[Pairs]:
    """Yield `count` labelled patches in batches, the same for the same seed, batch and machine.

    With `start`, a multiple of `batch`, only those from there on: they are the same as without it.

    With `recipe.generation_statistics` "batch" (D7) BatchNorm sees the batch's own statistics, as in the paper's code,
    and a patch depends on its neighbours. A voxel is vessel where the label channel exceeds `recipe.label_threshold`.
    """
    if recipe.generation_statistics == "batch":
        generator = _with_batch_statistics(generator)
    else:
        generator.eval()
    device = next(generator.parameters()).device
    for first in range(start, count, batch):
        rng = generator_for(seed, first, "synthesis")
        noise = torch.randn(batch, generator.latent, generator=rng).to(device)
        with torch.inference_mode(), precision.autocast():
            # The whole batch is always computed, so that the last patches do not depend on `count`.
            pairs = generator(noise).float().cpu().numpy()[: count - first]
        refuse_non_finite_pairs(pairs, first)
        images = np.ascontiguousarray(pairs[:, 0])
        yield Pairs(images, pairs[:, 1] > recipe.label_threshold)


def refuse_non_finite_pairs(pairs: NDArray[np.float32], first: int) -> None:
    """Raise InputError where a batch that begins with the pair `first` holds NaN or infinity.

    Weights can be numbers and yet too large to compute with; whole numbers would have zeros in the place of NaN.
    """
    if not np.isfinite(pairs).all():
        raise InputError(
            f"the generator's pairs from {first} on hold NaN or infinity, though its weights are numbers: its training "
            "diverged; take earlier weights"
        )


def _with_batch_statistics(generator: Generator) -> Generator:
    """Training mode without a trace: the running statistics do not move."""
    generator.train()
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 0.0
    return generator
