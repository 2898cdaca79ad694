"""The loop that every training runs in: from its checkpoint, step by step, to its end."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vesselgan.training.checkpoint import load_checkpoint, save_checkpoint
from vesselgan.training.reporting import OnStep, StepReporter

__all__ = ["CheckpointedTrainer", "run_training"]


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


def run_training(
    trainer: CheckpointedTrainer,
    step: Callable[[int], Mapping[str, Tensor]],
    *,
    checkpoint: Path | None,
    checkpoint_every_s: float,
    on_step: OnStep | None,
    max_bad_steps: int,
) -> None:
    """Call ``step(index)``, which makes one step and gives its readings, until the trainer has finished.

    Starts from ``checkpoint`` if that file exists, and writes it every so many seconds and at the end; what was
    reported is then at least as far as what was saved. Raises RuntimeError after ``max_bad_steps`` in a row whose
    readings are not finite.
    """
    if checkpoint is not None and checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint, trainer.device))
    reporter = StepReporter(on_step, trainer.device, max_bad_steps)
    saved_at = time.monotonic()
    while not trainer.finished:
        index = trainer.steps_done
        reporter.add(index, step(index))
        if checkpoint is not None and time.monotonic() - saved_at >= checkpoint_every_s:
            reporter.flush()
            save_checkpoint(checkpoint, trainer.state_dict())
            saved_at = time.monotonic()
    reporter.flush()
    if checkpoint is not None:
        save_checkpoint(checkpoint, trainer.state_dict())
