"""Number format of a training: one object, chosen once."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch

from vesselgan.errors import InputError
from vesselgan.processor import native_instructions
from vesselgan.settings.options import PrecisionName

__all__ = ["Precision", "choose_precision"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

# Of the gradient inside the penalty; see losses.gradient_penalty.
_FP16_INNER_SCALE = 1024.0


@dataclass(frozen=True, eq=False)
class Precision:
    """How a network computes: ``autocast()`` around forwards, ``scaler`` around the backward and the optimiser's step.

    ``scaler`` passes everything through unless the format is fp16, so a training loop needs no case for any format.
    ``native`` is False where the format is emulated: it gives right numbers at a speed that says nothing.
    """

    name: PrecisionName
    device: torch.device
    dtype: torch.dtype
    native: bool
    scaler: torch.amp.GradScaler

    def autocast(self) -> AbstractContextManager[object]:
        """An autocast context; disabled, for fp32 and tf32, it does nothing.

        Without autocast's cache of cast weights: every weight is used once in a context, and the cache would keep the
        copy of the generator's first layer, the largest tensor of a small training, until the context ends.
        """
        reduced = self.dtype != torch.float32
        return torch.autocast(
            self.device.type,
            dtype=self.dtype if reduced else torch.bfloat16,
            enabled=reduced,
            cache_enabled=False,
        )

    @property
    def inner_scale(self) -> float:
        """Factor on the score inside the gradient penalty: a power of two in fp16, else one."""
        return _FP16_INNER_SCALE if self.dtype == torch.float16 else 1.0


def choose_precision(name: str, device: torch.device | str) -> Precision:
    """The number format ``fp32``, ``tf32``, ``bf16`` or ``fp16`` on this device, never silently another.

    On CUDA this also sets PyTorch's process-wide switch for float32 products, to TF32 or to full float32: what bf16
    and fp16 leave in float32 stays in full float32. Raises InputError for an unknown format or device, and for a
    format that the device lacks; a CPU computes any 16-bit format, if need be by emulation: its flags say, and then
    ``native`` is False.
    """
    device = torch.device(device)
    if name not in get_args(PrecisionName):
        raise InputError(f"unknown precision {name!r}; known: {', '.join(get_args(PrecisionName))}")
    if device.type == "cuda":
        native = _cuda_has(name, device)
        _set_float32_products("tf32" if name == "tf32" else "ieee")
    elif device.type == "cpu":
        if name == "tf32":
            raise InputError("precision tf32 needs a CUDA device; on a CPU choose fp32 or bf16")
        native = name == "fp32" or native_instructions(name) is not None
    else:
        raise InputError(f"device {device.type!r} is not supported; it can be 'cpu' or 'cuda'")
    scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
    dtype = _AUTOCAST.get(name, torch.float32)
    return Precision(name=cast(PrecisionName, name), device=device, dtype=dtype, native=native, scaler=scaler)


def _cuda_has(name: str, device: torch.device) -> bool:
    if not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} was asked for, but PyTorch sees no CUDA device")
    needed = {"fp32": (0, 0), "fp16": (5, 3), "tf32": (8, 0), "bf16": (8, 0)}[name]
    capability = torch.cuda.get_device_capability(device)
    if capability < needed:
        raise InputError(
            f"precision {name} needs a CUDA device of compute capability {needed[0]}.{needed[1]}; "
            f"{torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}"
        )
    return True


def _set_float32_products(kind: Literal["tf32", "ieee"]) -> None:
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.fp32_precision = kind
