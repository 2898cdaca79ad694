"""Time and memory of a training step on the device at hand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vesselgan.profiling.step_counter import StepCounter, Trainer, state_tensors

__all__ = ["peak_tensor_bytes", "seconds_per_step"]


def seconds_per_step(trainer: Trainer, real: Tensor, steps: int) -> float:
    """Mean wall time of `steps` full training steps, the device's queue emptied before and after."""
    _synchronise(trainer.device)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step(real)
    _synchronise(trainer.device)
    return (time.perf_counter() - start) / steps


@contextmanager
def peak_tensor_bytes(trainer: Trainer, real: Tensor) -> Iterator[Callable[[], int]]:
    """Measure a block: live tensor bytes on a CPU, allocated bytes on CUDA. Yields a function that gives the peak."""
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        yield torch.cuda.max_memory_allocated
        return
    with StepCounter() as counter:
        counter.watch(real, *state_tensors(trainer))
        yield lambda: counter.peak


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
