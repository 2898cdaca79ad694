"""A WGAN's training from start or checkpoint to its last step."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vesselgan.networks import Generator
from vesselgan.settings import WGANConfig
from vesselgan.training.checkpoint import load_checkpoint
from vesselgan.training.diagnosis import diagnose
from vesselgan.training.loop import observed, run_training
from vesselgan.training.reporting import OnStep
from vesselgan.training.wgan import WGANTrainer

__all__ = ["Observe", "train_wgan"]

Observe = Callable[[WGANTrainer], Mapping[str, float]]


def train_wgan(
    config: WGANConfig,
    real_batch: Callable[[int], Tensor | Sequence[Tensor]],
    *,
    device: torch.device | str,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    on_step: OnStep | None = None,
    observe: Observe | None = None,
) -> Generator:
    """Train to ``config.steps``, from ``checkpoint`` if that file exists, and return the generator.

    ``real_batch(step)`` gives the pairs (B, 2, X, Y, Z) of a step and must depend on the step alone. ``on_step(step,
    values)`` gets the readings of every step that this call makes, counted from 0; after a crash, the steps
    since the last checkpoint come again. ``observe`` is that of `observed`.

    With ``config.processes`` all processes of ``torch.distributed``'s group must call this, with the same batches; only
    the first writes the checkpoint, and only it should observe.

    Raises RuntimeError, with the reason and a remedy, where garbage had to be rejected too often: after
    ``config.max_bad_steps`` in a row or BAD_SHARE of all; InputError for a checkpoint of another configuration.
    """
    trainer = _trainer(config, device)

    def step(index: int) -> Mapping[str, Tensor]:
        real = real_batch(trainer.random_step)
        return trainer.step(trainer.share(real) if isinstance(real, Tensor) else real)

    def explain(index: int, overflows: bool) -> str:
        real = real_batch(index - trainer.random_start)
        return diagnose(
            config.precision,
            [real] if isinstance(real, Tensor) else real,
            lambda: trainer.in_a_wider_format(index).step(real)["outcome"],
            rates=f"lr_generator {config.lr_generator:g}, lr_critic {config.lr_critic:g}",
            loss_scale=overflows,
        )

    if checkpoint is not None and not _is_first(config):
        if checkpoint.exists():
            trainer.load_state_dict(load_checkpoint(checkpoint, trainer.device))
        checkpoint = None
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


def _trainer(config: WGANConfig, device: torch.device | str) -> WGANTrainer:
    if config.processes == 1:
        return WGANTrainer(config, device)
    from vesselgan.training.data_parallel import DataParallelTrainer

    return DataParallelTrainer(config, device)


def _is_first(config: WGANConfig) -> bool:
    return config.processes == 1 or torch.distributed.get_rank() == 0
