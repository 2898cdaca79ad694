"""The loop that every training runs in: from its checkpoint, step by step, to its end."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.training.checkpoint import checkpoints_of, load_checkpoint, save_checkpoint
from vesselgan.training.reporting import BadSteps, OnStep, StepReporter, TooManyBadStepsError

__all__ = ["CheckpointedTrainer", "observed", "run_training"]

LOGGER = logging.getLogger(__name__)

Trainer = TypeVar("Trainer", bound="CheckpointedTrainer")


class CheckpointedTrainer(Protocol):
    """What the loop asks of a trainer."""

    device: torch.device
    steps_done: int

    @property
    def finished(self) -> bool:
        """Whether no step is left to do."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it."""


def observed(
    trainer: Trainer,
    step: Callable[[int], Mapping[str, Tensor]],
    observe: Callable[[Trainer], Mapping[str, float]],
) -> Callable[[int], Mapping[str, Tensor]]:
    """``step``, whose readings are joined by those of ``observe(trainer)``, which may be none.

    ``observe`` must leave the trainer as it is.
    """

    def both(index: int) -> Mapping[str, Tensor]:
        values = step(index)
        if seen := observe(trainer):
            values = {**values, **{name: torch.tensor(value, device=trainer.device) for name, value in seen.items()}}
        return values

    return both


def run_training(
    trainer: CheckpointedTrainer,
    step: Callable[[int], Mapping[str, Tensor]],
    *,
    checkpoint: Path | None,
    checkpoint_every_s: float,
    on_step: OnStep | None,
    max_bad_steps: int,
    explain: Callable[[int, bool], str],
) -> None:
    """Call ``step(index)``, which makes one step and gives its readings, until the trainer has finished.

    Starts from ``checkpoint`` if that file exists, or from the one before where it is damaged, and writes it every so
    many seconds and at the end; what was reported is then at least as far as what was saved. Raises RuntimeError where
    steps are rejected too often, see BadSteps, whose ``limit`` is ``max_bad_steps``; ``explain(index, loss_scale)``
    says why this one was.
    """
    bad_steps = BadSteps(max_bad_steps)
    if checkpoint is not None:
        _resume(trainer, bad_steps, checkpoint)
    reporter = StepReporter(on_step, trainer.device, bad_steps)

    def save(path: Path) -> None:
        reporter.flush()
        save_checkpoint(path, {**trainer.state_dict(), "bad_steps": bad_steps.state_dict()})

    saved_at = time.monotonic()
    try:
        while not trainer.finished:
            index = trainer.steps_done
            reporter.add(index, step(index))
            if checkpoint is not None and time.monotonic() - saved_at >= checkpoint_every_s:
                save(checkpoint)
                saved_at = time.monotonic()
        reporter.flush()
        bad_steps.finish(trainer.steps_done)
    except TooManyBadStepsError as problem:
        raise RuntimeError(f"{problem}; {explain(problem.step, problem.loss_scale)}") from None
    if checkpoint is not None:
        save(checkpoint)


def _resume(trainer: CheckpointedTrainer, bad_steps: BadSteps, checkpoint: Path) -> None:
    """Continue from the last good checkpoint, if there is any. Raises InputError where there are only bad ones."""
    problems: list[str] = []
    found = checkpoints_of(checkpoint)
    for path in found:
        try:
            state = load_checkpoint(path, trainer.device)
            try:
                trainer.load_state_dict(state)
                bad_steps.load_state_dict(state.get("bad_steps"))
            except InputError:
                raise
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:100]
                raise InputError(f"{path}: does not fit this training ({type(error).__name__}: {reason})") from None
        except InputError as error:
            problems.append(str(error))
            continue
        if problems:
            LOGGER.warning("%s; the training goes on from the one before, step %d", problems[0], trainer.steps_done)
            checkpoint.unlink()  # or it would take the place of the good one
        return
    if problems:
        raise InputError(problems[0])
