"""The widest WGAN that fits on a device: why the paper has c-SN-MP."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmark.run.devices import ALIKE, TIGHT, Device
from benchmark.run.memory import counted
from vesselgan.families import FAMILIES, WGAN, Family
from vesselgan.profiling.step_counter import StepCost
from vesselgan.settings import PrecisionName

__all__ = ["Widest", "in_full", "widest_wgans"]


@dataclass(frozen=True)
class Widest:
    """The widest WGAN of this protocol's patch and batch that fits, all else as it is."""

    norm: str
    formats: tuple[PrecisionName, ...]
    filters: int | None  # None: not even the narrowest
    parameters: int | None
    needed_bytes: int | None


def widest_wgans(device: Device, generators: Sequence[tuple[Family[Any], Any]]) -> list[Widest]:
    """With spectral norm where there is one, since that is what the paper widens."""
    wgans = [config for family, config in generators if family.name == WGAN.name and config.privacy is None]
    wgans.sort(key=lambda config: config.norm != "spectral")
    if not wgans:
        return []
    family = FAMILIES[WGAN.name]
    _, sized = in_full(family, wgans[0])
    widths = {config.filters for config in wgans if in_full(family, replace(config, filters=sized.filters))[1] == sized}
    return [_widest_of(device, sized, widths, formats) for formats in ALIKE]


def in_full(family: Family[Any], config: Any) -> tuple[Family[Any], Any]:
    """Equal for all generators that differ in nothing but the number format, as far as a step's cost goes."""
    return family, replace(family.sized(config), precision="fp32")


def _widest_of(device: Device, sized: Any, widths: Collection[int], formats: tuple[PrecisionName, ...]) -> Widest:
    """Narrow the widths down to the last that fits and the next, which does not; `widths` are good to start with."""
    assert device.memory_bytes is not None
    room = device.memory_bytes * (1.0 if device.calibration else TIGHT)

    def cost(eighths: int) -> StepCost:
        return counted(FAMILIES[WGAN.name], replace(sized, precision=formats[0], filters=8 * eighths), device.kind)

    needed: dict[int, int] = {}
    fits, too_wide = 0, 2**17
    guesses = sorted({width // 8 for width in (*widths, 2 * max(widths))})[:2]
    while too_wide - fits > 1:
        guess = guesses.pop(0) if guesses else _next_guess(needed, room, fits, too_wide)
        needed[guess] = device.needed(cost(guess), formats[0])
        fits = max(width for width in (0, *needed) if needed.get(width, 0) <= room)
        too_wide = min((width for width in needed if needed[width] > room), default=too_wide)
    if not fits:
        return Widest(sized.norm, formats, None, None, None)
    return Widest(sized.norm, formats, 8 * fits, cost(fits).parameters, needed[fits])


def _next_guess(needed: Mapping[int, int], room: float, fits: int, too_wide: int) -> int:
    """Where a parabola through the nearest counts meets the room; strictly between what fits and what does not.

    Weights grow with the square of the width and activations with the width.
    """
    near = sorted(needed, key=lambda width: abs(needed[width] - room))[:3]
    curve = np.polynomial.Polynomial.fit(near, [needed[width] - room for width in near], len(near) - 1)
    roots = [complex(root) for root in curve.roots()]
    met = [math.floor(root.real) for root in roots if abs(root.imag) < 1e-9 and fits <= root.real < too_wide]
    guess = met[0] if met else (fits + too_wide) // 2
    # A width that fits is followed by the next one, which as a rule ends the search.
    return min(max(guess, fits + 1), too_wide - 1)
