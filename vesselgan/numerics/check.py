"""Compare each operation with the same one in a wider format."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vesselgan.numerics.operations import Operation

__all__ = ["TOLERANCES", "Call", "Finding", "check_operations"]

Call = Callable[[Operation, list[Any]], list[Tensor]]

# Largest error that a right kernel may have. On the processors and shapes that were looked at, right ones stay below
# 0.0042 in bf16 and fp16 (their own rounding) and below 2e-5 in float32, where 100,000 products are summed in another
# order; wrong ones give 1 and more. TF32 rounds its inputs to 10 bits.
TOLERANCES = {"fp32": 1e-4, "tf32": 2.0**-7, "bf16": 2.0**-6, "fp16": 2.0**-6}
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

# Garbage comes and goes: a kernel that is wrong in half of its calls passes ten of them once in 1024 checks.
_CALLS = 10
# So many of them have inputs of their own. A reference in float64 is slow, so there all have the same.
_INPUTS = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 2}


@dataclass(frozen=True)
class Finding:
    """What a check saw of an operation."""

    operation: Operation
    format: str
    error: (
        float  # largest of |result - reference| / (|reference| + RMS of the reference); infinite where it is no number
    )
    seconds: float  # median of its calls
    reference_seconds: float  # of one call in the wider format

    @property
    def wrong(self) -> bool:
        """Whether the error is beyond what rounding explains."""
        return not self.error <= TOLERANCES[self.format]


def check_operations(
    operations: Iterable[Operation],
    device: torch.device | str,
    *,
    tf32: bool = False,
    call: Call = Operation.__call__,
    seed: int = 0,
) -> list[Finding]:
    """Call each operation ten times on random inputs, and compare with it in float32 (16-bit formats) or float64.

    Before each call the memory that it will probably be given is filled with NaN, since a kernel that leaves part of
    its result unwritten often finds the right numbers of the call before there. ``call`` may take another way than the
    operation's own. ``tf32`` says that the process computes float32 products in TF32.
    """
    device = torch.device(device)
    rng = torch.Generator().manual_seed(seed)
    return [_check(operation, device, rng, call, tf32=tf32) for operation in operations]


def _check(operation: Operation, device: torch.device, rng: torch.Generator, call: Call, *, tf32: bool) -> Finding:
    wide = torch.float64 if operation.dtype == torch.float32 else torch.float32
    worst, seconds, reference_seconds = 0.0, [], []
    inputs = _INPUTS[operation.dtype]
    for _ in range(inputs):
        arguments = operation.random_arguments(rng, device)
        widened = [item.to(wide) if isinstance(item, Tensor) else item for item in arguments]
        reference, took = _timed(lambda widened=widened: operation(widened), device)  # type: ignore[misc]
        reference_seconds.append(took)
        compared = [_Compared(tensor) for tensor in reference]
        for _ in range(_CALLS // inputs):
            _poison([*reference, *(item for item in arguments if isinstance(item, Tensor))], operation.dtype)
            result, took = _timed(lambda arguments=arguments: call(operation, arguments), device)  # type: ignore[misc]
            seconds.append(took)
            worst = max(worst, *(one.error(tensor) for one, tensor in zip(compared, result, strict=True)))
    name = NAMES[operation.dtype]
    return Finding(
        operation, "tf32" if tf32 and name == "fp32" else name, worst, median(seconds), min(reference_seconds)
    )


class _Compared:
    """The errors of one result of several calls; a call that gives the same numbers again is not measured again."""

    def __init__(self, reference: Tensor) -> None:
        self._reference = reference
        scale = reference.abs() + reference.square().mean().sqrt()
        self._scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
        self._last: Tensor | None = None
        self._error = 0.0

    def error(self, result: Tensor) -> float:
        """The largest error as a share of the value plus the RMS of all; infinite where it is no number."""
        if result.numel() and (self._last is None or not torch.equal(result, self._last)):  # NaN equals nothing
            error = float(((result.to(self._reference.dtype) - self._reference).abs() / self._scale).max())
            self._last, self._error = result, error if math.isfinite(error) else math.inf  # `max` passes NaN on
        return self._error


def _poison(like: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Fill blocks of these sizes with NaN and give them back, for the next call to find."""
    blocks = [torch.full((tensor.numel(),), math.nan, dtype=dtype, device=tensor.device) for tensor in like]
    del blocks


def _timed(work: Callable[[], list[Tensor]], device: torch.device) -> tuple[list[Tensor], float]:
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start
