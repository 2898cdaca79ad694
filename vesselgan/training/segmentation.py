"""Training of the U-Net whose score is the paper's verdict on the synthetic data."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks import UNet, place
from vesselgan.settings.options import PrecisionName, check_decay, fingerprint
from vesselgan.training.averaging import WeightAverage
from vesselgan.training.diagnosis import diagnose
from vesselgan.training.guard import GuardedOptimiser, KeptBuffers, Outcome, loss_scale, update_scale
from vesselgan.training.loop import run_training
from vesselgan.training.losses import soft_dice_loss
from vesselgan.training.precision import choose_precision
from vesselgan.training.randomness import global_random
from vesselgan.training.reporting import OnStep

__all__ = ["EarlyStopping", "UNetConfig", "UNetTrainer", "Validation", "train_unet"]

Batch = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Everything that decides what a training computes; defaults are the BRAVE-NET code's where it has them.

    ``batch`` is for whoever draws the batches. Validation comes after every ``validate_every`` steps and after the
    last; training ends after ``patience`` validations without a gain of more than ``min_delta``, or at ``max_steps``.
    ``ema`` is the decay of an average of the weights, which is then what is validated and given (BRAVE-NET has none).
    """

    batch: int
    max_steps: int
    validate_every: int
    seed: int
    filters: tuple[int, ...] = (32, 64, 128, 256)
    dropout: float = 0.1
    lr: float = 1e-4
    patience: int = 3
    min_delta: float = 1e-4
    ema: float | None = None
    precision: PrecisionName = "fp32"
    max_bad_steps: int = 20


class UNetStepLog(NamedTuple):
    """One step's readings as 0-d tensors on the training's device."""

    loss: Tensor
    gradient_norm: Tensor  # over all parameters; not finite where the scaler skipped the step
    loss_scale: Tensor  # of the GradScaler; 1 but in fp16
    outcome: Tensor  # what became of the step, an Outcome


@dataclass(frozen=True)
class Validation:
    """One validation: steps done before it, and the mean training loss since the one before.

    A loss is NaN where it was none, or where every step since was rejected.
    """

    step: int
    training_loss: float
    validation_loss: float


class EarlyStopping:
    """The rule, apart from the training: which of the validation losses is best, and whether to go on.

    Two references, as in Keras, where the rule comes from: any lower loss is the best one to keep, but only a loss that
    is lower than the last reference by more than ``min_delta`` buys more patience. A loss that is no number is neither.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best = self.reference = math.inf
        self.waited = 0

    @property
    def stop(self) -> bool:
        """Whether patience has run out."""
        return self.waited >= self.patience

    def update(self, loss: float) -> bool:
        """Take the next loss; True if it is the best so far."""
        is_best = loss < self.best
        if is_best:
            self.best = loss
        if loss < self.reference - self.min_delta:
            self.reference, self.waited = loss, 0
        else:
            self.waited += 1
        return is_best

    def state_dict(self) -> dict[str, float]:
        """What changes."""
        return {"best": self.best, "reference": self.reference, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from ``state_dict``."""
        self.best, self.reference, self.waited = state["best"], state["reference"], int(state["waited"])


