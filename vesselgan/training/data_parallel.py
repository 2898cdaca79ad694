"""A WGAN's step in several processes, each with its share of the batch, as ``torchrun`` starts them.

All draw the noise and the interpolation weights of the whole batch and take their part of them, so that together they
compute the step of one process: to rounding with batch norms over all processes, and with ones over each process's
own samples a training of its own kind, as with smaller batches.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from vesselgan.errors import InputError
from vesselgan.networks.synced import sync_batch_norms
from vesselgan.settings import WGANConfig
from vesselgan.training.guard import StepGuard
from vesselgan.training.wgan import WGANTrainer

__all__ = ["DataParallelTrainer"]


class DataParallelTrainer(WGANTrainer):
    """``WGANTrainer`` of one of the processes of ``torch.distributed``'s group, which must be there.

    ``step`` takes this process's part of the batch: ``share`` cuts it.
    ``static_graph`` is DistributedDataParallel's promise that every iteration uses the parameters in the same way. It
    is refused: a critic step calls the critic three times and differentiates one of these calls twice, and then the
    gradients of the processes are not summed up, without any error.

    Raises InputError for settings that do not fit; see ``WGANConfig.check``.
    """

    def __init__(
        self,
        config: WGANConfig,
        device: torch.device | str,
        *,
        dtype: torch.dtype = torch.float32,
        static_graph: bool = False,
    ) -> None:
        self.processes, self.rank = dist.get_world_size(), dist.get_rank()
        if static_graph:
            raise InputError("static_graph: gradients of a penalised critic would not be summed up; leave it out")
        if config.processes != self.processes:
            raise InputError(f"processes {config.processes}: the group has {self.processes}")
        super().__init__(config, device, dtype=dtype)
        if config.batch_norm == "sync":
            sync_batch_norms(self.generator)
        # Spectral norms move alike in all processes, as they look at no sample; so nothing of them is sent around.
        self._learning_generator = _parallel(self.generator, self.device)
        self._learning_critic = _parallel(self.critic, self.device)
        for guarded in (self._guarded_critic, self._guarded_generator):
            guarded.guard = _SharedGuard(guarded.guard)

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of something (B, ...) of the whole batch."""
        return batch.tensor_split(self.processes)[self.rank]

    def step(self, real: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """As `WGANTrainer.step`, on this process's part; the readings are means over all processes."""
        readings = super().step(real)
        outcome = readings.pop("outcome")  # the same everywhere, as all judged by the same readings
        values = torch.stack([reading.float() for reading in readings.values()])
        dist.all_reduce(values)
        means = dict(zip(readings, values / self.processes, strict=True))
        return {**means, "outcome": outcome}

    def _noise(self, batch: int, role: str) -> Tensor:
        return self.share(super()._noise(batch * self.processes, role))

    def _uniform(self, index: int, role: str, shape: Sequence[int]) -> Tensor:
        if not shape:
            return super()._uniform(index, role, shape)
        return self.share(super()._uniform(index, role, (shape[0] * self.processes, *shape[1:])))


class _SharedGuard(StepGuard):
    """Judges by the means over all processes, so that either all of them take a step or none."""

    def __init__(self, own: StepGuard) -> None:
        self.__dict__ = own.__dict__

    def judge(self, readings: Sequence[Tensor], held: Tensor | None = None) -> Tensor:
        values = torch.stack([reading.detach().float() for reading in readings])
        dist.all_reduce(values)
        return super().judge(list(values / dist.get_world_size()), held)


def _parallel(network: torch.nn.Module, device: torch.device) -> DistributedDataParallel:
    options: dict[str, Any] = {"device_ids": [device]} if device.type == "cuda" else {}
    known = signature(DistributedDataParallel).parameters
    options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
    return DistributedDataParallel(network, **options)
