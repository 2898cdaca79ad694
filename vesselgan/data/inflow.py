"""What a time-of-flight sequence sees of the blood: bright where it has just entered the slab, dark where it whirls.

Blood that stays in the slab is saturated: each pulse leaves the cosine of the flip angle of its magnetisation,
which then recovers with T1. So its signal falls towards that of still blood with the time constant
1 / (1/T1 - ln(cos(flip)) / TR), 0.5 s at T1 = 1.6 s, a flip angle of 15 degrees and TR = 25 ms. Slabs are acquired one
after the other, so blood is fresh in each. In laminar flow the inner half of the cross-section is three times as fast
as the outer one, so a vessel is darker near its wall.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.scanner import SLAB_MM
from vesselgan.data.vessel_tree import Branch

__all__ = ["blood_signals", "draw_speeds"]

_FRESH = 4.5  # brightness of blood that enters a slab, white matter being 1
_STILL = 2.6  # of saturated blood
_SATURATION_S = 0.5
_FASTEST_MM_PER_S = 250.0  # in the widest artery; by Murray's law speed goes with the radius
_SPEEDS = (0.5, 1.3)  # of what the calibre says, in an artery that enters the head
_CHANGE = (0.8, 1.2)  # from a branch to the next
_SLOW, _SLOWER = 0.08, 0.4  # share of the branches with slow flow, and how slow it is
_FAINTEST = 1.8  # also in the tightest bend, so that what the label names can be told from tissue
_TURBULENCE = 0.6  # share of the signal lost where the centreline bends as tightly as the vessel is wide

# Speed in a parabolic profile is 2 (1 - (r / radius)^2) times the mean: this in the inner and outer half of the lumen.
_LAYERS = np.array([1.5, 0.5])


def draw_speeds(branches: Sequence[Branch], rng: np.random.Generator) -> list[float]:
    """Mean speed of the blood in each branch, mm/s; parents stand before their children."""
    widest_mm = max(branch.radius_mm for branch in branches)
    factors: list[float] = []
    for branch in branches:
        factor = factors[branch.parent] * rng.uniform(*_CHANGE) if branch.parent >= 0 else rng.uniform(*_SPEEDS)
        if rng.random() < _SLOW:
            factor *= _SLOWER
        factors.append(float(np.clip(factor, 0.12, 1.5)))
    return [
        _FASTEST_MM_PER_S * branch.radius_mm / widest_mm * factor
        for branch, factor in zip(branches, factors, strict=True)
    ]


def blood_signals(
    branches: Sequence[Branch], speeds: Sequence[float], first_slab_mm: float
) -> list[NDArray[np.float64]]:
    """Brightness of the blood (n, 2) along each branch, near its axis and near its wall.

    Args:
        branches: a forest of arteries; parents stand before their children.
        speeds: mean of the blood in each, mm/s.
        first_slab_mm: height of one boundary between slabs; the others follow at 30 mm.
    """
    widest_mm = max(branch.radius_mm for branch in branches)
    seconds_at_end: list[tuple[float, int]] = []  # since the blood entered the slab at mean speed, and the slab
    signals = []
    for branch, speed in zip(branches, speeds, strict=True):
        share_of_widest = branch.radius_mm / widest_mm
        slab = np.floor((branch.points_mm[:, 2] - first_slab_mm) / SLAB_MM).astype(int)
        seconds = (branch.distance_mm - branch.distance_mm[0]) / speed
        before, slab_before = seconds_at_end[branch.parent] if branch.parent >= 0 else (0.0, int(slab[0]))
        entered = np.concatenate([[slab[0] != slab_before], slab[1:] != slab[:-1]])
        latest = np.maximum.accumulate(np.where(entered, np.arange(len(slab)), -1))
        in_slab = np.where(latest >= 0, seconds - seconds[latest], seconds + before)
        seconds_at_end.append((float(in_slab[-1]), int(slab[-1])))
        bend = np.minimum(branch.radius_mm * _curvature(branch.points_mm), 1.0)
        lost = _TURBULENCE * bend * np.minimum(2 * share_of_widest, 1.0)
        fresh = np.exp(-in_slab[:, None] / (_SATURATION_S * _LAYERS))
        signals.append(np.maximum((_STILL + (_FRESH - _STILL) * fresh) * (1 - lost)[:, None], _FAINTEST))
    return signals


def _curvature(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / radius of the bend (n,), per mm."""
    velocity = np.gradient(points_mm, axis=0)
    acceleration = np.gradient(velocity, axis=0)
    speed = np.maximum(np.linalg.norm(velocity, axis=1), 1e-9)
    return np.asarray(np.linalg.norm(np.cross(velocity, acceleration), axis=1) / speed**3)
