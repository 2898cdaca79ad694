"""Where a step's time goes: every operator against what the machine's arithmetic and memory allow."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

__all__ = ["Machine", "Operator", "measure_machine", "roofline"]


@dataclass(frozen=True)
class Machine:
    """What this machine reaches on a large matrix product in one number format, and on a copy."""

    flops_per_s: float
    bytes_per_s: float


@dataclass
class Operator:
    """All calls of one operator with the same shapes: their time, their work, and the least time that the work takes.

    ``limit_ms`` is the larger of arithmetic at the matrix product's speed and of reading inputs and writing outputs
    once at the copy's speed. What lies in a cache can be faster than that.
    """

    name: str
    shapes: str
    calls: int = 0
    ms: float = 0.0
    gflop: float = 0.0
    limit_ms: float = 0.0


def measure_machine(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> Machine:
    """Time a ``size`` cubed matrix product and a copy of 128 MiB, best of ``repeats``; on the CPU, current threads."""
    a, b = torch.rand(2, size, size).to(dtype).unbind()
    source = torch.zeros(2**27, dtype=torch.uint8)
    target = torch.zeros_like(source)

    def best(work: Callable[[], object]) -> float:
        work()
        return min(_seconds(work) for _ in range(repeats))

    product, copy = best(lambda: a @ b), best(lambda: target.copy_(source))
    return Machine(2 * size**3 / product, 2 * source.numel() / copy)


def roofline(step: Callable[[], object], machine: Machine) -> list[Operator]:
    """Run ``step`` once with every operator timed; slowest first. For CPUs, where an operator ends when it returns."""
    with _Times(machine) as times:
        step()
    return sorted(times.operators.values(), key=lambda operator: -operator.ms)


class _Times(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine = machine
        self.operators: dict[tuple[str, str], Operator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        start = time.perf_counter()
        outputs = func(*args, **kwargs)
        ms = (time.perf_counter() - start) * 1000
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in inputs[:3])
        name = str(func._overloadpacket).removeprefix("aten.")
        operator = self.operators.setdefault((name, shapes), Operator(name, shapes))
        count = flop_registry.get(func._overloadpacket)
        flops = count(*args, **kwargs, out_val=outputs) if count else 0
        moved = 0 if func.is_view else _bytes(inputs) + _bytes(tree_leaves(outputs))
        operator.calls += 1
        operator.ms += ms
        operator.gflop += flops / 1e9
        operator.limit_ms += 1000 * max(flops / self.machine.flops_per_s, moved / self.machine.bytes_per_s)
        return outputs


def _bytes(leaves: list[Any]) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
