"""The settings of a WGAN training."""

from dataclasses import asdict, dataclass

from vesselgan.errors import InputError
from vesselgan.recipe import CORRECTED, Recipe
from vesselgan.settings.options import Axis, CriticNorm, PrecisionName, check_decay

__all__ = ["Privacy", "WGANConfig"]


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """How strongly the critic's gradients are hidden; defaults are those of the paper's public code.

    Each sample's gradient is shortened to ``clip_norm``; noise of ``noise_multiplier`` times that SD goes on their sum;
    after every update each weight is clipped to +-``weight_clip`` (Arjovsky et al. 2017), in place of the penalty.
    """

    noise_multiplier: float = 0.3
    clip_norm: float = 1.0
    weight_clip: float = 0.01
    delta: float | None = None  # of the accounting, which no step depends on

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "clip_norm", "weight_clip"):
            if getattr(self, name) <= 0:
                raise InputError(f"privacy: {name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Everything that decides what a training computes; defaults are the paper's.

    ``patch_size`` in voxels, ``betas`` and learning rates of Adam, ``batch`` for whoever draws the batches. ``plain``
    takes the paper's own step: the same losses but for rounding, several times slower; the reference for speed.
    ``ema`` is the decay of an average of the generator's weights, which is then what the training gives (the paper
    has none). ``privacy`` puts differential privacy in the place of the gradient penalty, and then ``batch`` is what
    the noisy sums are divided by. Training stops after ``max_bad_steps`` rejected ones in a row, or too many
    in all; see ``vesselgan.training.reporting``.

    ``epochs`` and ``flips``, axes along which half of the pairs are mirrored, are for whoever counts steps and draws
    batches.
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
    epochs: int = 100
    flips: tuple[Axis, ...] = ()

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
        settings = asdict(self)
        for name in ("steps", "epochs", "flips"):
            del settings[name]
        if settings["privacy"] is not None:
            del settings["privacy"]["delta"]
        return repr(sorted(settings.items()))
