"""Which library kernels a computation calls, and on what: recorded once, each can be called again by itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["OVERLOADS", "Operation", "OperationRecorder", "TensorSpec", "operation_of", "tensors_of"]

Argument: TypeAlias = "TensorSpec | bool | int | float | tuple[Argument, ...] | None"

_aten = torch.ops.aten

# Convolutions and matrix products: for these a library has many kernels and chooses one by shape, layout and
# instruction set, which is where wrong ones have been found. All else is compiled with PyTorch, once for all shapes.
OVERLOADS: Mapping[str, OpOverload] = {
    "convolution": _aten.convolution.default,
    "convolution_backward": _aten.convolution_backward.default,
    "mm": _aten.mm.default,
    "addmm": _aten.addmm.default,
    "bmm": _aten.bmm.default,
    "mv": _aten.mv.default,
}
_NAMES = {overload: name for name, overload in OVERLOADS.items()}
# In inference mode, functions arrive whole; these are made of the above.
_WHOLE = {
    *(_aten.conv3d.default, _aten.conv3d.padding, _aten.conv_transpose3d.input),
    *(_aten.linear.default, _aten.matmul.default),
}
# Where a convolution's list of stride, padding, dilation, transposed begins.
_FORM = {"convolution": 3, "convolution_backward": 4}


@dataclass(frozen=True)
class TensorSpec:
    """All that a kernel sees of a tensor but its values; strides and shape in elements."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def random(self, rng: torch.Generator, device: torch.device) -> Tensor:
        """Values from N(0, 1), rounded to the format, in this layout."""
        length = 1 + sum((axis - 1) * step for axis, step in zip(self.shape, self.stride, strict=True))
        return torch.randn(length, generator=rng).to(device, self.dtype).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Operation:
    """A call of a kernel: its name in ATen and its arguments, with a `TensorSpec` in the place of each tensor."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def specs(self) -> list[TensorSpec]:
        """Its tensors in the order of the arguments."""
        return [argument for argument in self.arguments if isinstance(argument, TensorSpec)]

    @property
    def dtype(self) -> torch.dtype:
        """The format that it computes in: all its tensors have the same."""
        return self.specs[0].dtype

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution or the gradients of one."""
        return self.name in _FORM

    @property
    def per_axis(self) -> tuple[int, ...]:
        """Which of a convolution's arguments have a number for each axis: stride, padding, dilation, output padding."""
        start = _FORM[self.name]
        return (start, start + 1, start + 2, start + 4)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "arguments": [
                {"shape": item.shape, "stride": item.stride, "dtype": str(item.dtype).removeprefix("torch.")}
                if isinstance(item, TensorSpec)
                else item
                for item in self.arguments
            ],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Operation":
        """From what `to_plain` gave."""
        return cls(plain["name"], tuple(_from_plain(item) for item in plain["arguments"]))

    def in_format(self, dtype: torch.dtype) -> "Operation":
        """The same call on tensors of another format."""
        return Operation(
            self.name,
            tuple(replace(item, dtype=dtype) if isinstance(item, TensorSpec) else item for item in self.arguments),
        )

    def random_arguments(self, rng: torch.Generator, device: torch.device) -> list[Any]:
        """Its arguments with random tensors in place."""
        return [item.random(rng, device) if isinstance(item, TensorSpec) else item for item in self.arguments]

    def __call__(self, arguments: Iterable[Any]) -> list[Tensor]:
        """Call the kernel; the tensors that it gives."""
        return tensors_of(OVERLOADS[self.name](*self.unpacked(arguments)))

    def unpacked(self, arguments: Iterable[Any]) -> list[Any]:
        """Arguments as PyTorch takes them: lists of numbers, which here are tuples."""
        return [list(item) if isinstance(item, tuple) else item for item in arguments]

    def __str__(self) -> str:
        """For people: name, format, shapes, and how a convolution is made."""
        shapes = " by ".join("x".join(map(str, spec.shape)) for spec in self.specs)
        return ", ".join([f"{self.name} {shapes}", *self._form()])

    def _form(self) -> list[str]:
        if not self.is_convolution:
            return []
        start = _FORM[self.name]
        stride, padding, dilation, transposed = self.arguments[start : start + 4]
        volumes = [spec for spec in self.specs if len(spec.shape) == 5]
        words = [f"stride {_same(stride)}", f"padding {_same(padding)}"]
        words += [f"dilation {_same(dilation)}"] * (_same(dilation) != "1") + ["transposed"] * bool(transposed)
        if self.name == "convolution_backward":
            wanted = zip(("input", "weight"), self.arguments[-1], strict=False)  # type: ignore[arg-type]
            words.append("of " + " and ".join(what for what, on in wanted if on))
        return [*words, "channels last" if all(spec.stride[1] == 1 for spec in volumes) else "channels first"]


class OperationRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations that run inside it, each once, in order; also on fake tensors, which compute nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: dict[Operation, None] = {}

    @property
    def operations(self) -> list[Operation]:
        """What ran so far."""
        return list(self._seen)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if name := _NAMES.get(func):
            self._seen.setdefault(operation_of(name, args), None)
            return func(*args, **(kwargs or {}))
        if func in _WHOLE:
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors that a kernel gave, without the gradients that nobody asked for."""
    results = result if isinstance(result, tuple) else (result,)
    return [tensor for tensor in results if tensor is not None]


def operation_of(name: str, arguments: Iterable[Any]) -> Operation:
    """The operation of a call of the kernel `name`."""
    return Operation(name, tuple(_plain(argument) for argument in arguments))


def _plain(argument: Any) -> Argument:
    if isinstance(argument, Tensor):
        return TensorSpec(tuple(argument.shape), tuple(argument.stride()), argument.dtype)
    return tuple(argument) if isinstance(argument, list) else argument


def _from_plain(item: Any) -> Argument:
    if isinstance(item, dict):
        return TensorSpec(tuple(item["shape"]), tuple(item["stride"]), getattr(torch, item["dtype"]))
    return tuple(item) if isinstance(item, list) else item


def _same(values: Argument) -> str:
    """One number where all axes have the same."""
    assert isinstance(values, tuple)
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
