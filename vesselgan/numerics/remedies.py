"""Right ways around a wrong kernel, and the process in which they are taken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vesselgan.numerics.check import Finding, check_operations
from vesselgan.numerics.operations import OVERLOADS, Operation, operation_of, tensors_of

__all__ = ["Remedied", "find_remedies", "remedied"]

Kernel = Callable[..., Any]
Way = Callable[[Operation, Kernel, Sequence[Any]], Any]


def _in_float32(operation: Operation, kernel: Kernel, arguments: Sequence[Any]) -> Any:
    result = kernel(*(item.float() if isinstance(item, Tensor) else item for item in arguments))
    return _each(result, lambda tensor: tensor.to(operation.dtype))


def _axes_reversed(operation: Operation, kernel: Kernel, arguments: Sequence[Any]) -> Any:
    """With the last spatial axis first: the same numbers, summed in another order."""
    layout = torch.channels_last_3d
    turned = [
        item.permute(0, 1, 4, 3, 2).contiguous(memory_format=layout)
        if isinstance(item, Tensor) and item.ndim == 5
        else list(reversed(item))
        if index in operation.per_axis
        else item
        for index, item in enumerate(arguments)
    ]
    return _each(
        kernel(*turned),
        lambda tensor: tensor.permute(0, 1, 4, 3, 2).contiguous(memory_format=layout) if tensor.ndim == 5 else tensor,
    )


def _channels_first(operation: Operation, kernel: Kernel, arguments: Sequence[Any]) -> Any:
    return kernel(*(item.contiguous() if isinstance(item, Tensor) else item for item in arguments))


WAYS: Mapping[str, Way] = {"reversed axes": _axes_reversed, "channels first": _channels_first, "float32": _in_float32}


@dataclass(frozen=True)
class Remedied:
    """A wrong operation and the fastest right way of WAYS here; None where all are wrong too."""

    finding: Finding
    way: str | None
    seconds: float | None


def find_remedies(findings: Sequence[Finding], device: torch.device | str, *, tf32: bool = False) -> list[Remedied]:
    """For each wrong operation, the fastest of the ways that pass the same check."""
    found = []
    for finding in findings:
        if not finding.wrong:
            continue
        right: list[tuple[float, str]] = []
        for name, way in WAYS.items() if finding.operation.is_convolution else ():
            if name == "float32" and finding.operation.dtype == torch.float32:
                continue
            (again,) = check_operations([finding.operation], device, tf32=tf32, call=partial(_by, way), seed=1)
            if not again.wrong:
                right.append((again.seconds, name))
        seconds, fastest = min(right) if right else (None, None)
        found.append(Remedied(finding, fastest, seconds))
    return found


def _by(way: Way, operation: Operation, arguments: list[Any]) -> list[Tensor]:
    return tensors_of(way(operation, OVERLOADS[operation.name], operation.unpacked(arguments)))


@contextmanager
def remedied(ways: Mapping[Operation, str | None], device: torch.device | str) -> Iterator[None]:
    """Inside, every convolution of the process on this device goes the way that `ways` names for it; None is its own.

    Below autograd, so that gradients and gradients of gradients, which PyTorch forms by itself, take theirs too. A
    16-bit convolution that is not among `ways` is computed in float32: beside a wrong kernel, nothing unchecked runs.
    """
    with torch.library._scoped_library("aten", "IMPL") as library:
        for name in ("convolution", "convolution_backward"):
            library.impl(name, partial(_dispatch, name, ways), torch.device(device).type.upper())
        yield


# PyTorch has one kernel for both operations on every device, which chooses the library. Ours stands before it on this
# device; on this unused one it is still to be reached.
_COMMON = torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1)


def _dispatch(name: str, ways: Mapping[Operation, str | None], *arguments: Any) -> Any:
    kernel = partial(OVERLOADS[name].redispatch, _COMMON)
    operation = operation_of(name, arguments)
    way = ways.get(operation, None if operation.dtype in (torch.float32, torch.float64) else "float32")
    return kernel(*arguments) if way is None else WAYS[way](operation, kernel, arguments)


def _each(result: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(result, tuple):
        return tuple(None if tensor is None else change(tensor) for tensor in result)
    return change(result)