class UNetTrainer:
    """U-Net, optimiser, early stopping and the best weights so far.

    Dropout draws from PyTorch's global random numbers, which every step seeds from (config.seed, step) and puts back
    afterwards; so a resumed training continues to the bit on the same machine and thread count. What is garbage changes
    none of it: see ``vesselgan.training.guard``. ``dtype`` is that of the weights.
    """

    def __init__(self, config: UNetConfig, device: torch.device | str, *, dtype: torch.dtype = torch.float32) -> None:
        if min(config.max_steps, config.validate_every, config.patience) < 1:
            raise InputError("max_steps, validate_every and patience of a U-Net must be at least 1")
        check_decay(config.ema)
        self.config = config
        self.device = torch.device(device)
        self.precision = choose_precision(config.precision, self.device)
        with global_random(config.seed, 0, "weights"):
            self.unet = UNet(filters=config.filters, dropout=config.dropout)
        self._dtype = dtype
        place(self.unet, self.device, torch.channels_last_3d, dtype)
        self.stopping = EarlyStopping(config.patience, config.min_delta)
        self.history: list[Validation] = []
        self.steps_done = 0
        self._optimiser = torch.optim.Adam(self.unet.parameters(), lr=config.lr, fused=True)
        self._guarded = GuardedOptimiser(
            self.unet, self._optimiser, self.precision.scaler, KeptBuffers(self.unet), losses=1
        )
        self._average = None if config.ema is None else WeightAverage(self.unet, config.ema)
        self._losses: list[Tensor] = []  # since the last validation; NaN where a step was rejected
        self._best: dict[str, Tensor] | None = None

    @property
    def networks(self) -> tuple[UNet]:
        """What is trained."""
        return (self.unet,)

    @property
    def finished(self) -> bool:
        """Whether the last step is done or patience has run out."""
        return self.stopping.stop or self.steps_done >= self.config.max_steps

    def step(self, images: Tensor, labels: Tensor) -> UNetStepLog:
        """One update on images (B, 1, X, Y, Z) and labels in {0, 1} of the same shape."""
        images, labels = (
            volume.to(self.device, self._dtype, non_blocking=True).to(memory_format=torch.channels_last_3d)
            for volume in (images, labels)
        )
        self.unet.train()
        self._guarded.begin()
        with global_random(self.config.seed, self.steps_done, "dropout", self.device), self.precision.autocast():
            loss = soft_dice_loss(self.unet(images), labels)
        scaler = self.precision.scaler
        torch.autograd.backward(scaler.scale(loss))
        update = self._guarded.step(loss)
        scale = loss_scale(scaler, self.device)
        update_scale(scaler, update.outcome, self.device)
        self.steps_done += 1
        rejected = update.outcome > Outcome.LOSS_SCALE
        if self._average is not None:
            self._average.update(self.unet, held=rejected)
        self._losses.append(torch.where(rejected, torch.nan, loss.detach()))
        return UNetStepLog(loss.detach(), update.gradient_norm, scale, update.outcome)

    def validate(self, validate: Callable[[UNet], float]) -> None:
        """Take the validation loss if one is due: keep the weights if they are the best, count patience otherwise."""
        if self.steps_done % self.config.validate_every and self.steps_done < self.config.max_steps:
            return
        unet = self.unet if self._average is None else self._average.network()
        unet.eval()
        with torch.no_grad(), self.precision.autocast():
            loss = float(validate(unet))
        if self.stopping.update(loss):
            self._best = copy.deepcopy(unet.state_dict())
        losses = torch.stack(self._losses)
        training_loss = float(losses[~losses.isnan()].mean())
        self.history.append(Validation(self.steps_done, training_loss, loss))
        self._losses.clear()

    def best_unet(self) -> UNet:
        """The U-Net with the weights of the best validation, in eval mode; the last weights if there was none."""
        if self._best is not None:
            self.unet.load_state_dict(self._best)
        return self.unet.eval()

    def in_a_wider_format(self, step: int) -> "UNetTrainer":
        """A copy to make this step with: the present weights, its random numbers, arithmetic of ``diagnosis.WIDER``."""
        dtype = torch.float64 if self.config.precision == "fp32" else torch.float32
        twin = UNetTrainer(replace(self.config, precision="fp32", ema=None), self.device, dtype=dtype)
        twin.load_state_dict(self.state_dict() | {"config": fingerprint(twin.config)})
        twin.steps_done = step
        return twin

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; tensors and plain values only."""
        return {
            "config": fingerprint(self.config),
            "steps_done": self.steps_done,
            "unet": self.unet.state_dict(),
            "best": self._best,
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "guard": self._guarded.guard.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "stopping": self.stopping.state_dict(),
            "losses": self._losses,
            "history": [asdict(validation) for validation in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; InputError if it belongs to another configuration."""
        if state.get("config") != fingerprint(self.config):
            raise InputError("the checkpoint belongs to a training with other settings; delete it to start again")
        self.steps_done = state["steps_done"]
        self.unet.load_state_dict(state["unet"])
        self._best = state["best"]
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._guarded.guard.load_state_dict(state.get("guard"))
        self.precision.scaler.load_state_dict(state["scaler"])
        self.stopping.load_state_dict(state["stopping"])
        self._losses = list(state["losses"])
        self.history = [Validation(**validation) for validation in state["history"]]


def train_unet(
    config: UNetConfig,
    batch: Batch,
    validate: Callable[[UNet], float],
    *,
    device: torch.device | str,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    on_step: OnStep | None = None,
) -> tuple[UNet, Sequence[Validation]]:
    """Train until early stopping or ``config.max_steps``; return the best U-Net in eval mode, and all validations.

    ``batch(step)`` gives images (B, 1, X, Y, Z) and labels in {0, 1}, and must depend on the step alone.
    ``validate(unet)`` gives a loss, lower is better; it is called in eval mode, without gradients, under the training's
    number format. ``on_step(step, values)`` gets the fields of UNetStepLog for every step that this call makes, counted
    from 0; after a crash, the steps since the last checkpoint come again. Starts from ``checkpoint`` if that file
    exists. Raises RuntimeError where no validation loss was a number, and, with the reason and a remedy, where garbage
    had to be rejected too often: after ``config.max_bad_steps`` in a row or BAD_SHARE of all; InputError for a
    checkpoint of another configuration.
    """
    trainer = UNetTrainer(config, device)

    def step(index: int) -> Mapping[str, Tensor]:
        values = trainer.step(*batch(index))._asdict()
        trainer.validate(validate)
        return values

    def explain(index: int, overflows: bool) -> str:
        volumes = batch(index)
        return diagnose(
            config.precision,
            volumes,
            lambda: trainer.in_a_wider_format(index).step(*volumes).outcome,
            rates=f"learning_rate {config.lr:g}",
            loss_scale=overflows,
        )

    run_training(
        trainer,
        step,
        checkpoint=checkpoint,
        checkpoint_every_s=checkpoint_every_s,
        on_step=on_step,
        max_bad_steps=config.max_bad_steps,
        explain=explain,
    )
    if not math.isfinite(trainer.stopping.best):
        raise RuntimeError(
            f"none of {len(trainer.history)} validation losses was a number, so no U-Net can be chosen: "
            f"lower the learning rate (learning_rate {config.lr:g}) or choose a wider number format"
        )
    return trainer.best_unet(), trainer.history
