"""Veins, which time-of-flight angiography suppresses but not wholly: faint tubes that are no arteries."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import Head
from vesselgan.data.vessel_tree import Branch, path_lengths, smooth_path

__all__ = ["draw_veins", "vein_signals"]

_BRIGHTNESS = 1.35  # white matter being 1
_SPREAD = 0.12
_FAINTEST = 1.1

_Nodes = Sequence[tuple[float, float, float]]

# Centrelines, mm in the upright head, on the right (x > 0) or in the middle.
_SAGITTAL = ((0, 68, 62), (0, 50, 84), (0, 10, 98), (0, -40, 88), (0, -70, 58), (0, -76, 36))
_STRAIGHT = ((0, -26, 44), (0, -46, 42), (0, -62, 40), (0, -76, 36))
_TRANSVERSE = ((0, -76, 36), (20, -74, 32), (44, -58, 27), (54, -40, 18), (46, -36, 4), (44, -34, -4))
_SYLVIAN = ((56, 18, 46), (50, 22, 34), (40, 22, 25), (26, 14, 17))
_INTERNAL_CEREBRAL = ((3, 8, 52), (3, -8, 53), (2, -20, 50), (0, -26, 44))
_BASAL = ((20, 8, 26), (19, -4, 29), (17, -16, 36), (8, -24, 42), (0, -26, 44))  # Rosenthal's
_CAVERNOUS = ((14, 18, 14), (16, 10, 15), (17, 2, 13), (18, -6, 9))  # beside the carotid
_SIDES = (  # radius in mm on the right and on the left: the right transverse sinus is mostly the wider
    (_TRANSVERSE, 3.0, 2.2),
    (_SYLVIAN, 1.1, 1.1),
    (_INTERNAL_CEREBRAL, 0.9, 0.9),
    (_BASAL, 0.8, 0.8),
    (_CAVERNOUS, 2.2, 2.2),
)
_WIDENED_MM = 1.3  # as far as small veins are widened on coarse grids; sinuses are not
_CORTICAL = 7  # per side
_CORTICAL_MM = 0.8
_CORTICAL_DEPTH = 0.99  # in the fluid on the brain's surface: arteries lie below


def draw_veins(head: Head, *, step_mm: float, widening: float, rng: np.random.Generator) -> list[Branch]:
    """Sinuses, deep and superficial veins of one subject, *widening* times as wide as real ones."""
    courses: list[tuple[_Nodes, float]] = [(_SAGITTAL, 3.0), (_STRAIGHT, 2.0)]
    for course, right_mm, left_mm in _SIDES:
        courses += [(course, right_mm), (_mirrored(course), left_mm)]
    paths = [
        (np.array([head.place(np.array(node) + rng.normal(scale=1.0, size=3)) for node in course]), radius_mm)
        for course, radius_mm in courses
    ]
    paths += [(_cortical(head, sign, rng), _CORTICAL_MM) for sign in (1, -1) for _ in range(_CORTICAL)]
    veins = []
    for nodes, radius_mm in paths:
        points = smooth_path(nodes, step_mm)
        drawn_mm = max(radius_mm, min(_WIDENED_MM, radius_mm * widening)) * rng.uniform(0.85, 1.15)
        veins.append(Branch(points, drawn_mm, path_lengths(points, 0), -1))
    return veins


def vein_signals(veins: Sequence[Branch], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Brightness of the blood (n, 2) along each vein, as `fill_voxels` takes it."""
    drawn = (max(_BRIGHTNESS + _SPREAD * rng.standard_normal(), _FAINTEST) for _ in veins)
    return [np.full((len(vein.points_mm), 2), brightness) for vein, brightness in zip(veins, drawn, strict=True)]


def _cortical(head: Head, sign: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Nodes (5, 3) of a vein that winds over one side of the brain up to the sagittal sinus."""
    lower = np.array([sign * 45, rng.uniform(-55, 50), rng.uniform(45, 68)])
    upper = np.array([sign * 2, 0.8 * lower[1] + rng.uniform(-10, 10), 100])
    share = np.linspace(0, 1, 5)[:, None]
    nodes = lower + share * (upper - lower) + rng.normal(scale=(2.0, 5.0, 2.0), size=(5, 3))
    return head.onto_depth(np.array([head.place(node) for node in nodes]), _CORTICAL_DEPTH)


def _mirrored(course: _Nodes) -> _Nodes:
    return tuple((-x, y, z) for x, y, z in course)
