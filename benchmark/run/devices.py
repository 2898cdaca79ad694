"""A device that is planned for, as far as it is known: it need not be here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from benchmark.run.calibration import Calibration
from benchmark.run.forecast import probed
from vesselgan.errors import InputError
from vesselgan.families import Family
from vesselgan.profiling.step_counter import StepCost
from vesselgan.settings import PrecisionName
from vesselgan.training import choose_precision

__all__ = ["ALIKE", "TIGHT", "Device", "Fit"]

# Formats whose tensors have the same bytes: those of fp16 and tf32 are counted as bf16's and fp32's.
ALIKE: tuple[tuple[PrecisionName, ...], ...] = (("fp32", "tf32"), ("bf16", "fp16"))
TIGHT = 0.85  # of a device's memory: above it nobody knows whether a step fits, but where it was calibrated

Fit = Literal["yes", "tight", "no"]


@dataclass(frozen=True)
class Device:
    """What is known of the device that is planned for."""

    kind: str = "cuda"  # or `cpu`
    is_here: bool = False  # then its speed can be probed
    memory_bytes: int | None = None
    flops_per_s: Mapping[PrecisionName, float] | None = None  # that training steps reach, not the data sheet's
    calibration: Calibration | None = None

    def needed(self, cost: StepCost, precision: PrecisionName) -> int:
        """Bytes that a step takes of it: all tensors, and where it is calibrated also what comes on top."""
        if self.calibration is None:
            return cost.peak_bytes
        return round(cost.peak_bytes * self.calibration.reserve(precision)) + self.calibration.context_bytes

    def fits(self, needed: int) -> Fit | None:
        """Whether so many bytes fit; None where its memory is unknown."""
        if self.memory_bytes is None:
            return None
        if needed > self.memory_bytes:
            return "no"
        return "yes" if self.calibration or needed <= TIGHT * self.memory_bytes else "tight"

    def seconds(self, family: Family[Any], precision: PrecisionName, flops: int) -> float | None:
        """Of a step, at the speed that was given or calibrated, or at that of a small step here; else None."""
        known = None
        if self.flops_per_s is not None:
            known = self.flops_per_s.get(precision)
        elif self.calibration is not None:
            known = self.calibration.flops_per_s(precision)
        elif self.is_here:
            known = _speed_here(family, precision, self.kind)
        return flops / known if known else None


@cache
def _speed_here(family: Family[Any], precision: PrecisionName, device: str) -> float | None:
    """Operations a second of a small step on this machine; None of a format that it emulates or lacks."""
    try:
        if not choose_precision(precision, device).native:
            return None
    except InputError:
        return None
    flops, seconds = probed(family, precision, device)
    return flops / seconds if flops else None
