"""The settings of a WGAN training."""

from dataclasses import dataclass

from vesselgan.errors import InputError
from vesselgan.networks import CriticNorm
from vesselgan.recipe import CORRECTED, Recipe
from vesselgan.training.averaging import check_decay
from vesselgan.training.checkpoint import fingerprint
from vesselgan.training.precision import PrecisionName
from vesselgan.training.privacy import Privacy

__all__ = ["WGANConfig"]


@dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Everything that decides what a training computes; defaults are the paper's.

    ``patch_size`` in voxels, ``betas`` and learning rates of Adam, ``batch`` for whoever draws the batches. ``plain``
    takes the paper's own step: the same losses but for rounding, several times slower; the reference for speed.
    ``ema`` is the decay of an average of the generator's weights, which is then what the training gives (the paper
    has none). ``privacy`` puts differential privacy in the place of the gradient penalty, and then ``batch`` is what
    the noisy sums are divided by. Training stops after ``max_bad_steps`` rejected ones in a row, or too many
    in all; see ``vesselgan.training.reporting``.
    """

    patch_size: tuple[int, int, int]
    steps: int
    seed: int
    filters: int = 512
    latent: int = 128
    norm: CriticNorm = "spectral"
    precision: PrecisionName = "fp32"
    batch: int = 4
    critic_steps: int = 1
    lr_generator: float = 2e-4
    lr_critic: float = 4e-4
    betas: tuple[float, float] = (0.0, 0.9)
    penalty_weight: float = 10.0
    recipe: Recipe = CORRECTED
    plain: bool = False
    ema: float | None = None
    privacy: Privacy | None = None
    max_bad_steps: int = 20

    def check(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.critic_steps < 1:
            raise InputError(f"critic_steps is {self.critic_steps}; it must be at least 1")
        check_decay(self.ema)
        if self.privacy is not None and self.norm == "spectral":
            raise InputError("privacy: per-sample gradients do not fit spectral norm; choose critic norm 'none'")
        if self.privacy is not None and self.precision == "fp16":
            raise InputError("privacy: clipping does not fit the loss scale of fp16; choose fp32, tf32 or bf16")

    def fingerprint(self) -> str:
        """What must be equal for a checkpoint to be continued."""
        return fingerprint(self, without="steps")
