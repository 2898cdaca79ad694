"""From a step's tensors to the caller's numbers, with a stop when they are no numbers any more."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["OnStep", "StepReporter", "gradient_norm"]

OnStep = Callable[[int, Mapping[str, float]], None]

# Reading a value makes the CPU wait for the GPU, so there the steps are handed over in groups.
_STEPS_PER_READ = {"cpu": 1, "cuda": 16}


def gradient_norm(network: nn.Module) -> Tensor:
    """The 2-norm over all gradients of a network, 0-d; zero where it has none."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


class StepReporter:
    """Calls ``on_step(step, values)`` for every step in order, and counts the steps whose values are not finite.

    Raises RuntimeError after ``limit`` such steps in a row. Single ones happen and are harmless under a GradScaler.
    """

    def __init__(self, on_step: OnStep | None, device: torch.device, limit: int = 20) -> None:
        self._on_step = on_step
        self._group = _STEPS_PER_READ.get(device.type, 1)
        self._limit = limit
        self._pending: list[tuple[int, Mapping[str, Tensor]]] = []
        self._bad_in_a_row = 0
        self.bad_steps = 0

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Take a step's 0-d tensors; they are read at once on a CPU, in groups on a GPU."""
        self._pending.append((step, values))
        if len(self._pending) >= self._group:
            self.flush()

    def flush(self) -> None:
        """Read and report what is pending."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        row = iter(torch.stack([value.float() for _, values in pending for value in values.values()]).tolist())
        for step, values in pending:
            numbers = {name: next(row) for name in values}
            self._count(step, numbers)
            if self._on_step is not None:
                self._on_step(step, numbers)

    def _count(self, step: int, numbers: Mapping[str, float]) -> None:
        if all(math.isfinite(number) for number in numbers.values()):
            self._bad_in_a_row = 0
            return
        self.bad_steps += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self._limit:
            shown = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
            raise RuntimeError(
                f"step {step}: losses or gradients of {self._limit} steps in a row were not finite ({shown}); "
                "lower the learning rates or choose a wider number format"
            )
