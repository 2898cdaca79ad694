"""From a step's tensors to the caller's numbers, with a stop when too many updates had to be rejected."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vesselgan.training.guard import Outcome

__all__ = ["BadSteps", "OnStep", "StepReporter", "TooManyBadStepsError"]

OnStep = Callable[[int, Mapping[str, float]], None]

# Reading a value makes the CPU wait for the GPU, so there the steps are handed over in groups.
_STEPS_PER_READ = {"cpu": 1, "cuda": 16}

# More than one in twenty is not chance any more: the published training would be another one.
BAD_SHARE = 0.05

# A GP critic's penalty overflows float16 at scales down to 1/64 and still trains; below this one, float16's smallest
# normal number, a gradient of 1 loses its digits.
LOWEST_LOSS_SCALE = 2.0**-14


class TooManyBadStepsError(Exception):
    """The training is to end; why its steps are bad is another question."""

    def __init__(self, step: int, what: str, values: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items() if name != "outcome")
        super().__init__(f"step {step}: {what}" + (f" ({shown})" if shown else ""))
        self.step = step
        self.loss_scale = values.get("outcome") == Outcome.LOSS_SCALE


class BadSteps:
    """Counts what became of a training's steps, over all its restarts, and says when it is too much.

    Too much are ``limit`` rejected steps in a row; rejected steps in all that are more than BAD_SHARE of those done and
    more than ``limit``, or at the end more than half; and gradients that overflow float16 below LOWEST_LOSS_SCALE. The
    overflows by which a loss scale is found are no fault.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.counts = dict.fromkeys(Outcome, 0)
        self._in_a_row = 0
        self._last = -1  # the last step that was rejected

    @property
    def rejected(self) -> int:
        """Steps that were not applied, other than for the loss scale."""
        return self.counts[Outcome.ABSURD] + self.counts[Outcome.NOT_FINITE]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take a step's readings, ``outcome`` and ``loss_scale`` among them. Raises TooManyBadStepsError."""
        outcome = Outcome(int(values["outcome"]))
        self.counts[outcome] += 1
        if outcome is Outcome.APPLIED:
            self._in_a_row = 0
        elif outcome is Outcome.LOSS_SCALE:
            if values["loss_scale"] < LOWEST_LOSS_SCALE:
                raise TooManyBadStepsError(step, "gradients overflow float16 however low the loss scale", values)
        else:
            self._last = step
            self._in_a_row += 1
            if self._in_a_row >= self._limit:
                what = f"losses or gradients of {self._limit} steps in a row were not finite or absurd"
                raise TooManyBadStepsError(step, what, values)
            if self.rejected > max(self._limit, BAD_SHARE * (step + 1)):
                what = f"losses or gradients of {self.rejected} steps of {step + 1} were not finite or absurd"
                raise TooManyBadStepsError(step, what, values)

    def finish(self, steps: int) -> None:
        """Judge the whole training, which may be too short for the other rules. Raises TooManyBadStepsError."""
        if 2 * self.rejected > steps:
            what = f"losses or gradients of {self.rejected} steps of {steps} were not finite or absurd"
            raise TooManyBadStepsError(self._last, what, {})

    def state_dict(self) -> dict[str, int]:
        """What a resumed training must know."""
        return {
            "in_a_row": self._in_a_row,
            "last": self._last,
            **{outcome.name: count for outcome, count in self.counts.items()},
        }

    def load_state_dict(self, state: Mapping[str, int] | None) -> None:
        """Continue from ``state_dict``, or from zero where a checkpoint of an earlier version has none."""
        if state is not None:
            self._in_a_row, self._last = state["in_a_row"], state["last"]
            self.counts = {outcome: state[outcome.name] for outcome in Outcome}


class StepReporter:
    """Calls ``on_step(step, values)`` for every step in order, and gives the values to ``bad_steps``."""

    def __init__(self, on_step: OnStep | None, device: torch.device, bad_steps: BadSteps) -> None:
        self._on_step = on_step
        self._group = _STEPS_PER_READ.get(device.type, 1)
        self._pending: list[tuple[int, Mapping[str, Tensor]]] = []
        self._bad_steps = bad_steps

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Take a step's 0-d tensors; they are read at once on a CPU, in groups on a GPU."""
        self._pending.append((step, values))
        if len(self._pending) >= self._group:
            self.flush()

    def flush(self) -> None:
        """Read and report what is pending. Raises TooManyBadStepsError."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        row = iter(torch.stack([value.float() for _, values in pending for value in values.values()]).tolist())
        for step, values in pending:
            numbers = {name: next(row) for name in values}
            self._bad_steps.add(step, numbers)
            if self._on_step is not None:
                self._on_step(step, numbers)
