"""Training of the multiscale autoregressive generator: maximum likelihood, with a learning rate that falls."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks import place
from vesselgan.networks.autoregressive import PLACES, AutoregressiveGenerator
from vesselgan.networks.places import PLACE
from vesselgan.settings import AutoregressiveConfig, fingerprint
from vesselgan.training.averaging import WeightAverage
from vesselgan.training.diagnosis import diagnose
from vesselgan.training.guard import (
    GuardedOptimiser,
    KeptBuffers,
    Outcome,
    gradient_norm,
    loss_scale,
    update_scale,
)
from vesselgan.training.loop import observed, run_training
from vesselgan.training.orthogonal import OrthogonalAdam
from vesselgan.training.precision import choose_precision
from vesselgan.training.randomness import global_random
from vesselgan.training.reporting import OnStep

__all__ = ["AutoregressiveConfig", "AutoregressiveTrainer", "network_of", "train_autoregressive"]

_LARGEST_GRADIENT = 5.0  # longer ones are shortened to it: single batches have outliers of intensity


def network_of(config: AutoregressiveConfig) -> AutoregressiveGenerator:
    """The network of these settings, with weights drawn from PyTorch's global generator."""
    return AutoregressiveGenerator(config.patch_size, config.filters, config.components)


class AutoregressiveTrainer:
    """The generator and its optimiser; ``step`` is one update of all levels together.

    All randomness is that of the initial weights, drawn from the seed, and the data's. So ``state_dict`` is network,
    optimiser, scaler and step number, and a training that is resumed from it continues to the bit on the same machine
    and thread count. Raises InputError for sizes, formats or devices that do not work.
    """

    def __init__(self, config: AutoregressiveConfig, device: torch.device | str) -> None:
        config.check()
        self.config = config
        self.device = torch.device(device)
        self.precision = choose_precision(config.precision, self.device)
        self.steps_done = 0
        with global_random(config.seed, 0, "weights"):
            self.generator = network_of(config)
        place(self.generator, self.device, torch.channels_last_3d)
        self._optimiser = OrthogonalAdam(
            self.generator.parameters(),
            self.generator.matrices(),
            lr=config.lr,
            lr_matrices=config.lr_matrices,
            betas=config.betas,
        )
        self._average = None if config.ema is None else WeightAverage(self.generator, config.ema)
        self._patches = config.patches(self.generator.height)
        # Its losses: a likelihood per level, the coarsest included, and the norm of the gradients before it is cut.
        self._guarded = GuardedOptimiser(
            self.generator,
            self._optimiser,
            self.precision.scaler,
            KeptBuffers(self.generator),
            losses=self.generator.height + 2,
        )

    @property
    def networks(self) -> tuple[AutoregressiveGenerator]:
        """What is trained."""
        return (self.generator,)

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.steps_done >= self.config.steps

    @property
    def generator_for_use(self) -> AutoregressiveGenerator:
        """The generator that the training gives: with averaged weights where ``config.ema`` asks for them."""
        return self.generator if self._average is None else self._average.network()

    def calibrate(self, pairs: Tensor, places: Tensor, atlas: Tensor) -> None:
        """Before the first step: see `AutoregressiveGenerator.calibrate`."""
        for network in (self.generator, self.generator_for_use):
            network.calibrate(*(part.to(self.device) for part in (pairs, places, atlas)))

    def step(self, pairs: Tensor, places: Tensor | None = None) -> dict[str, Tensor]:
        """One update on real pairs (B, 2, X, Y, Z) and their places (B, 7), or in no place; its readings, 0-d each.

        ``nll/LEVEL`` is that of `AutoregressiveGenerator.nll` before the update.
        """
        decay = self.config.decay(self.steps_done)
        for group, first in zip(self._optimiser.param_groups, (self.config.lr, self.config.lr_matrices), strict=True):
            group["lr"] = first * decay
        if places is None:
            places = pairs.new_zeros(len(pairs), PLACE)
        self._guarded.begin()
        with self.precision.autocast():
            real, where = (part.to(self.device, non_blocking=True) for part in (pairs, places))
            terms = self.generator.nll(real, where, self.steps_done, self._patches)
        scaler = self.precision.scaler
        torch.autograd.backward(scaler.scale(torch.stack(terms).sum()))
        scale = loss_scale(scaler, self.device)
        norm = gradient_norm(self.generator) / scale
        gradients = [parameter.grad for parameter in self.generator.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, (_LARGEST_GRADIENT / norm).clamp(max=1.0))
        # One that is not finite makes NaN of the gradients, by which the guard tells whether that is routine.
        update = self._guarded.step(*terms, norm.nan_to_num(0.0, posinf=0.0))
        update_scale(scaler, update.outcome, self.device)
        self.steps_done += 1
        if self._average is not None:
            self._average.update(self.generator, update.outcome > Outcome.LOSS_SCALE)
        readings = {f"nll/{level}": term.detach() for level, term in enumerate(terms)}
        return {**readings, "gradient_norm": norm, "loss_scale": scale, "outcome": update.outcome}

    def in_a_wider_format(self, step: int) -> "AutoregressiveTrainer":
        """A copy to make this step with: the present weights, float32, in which a density is computed at the most."""
        twin = AutoregressiveTrainer(replace(self.config, precision="fp32", ema=None), self.device)
        twin.load_state_dict(self.state_dict() | {"config": fingerprint(twin.config)})
        twin.steps_done = step
        return twin

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; tensors and plain values only."""
        return {
            "config": fingerprint(self.config),
            "steps_done": self.steps_done,
            "generator": self.generator.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "guard": self._guarded.guard.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; InputError if it belongs to another configuration."""
        if state.get("config") != fingerprint(self.config):
            raise InputError("the checkpoint belongs to a training with other settings; delete it to start again")
        self.steps_done = state["steps_done"]
        self.generator.load_state_dict(state["generator"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self._guarded.guard.load_state_dict(state["guard"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def train_autoregressive(
    config: AutoregressiveConfig,
    real_batch: Callable[[int], tuple[Tensor, Tensor]],
    atlas: Callable[[], Tensor],
    *,
    device: torch.device | str,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    on_step: OnStep | None = None,
    observe: Callable[[AutoregressiveTrainer], Mapping[str, float]] | None = None,
) -> AutoregressiveGenerator:
    """Train to ``config.steps``, from ``checkpoint`` if that file exists, and return the generator.

    ``real_batch(step)`` gives the pairs (B, 2, X, Y, Z) of a step, image in [-1, 1] and label (vessel above 0), and
    their places (B, 7), see `vesselgan.networks.places`. It must depend on the step alone, and may be asked for steps
    beyond the last. ``atlas()`` is called before the first, for what `vesselgan.networks.atlas.atlas_of` gives.
    ``on_step(step, values)`` gets the readings of every step that this call makes, counted from 0; after a crash, the
    steps since the last checkpoint come again. ``observe`` is that of `observed`. Raises
    RuntimeError after ``config.max_bad_steps`` in a row or BAD_SHARE of all that had to be rejected, InputError for a
    checkpoint of another configuration.
    """
    trainer = AutoregressiveTrainer(config, device)

    def step(index: int) -> Mapping[str, Tensor]:
        if index == 0:
            first = [real_batch(step) for step in range(-(-PLACES // config.batch))]
            pairs, places = (torch.cat(parts) for parts in zip(*first, strict=True))
            trainer.calibrate(pairs, places, atlas())
        return trainer.step(*real_batch(index))

    def explain(index: int, overflows: bool) -> str:
        real, places = real_batch(index)
        if config.precision == "fp32" and real.isfinite().all():  # no wider format to compare with
            return f"its densities are computed in float32 at the most: lower the learning rates (lr {config.lr:g})"
        return diagnose(
            config.precision,
            [real],
            lambda: trainer.in_a_wider_format(index).step(real, places)["outcome"],
            rates=f"lr {config.lr:g}",
            loss_scale=overflows,
        )

    run_training(
        trainer,
        step if observe is None else observed(trainer, step, observe),
        checkpoint=checkpoint,
        checkpoint_every_s=checkpoint_every_s,
        on_step=on_step,
        max_bad_steps=config.max_bad_steps,
        explain=explain,
    )
    return trainer.generator_for_use
