"""The types of settings with their bounds, which a protocol's schema reads, and settings to and from plain values."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from vesselgan.errors import InputError

__all__ = [
    "LATER",
    "Axis",
    "BatchNorm",
    "CriticNorm",
    "Decay",
    "Filters",
    "Positive",
    "PrecisionName",
    "Rate",
    "Share",
    "check_decay",
    "fingerprint",
    "from_options",
    "stored",
]

LATER = {"later": True}  # metadata of a setting that earlier versions did not have

PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]
CriticNorm = Literal["instance", "spectral", "none"]
BatchNorm = Literal["sync", "local"]  # over the batches of all processes, or of each
Axis = Literal["x", "y", "z"]
# Strict, since YAML's `true` is 1 to Python; bounded, so that a slip of the finger is told before memory runs out.
Positive = Annotated[int, Field(gt=0, le=10**7, strict=True)]
Filters = Annotated[int, Field(gt=0, le=8192, multiple_of=8, strict=True)]
Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def stored(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a specification has them: without those that are LATER and usual, so that keys stay as they were."""
    usual = {field.name: field.default for field in fields(kind) if field.metadata == LATER}
    return {name: value for name, value in values.items() if name not in usual or _plain(usual[name]) != _plain(value)}


def _plain(value: Any) -> Any:
    """As JSON has it; no options are no options, whatever holds them."""
    return list(value) if isinstance(value, tuple | dict) else value


def check_decay(ema: float | None) -> None:
    """InputError for what is neither None, no average, nor a decay."""
    if ema is not None and not 0 < ema < 1:
        raise InputError(f"ema is {ema}; a decay lies between 0 and 1, such as 0.999")


def fingerprint(config: Any, *, without: str | None = None) -> str:
    """What must be equal for a checkpoint to be continued: a dataclass's settings, but for the one left out."""
    return repr(sorted((name, value) for name, value in asdict(config).items() if name != without))


def from_options(kind: type[Any], options: Mapping[str, Any]) -> Any:
    """A dataclass of settings from JSON: lists become tuples, unknown names are an error."""
    known = {field.name for field in fields(kind)}
    if unknown := set(options) - known:
        raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})
