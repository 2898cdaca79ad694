"""The one schema of a WGAN's settings: a profile embeds it, stages store its values, and a trainer takes it."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field

from vesselgan.errors import InputError
from vesselgan.recipe import CORRECTED, Recipe
from vesselgan.settings.options import (
    LATER,
    Axis,
    BatchNorm,
    CriticNorm,
    Decay,
    Filters,
    Positive,
    PrecisionName,
    Rate,
    Share,
    check_decay,
)

__all__ = ["Privacy", "WGANConfig", "WGANOptions"]


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
class WGANOptions:
    """What a profile says of its WGANs; defaults are the paper's.

    ``filters`` is the widest layer; ``betas`` and learning rates are Adam's. ``steps`` is None for as many as
    ``epochs`` take. ``ema`` is the decay of an average of the generator's weights, which is then what the training
    gives (the paper has none). Along each axis in ``flips`` half of the pairs are mirrored. Training stops after
    ``max_bad_steps`` rejected ones in a row, or too many in all; see ``vesselgan.training.reporting``. ``processes``
    share each batch, on a GPU each; ``batch_norm`` says over what they take the generator's batch norms: over the
    whole batch (``sync``, the same training but for rounding) or over each one's part of it (``local``, another one).

    A new option is LATER than the others: at its default it is in no specification, so that what was trained before is
    found again.
    """

    filters: Filters = 512
    batch: Positive = 4
    epochs: Positive = 100
    steps: Positive | None = None
    critic_steps: Positive = 1
    lr_generator: Rate = 2e-4
    lr_critic: Rate = 4e-4
    penalty_weight: Annotated[float, Field(ge=0)] = 10.0
    ema: Decay | None = None
    flips: tuple[Axis, ...] = ()
    max_bad_steps: Positive = 20
    latent: Positive = field(default=128, metadata=LATER)
    betas: tuple[Share, Share] = field(default=(0.0, 0.9), metadata=LATER)
    processes: Positive = field(default=1, metadata=LATER)
    batch_norm: BatchNorm | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class WGANConfig(WGANOptions):
    """Everything that decides what a training computes.

    ``patch_size`` is in voxels. ``batch``, ``epochs`` and ``flips`` are for whoever draws the batches. ``loss`` is one
    of ``vesselgan.training.adversarial.LOSSES``, with its own options. ``plain`` takes the paper's own step: the same
    losses but for rounding, several times slower; the reference for speed. ``privacy`` puts differential privacy in the
    place of the gradient penalty, and then ``batch`` is what the noisy sums are divided by.
    """

    patch_size: tuple[int, int, int]
    steps: int
    seed: int
    norm: CriticNorm = "spectral"
    precision: PrecisionName = "fp32"
    recipe: Recipe = CORRECTED
    plain: bool = field(default=False, metadata=LATER)
    privacy: Privacy | None = None
    loss: str = field(default="wasserstein", metadata=LATER)
    loss_options: tuple[tuple[str, Any], ...] = field(default=(), metadata=LATER)

    def check(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.critic_steps < 1:
            raise InputError(f"critic_steps is {self.critic_steps}; it must be at least 1")
        check_decay(self.ema)
        if self.privacy is not None and self.norm == "spectral":
            raise InputError("privacy: per-sample gradients do not fit spectral norm; choose critic norm 'none'")
        if self.privacy is not None and self.precision == "fp16":
            raise InputError("privacy: clipping does not fit the loss scale of fp16; choose fp32, tf32 or bf16")
        if self.privacy is not None and self.loss != "wasserstein":
            raise InputError(f"privacy: has a loss of its own; leave out {self.loss!r}")
        self._check_processes()

    def _check_processes(self) -> None:
        """What several processes would not compute as one does, and an explicit choice where they may differ."""
        count, recipe = self.processes, self.recipe
        if count == 1:
            if self.batch_norm is not None:
                raise InputError(f"batch_norm {self.batch_norm}: is a choice of several processes; leave it out")
            return
        if self.batch_norm is None:
            raise InputError(
                f"processes {count}: say batch_norm: sync (over all processes, as one would) or local (over each one's)"
            )
        if self.batch % count:
            raise InputError(f"batch {self.batch} in {count} processes: give a multiple of {count}")
        unfit = {
            "privacy": self.privacy is not None,  # clips the gradients of samples, not of processes
            "the paper's own step": self.plain,
            "penalty_norm batch": recipe.penalty_norm == "batch" and self.loss == "wasserstein",
            "interpolate attached": recipe.interpolate == "attached",
            "drop_last off": not recipe.drop_last,
        }
        for what, asked in unfit.items():
            if asked:
                raise InputError(f"{what} does not fit a training in {count} processes; use one")

    def fingerprint(self) -> str:
        """What must be equal for a checkpoint to be continued; those of earlier versions know no loss."""
        settings = asdict(self)
        without = ["steps", "epochs", "flips", *(["loss", "loss_options"] if self.loss == "wasserstein" else [])]
        without += ["processes", "batch_norm"] if self.processes == 1 else []
        for name in without:
            del settings[name]
        if settings["privacy"] is not None:
            del settings["privacy"]["delta"]
        return repr(sorted(settings.items()))
