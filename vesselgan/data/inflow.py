"""What a time-of-flight sequence sees of the blood: bright where it has just entered the slab, dark where it whirls.

Blood that stays in the slab is saturated: each pulse leaves the cosine of the flip angle of its magnetisation,
which then recovers with T1. So its signal falls towards that of still blood with the time constant
1 / (1/T1 - ln(cos(flip)) / TR), 0.5 s at T1 = 1.6 s, a flip angle of 15 degrees and TR = 25 ms. Slabs are acquired one
after the other, so blood is fresh in each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.vessel_tree import Branch

__all__ = ["blood_signals"]

_FRESH = 5.2  # brightness of blood that enters a slab, white matter being 1
_STILL = 2.6  # of saturated blood: somewhat above tissue, so that what the label names can be seen
_SATURATION_S = 0.5
_SLAB_MM = 30.0
_FASTEST_MM_PER_S = 250.0  # in the widest artery; by Murray's law speed goes with the radius
_TURBULENCE = 0.6  # share of the signal lost where the centreline bends as tightly as the vessel is wide


def blood_signals(branches: Sequence[Branch], first_slab_mm: float) -> list[NDArray[np.float64]]:
    """Brightness of the blood (n,) at each centreline point of each branch; parents stand before their children.

    Args:
        branches: a forest of arteries.
        first_slab_mm: height of one boundary between slabs; the others follow at 30 mm.
    """
    widest_mm = max(branch.radius_mm for branch in branches)
    seconds_at_end: list[tuple[float, int]] = []  # since the blood entered the slab, and the slab
    signals = []
    for branch in branches:
        share_of_widest = branch.radius_mm / widest_mm
        slab = np.floor((branch.points_mm[:, 2] - first_slab_mm) / _SLAB_MM).astype(int)
        seconds = (branch.distance_mm - branch.distance_mm[0]) / (_FASTEST_MM_PER_S * share_of_widest)
        before, slab_before = seconds_at_end[branch.parent] if branch.parent >= 0 else (0.0, int(slab[0]))
        entered = np.concatenate([[slab[0] != slab_before], slab[1:] != slab[:-1]])
        latest = np.maximum.accumulate(np.where(entered, np.arange(len(slab)), -1))
        in_slab = np.where(latest >= 0, seconds - seconds[latest], seconds + before)
        seconds_at_end.append((float(in_slab[-1]), int(slab[-1])))
        bend = np.minimum(branch.radius_mm * _curvature(branch.points_mm), 1.0)
        lost = _TURBULENCE * bend * np.minimum(2 * share_of_widest, 1.0)
        signals.append((_STILL + (_FRESH - _STILL) * np.exp(-in_slab / _SATURATION_S)) * (1 - lost))
    return signals


def _curvature(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / radius of the bend (n,), per mm."""
    velocity = np.gradient(points_mm, axis=0)
    acceleration = np.gradient(velocity, axis=0)
    speed = np.maximum(np.linalg.norm(velocity, axis=1), 1e-9)
    return np.asarray(np.linalg.norm(np.cross(velocity, acceleration), axis=1) / speed**3)
