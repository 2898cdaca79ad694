"""Large veins, which time-of-flight angiography suppresses but not wholly: faint tubes that are no arteries."""

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import Head
from vesselgan.data.vessel_tree import Branch, path_lengths, smooth_path

__all__ = ["draw_veins", "vein_signals"]

_BRIGHTNESS = 1.4  # white matter being 1
_SPREAD = 0.15

# Centrelines, mm in the upright head, on the right (x > 0) or in the middle.
_SAGITTAL = ((0, 68, 62), (0, 50, 84), (0, 10, 98), (0, -40, 88), (0, -70, 58), (0, -76, 36))
_STRAIGHT = ((0, -26, 44), (0, -46, 42), (0, -62, 40), (0, -76, 36))
_TRANSVERSE = ((0, -76, 36), (20, -74, 32), (44, -58, 27), (54, -40, 18), (46, -36, 4), (44, -34, -4))
_SYLVIAN = ((56, 18, 46), (50, 22, 34), (40, 22, 25), (26, 14, 17))


def draw_veins(head: Head, *, step_mm: float, thinnest_mm: float, rng: np.random.Generator) -> list[Branch]:
    """Sinuses and superficial veins of one subject, none thinner than *thinnest_mm*."""
    courses = [(_SAGITTAL, 3.0), (_STRAIGHT, 2.0)]
    for sign, larger in ((1, 3.0), (-1, 2.2)):  # the right transverse sinus is mostly the wider
        courses += [(_mirrored(_TRANSVERSE, sign), larger), (_mirrored(_SYLVIAN, sign), 1.1)]
    veins = []
    for course, radius_mm in courses:
        nodes = np.array([head.place(np.array(node) + rng.normal(scale=1.0, size=3)) for node in course])
        points = smooth_path(nodes, step_mm)
        veins.append(Branch(points, max(radius_mm * rng.uniform(0.85, 1.15), thinnest_mm), path_lengths(points, 0), -1))
    return veins


def vein_signals(veins: list[Branch], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Brightness of the blood (n,) along each vein."""
    return [np.full(len(vein.points_mm), max(_BRIGHTNESS + _SPREAD * rng.standard_normal(), 1.0)) for vein in veins]


def _mirrored(course: tuple[tuple[int, int, int], ...], sign: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((sign * x, y, z) for x, y, z in course)
