"""What a device really takes for training steps, beside what was predicted: measured once, kept in a file."""

import gc
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.environment import library_versions, machine
from benchmark.run.memory import counted
from vesselgan.errors import InputError
from vesselgan.families import Family
from vesselgan.files import write_text
from vesselgan.profiling.timing import peak_tensor_bytes, seconds_per_step
from vesselgan.settings import PrecisionName
from vesselgan.training import choose_precision

__all__ = ["FORMATS", "Calibration", "MeasuredStep", "calibrate", "load_calibration", "save_calibration"]

FORMATS: tuple[PrecisionName, ...] = ("fp32", "tf32", "bf16", "fp16")
WARM_UP, STEPS, SECONDS = 2, 10, 5.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MeasuredStep(_Strict):
    """A training step in one number format, predicted and measured."""

    what: str
    precision: PrecisionName
    predicted_bytes: int = Field(gt=0)
    # None where the step did not fit.
    allocated_bytes: int | None = None  # live tensors at the peak
    reserved_bytes: int | None = None  # by the allocator, on CUDA; on a CPU the same as allocated
    step_time_ms: float | None = Field(None, gt=0)
    flops_per_s: float | None = Field(None, gt=0)


class Calibration(_Strict):
    """Measured steps of one device, and what it takes beside all tensors."""

    device: str
    kind: str  # `cpu` or `cuda`
    versions: dict[str, str]
    date: str
    context_bytes: int = Field(0, ge=0)  # of the driver and the libraries
    steps: list[MeasuredStep]

    def flops_per_s(self, precision: PrecisionName) -> float | None:
        """The median speed of the steps in a format."""
        speeds = sorted(one.flops_per_s for one in self.steps if one.precision == precision and one.flops_per_s)
        return speeds[len(speeds) // 2] if speeds else None

    def reserve(self, precision: PrecisionName) -> float:
        """What the allocator reserves over what was predicted: the largest ratio seen in a format, or in any."""
        ratios = [(one.precision, one.reserved_bytes / one.predicted_bytes) for one in self.steps if one.reserved_bytes]
        return max([ratio for name, ratio in ratios if name == precision] or [ratio for _, ratio in ratios] or [1.0])


def calibrate(steps: Iterable[tuple[str, Family[Any], Any]], device: str) -> Calibration:
    """Make each of these named steps on this device in every format that it computes natively.

    One that does not fit into memory is kept as such, and the others go on.
    """
    found = [
        _measured(what, family, family.sized(in_format), device)
        for what, family, config in steps
        for in_format in _formats(config, device)
    ]
    facts = machine(device)
    return Calibration(
        device=facts["gpu"] if device == "cuda" else facts["cpu"],
        kind=device,
        versions=library_versions(device),
        date=datetime.now(UTC).date().isoformat(),
        context_bytes=_context_bytes(device),
        steps=found,
    )


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write it as JSON."""
    write_text(path, json.dumps(calibration.model_dump(exclude_none=True), indent=1) + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote. Raises InputError for a file that is missing or none of it."""
    remedy = "make it on the machine that is planned for: plan PROTOCOL --calibrate FILE"
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {first['msg']}; {remedy}") from None


def _formats(config: Any, device: str) -> list[Any]:
    """The configuration in each format that the device has."""
    native = []
    for name in FORMATS:
        try:
            if choose_precision(name, device).native:
                native.append(replace(config, precision=name))
        except InputError:  # a card of before 2020 has neither tf32 nor bf16
            continue
    return native


def _measured(what: str, family: Family[Any], config: Any, device: str) -> MeasuredStep:
    cost = counted(family, config, device)
    common = {"what": what, "precision": config.precision, "predicted_bytes": cost.peak_bytes}
    try:
        return MeasuredStep(**common, **_made(family, config, device, cost.flops))
    except (torch.OutOfMemoryError, MemoryError):
        return MeasuredStep(**common)
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


class Made(TypedDict):
    """What a step took on the device."""

    allocated_bytes: int
    reserved_bytes: int
    step_time_ms: float
    flops_per_s: float | None


def _made(family: Family[Any], config: Any, device: str, flops: int) -> Made:
    trainer = family.trainer(config, device)
    real = torch.zeros(config.batch, 2, *config.patch_size, device=device)
    seconds_per_step(trainer, real, 1)
    with peak_tensor_bytes(trainer, real) as peak:
        trainer.step(real)
    allocated = peak()
    first = seconds_per_step(trainer, real, WARM_UP)
    seconds = seconds_per_step(trainer, real, max(1, min(STEPS, int(SECONDS / first))))
    return {
        "allocated_bytes": allocated,
        "reserved_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else allocated,
        "step_time_ms": 1000 * seconds,
        "flops_per_s": flops / seconds or None,
    }


def _context_bytes(device: str) -> int:
    """What is taken of a card beside what PyTorch's allocator has reserved; other programs on it count, too."""
    if device != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info()
    return max(0, total - free - torch.cuda.memory_reserved())
