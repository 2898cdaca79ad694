"""A trained autoregressive generator -> labelled synthetic patches."""

from collections.abc import Iterator

import torch

from vesselgan.networks.autoregressive import AutoregressiveGenerator
from vesselgan.synthesis import Pairs
from vesselgan.training.precision import Precision
from vesselgan.training.randomness import generator_for

__all__ = ["synthesise_autoregressive"]


def synthesise_autoregressive(
    generator: AutoregressiveGenerator,
    count: int,
    *,
    seed: int,
    precision: Precision,
    batch: int = 16,
    start: int = 0,
) -> Iterator[Pairs]:
    """Yield `count` labelled patches in batches, the same for the same seed, batch and machine.

    With `start`, a multiple of `batch`, only those from there on: they are the same as without it.
    """
    for first in range(start, count, batch):
        rng = generator_for(seed, first, "synthesis")
        with torch.inference_mode(), precision.autocast():
            # The whole batch is always computed, so that the last patches do not depend on `count`.
            level = generator.sample(batch, rng)
        images, labels = (part.cpu().numpy()[: count - first] for part in level)
        yield Pairs(images, labels > 0)
