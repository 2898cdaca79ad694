"""The settings of an autoregressive generator's training."""

import math
from dataclasses import dataclass

from vesselgan.errors import InputError
from vesselgan.settings.options import Axis, Decay, Positive, PrecisionName, Rate, Share, check_decay

__all__ = ["AutoregressiveConfig"]

_LAST_RATE = 0.02  # as a share


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Everything that decides what a training computes.

    ``batch`` is how many pairs a step is given; the coarse levels, whose grids are small, see all of them, level 1 sees
    a sixth and the finest level a twelfth. Many steps of few pairs teach more than few steps of many. The learning
    rates, ``lr_matrices`` of layers that are products of matrices and ``lr`` of all else, fall along a cosine, so that
    ``steps`` belongs to the configuration. ``ema`` is the decay of an average of the weights, which is what the
    training gives.

    A share ``anywhere`` of the pairs is cut from anywhere in a training subject's volume, all others around one of its
    vessel voxels; along each axis in ``flips`` half of them are mirrored. Pieces of label that have fewer voxels than
    ``least_piece`` are taken out of samples: specks, of which the coarse levels make many and real labels have few.
    """

    patch_size: tuple[int, int, int]
    steps: Positive
    seed: int
    filters: Positive = 64
    components: Positive = 3
    precision: PrecisionName = "fp32"
    batch: Positive = 12
    lr: Rate = 6e-3
    lr_matrices: Rate = 0.02
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup: Positive = 50
    ema: Decay | None = 0.995
    max_bad_steps: Positive = 20
    anywhere: Share = 0.02
    flips: tuple[Axis, ...] = ("x",)
    least_piece: Positive = 10

    def check(self) -> None:
        """Raise InputError for settings that do not work."""
        if self.batch < 1 or self.steps < 1 or self.warmup < 1:
            raise InputError("batch, steps and warmup of an autoregressive training must be at least 1")
        check_decay(self.ema)

    def patches(self, levels: int) -> list[int]:
        """How many pairs of a step each level sees, the finest first."""
        shares = (1 / 12, 1 / 6)
        return [max(1, round(self.batch * share)) for share in shares[:levels]] + [self.batch] * (levels - len(shares))

    def decay(self, step: int) -> float:
        """The share of the learning rates that a step has: a short rise, then a cosine to almost nothing."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return min(1.0, (step + 1) / self.warmup) * (_LAST_RATE + (1 - _LAST_RATE) * cosine)
