"""Arterial trees by published growth rules: radii after Murray, branching angles of least work, tortuous centrelines.

Murray (1926), "The physiological principle of minimum work", doi 10.1073/pnas.12.3.207 (radii) and
doi 10.1085/jgp.9.6.835 (angles).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

__all__ = ["Branch", "Trunk", "bifurcation_angles", "grow_tree", "path_lengths", "smooth_path", "tortuous_path"]

_Points = NDArray[np.float64]  # (n, 3), mm
_ASKEW = np.array([0.61, 0.53, 0.59])  # tells the two ends of an axis apart; no special direction lies across it


@dataclass(frozen=True, eq=False)
class Branch:
    """A vessel between two bifurcations."""

    points_mm: _Points  # (n, 3), centreline from the heart outwards
    radius_mm: float
    distance_mm: NDArray[np.float64]  # (n,), travelled by the blood since it entered
    parent: int  # index of the branch that feeds it in the same list, or -1


@dataclass(frozen=True, eq=False)
class Trunk:
    """Where a tree begins."""

    origin: ArrayLike  # (3,), mm
    direction: ArrayLike  # (3,), of any length
    radius_mm: float
    distance_mm: float = 0.0  # travelled by the blood before the origin
    parent: int = -1  # the branch that feeds it, or none


def grow_tree(
    trunk: Trunk,
    perfused_mm: _Points,
    *,
    step_mm: float,
    rng: np.random.Generator,
    offset: int = 0,
    settle: Callable[[_Points], _Points] = lambda points: points,
) -> list[Branch]:
    """Grow a tree that feeds each point of *perfused_mm* (n, 3) by one terminal branch.

    Each point draws the same flow, and flow goes with the cube of the radius, so a branch that feeds m of the n points
    has radius ``trunk.radius_mm * (m / n) ** (1/3)``: Murray's law, r0^3 = r1^3 + r2^3, holds at each bifurcation.

    Args:
        trunk: the first branch's beginning.
        perfused_mm: (n, 3), n >= 1.
        step_mm: distance of neighbouring centreline points.
        rng: draws where and how unevenly branches divide, and how they wind.
        offset: index of the trunk in the list to which the result will be appended.
        settle: moves centreline points to where they may lie, e.g. onto a surface.
    """
    branches: list[Branch] = []
    origin = np.asarray(trunk.origin, dtype=float)
    waiting = [(origin, _unit(trunk.direction), perfused_mm, trunk.distance_mm, trunk.parent)]
    while waiting:
        start, heading, fed, travelled, feeder = waiting.pop()
        terminal = len(fed) == 1
        goal = fed.mean(axis=0)
        end = goal if terminal else start + rng.uniform(0.35, 0.6) * (goal - start)
        points = settle(tortuous_path(start, heading, end, step_mm=step_mm, rng=rng))
        distances = path_lengths(points, travelled)
        radius = trunk.radius_mm * (len(fed) / len(perfused_mm)) ** (1 / 3)
        branches.append(Branch(points, radius, distances, feeder))
        if terminal:
            continue
        here, tangent, index = points[-1], _unit(points[-1] - points[-2]), offset + len(branches) - 1
        for share, child_heading in _divide(fed, tangent, rng):
            waiting.append((here, child_heading, share, float(distances[-1]), index))
    return branches


def bifurcation_angles(parent_radius: float, radius: float, sibling_radius: float) -> float:
    """Angle in radians between a branch and its parent that costs the least work (Murray 1926).

    cos(angle) = (r0^4 + r1^4 - r2^4) / (2 r0^2 r1^2): the wider branch turns less.
    """
    numerator = parent_radius**4 + radius**4 - sibling_radius**4
    return float(np.arccos(np.clip(numerator / (2 * parent_radius**2 * radius**2), -1, 1)))


def tortuous_path(
    start: _Points,
    heading: _Points,
    end: _Points,
    *,
    step_mm: float,
    rng: np.random.Generator,
    tortuosity: float = 0.05,
) -> _Points:
    """Centreline (n, 3) from *start*, leaving along the unit vector *heading*, to *end*, with random windings.

    A cubic Hermite curve plus three sine waves that vanish at both ends; the first wave has a standard deviation of
    *tortuosity* times the distance, the next ones a half and a third of that.
    """
    span = end - start
    distance = float(np.linalg.norm(span))
    t = np.linspace(0, 1, max(3, int(1.2 * distance / step_mm) + 1))[:, None]
    leaving, arriving = 0.8 * distance * heading, span
    path = start * (1 + 2 * t) * (1 - t) ** 2 + leaving * t * (1 - t) ** 2
    path = path + end * t**2 * (3 - 2 * t) + arriving * t**2 * (t - 1)
    waves = np.array([1, 2, 3])
    amplitudes = rng.normal(size=(3, 3)) * (tortuosity * distance / waves)[:, None]
    return np.asarray(path + np.sin(np.pi * t * waves) @ amplitudes)


def smooth_path(nodes: _Points, step_mm: float) -> _Points:
    """A cubic spline (n, 3) through a few nodes (at least 2, 3)."""
    along = path_lengths(nodes, 0.0)
    if len(nodes) < 3:  # two nodes: a straight line
        return np.linspace(nodes[0], nodes[-1], max(3, int(along[-1] / step_mm) + 1))
    at = np.linspace(0, along[-1], max(3, int(1.2 * along[-1] / step_mm) + 1))
    return np.asarray(scipy.interpolate.CubicSpline(along, nodes, axis=0, bc_type="natural")(at))


def path_lengths(points: _Points, start_mm: float) -> NDArray[np.float64]:
    """Way (n,) from the first point to each, added to *start_mm*."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return start_mm + np.concatenate([[0.0], np.cumsum(lengths)])


def _divide(fed: _Points, tangent: _Points, rng: np.random.Generator) -> list[tuple[_Points, _Points]]:
    """Part the perfused points across their longest extent; each share with the heading of the branch that feeds it."""
    _, _, axes = np.linalg.svd(fed - fed.mean(axis=0), full_matrices=False)
    across = axes[0] * (1 if axes[0] @ _ASKEW > 0 else -1)  # an axis has no sign: linear algebra libraries differ
    order = np.argsort(fed @ across)
    first = int(np.clip(round(len(fed) * rng.uniform(0.25, 0.75)), 1, len(fed) - 1))
    shares = [fed[order[:first]], fed[order[first:]]]
    sideways = across - (across @ tangent) * tangent
    sideways = _unit(sideways if np.linalg.norm(sideways) > 1e-6 else np.cross(tangent, rng.normal(size=3)))
    radii = [(len(share) / len(fed)) ** (1 / 3) for share in shares]
    headings = []
    for side, radius, sibling in ((-1, radii[0], radii[1]), (1, radii[1], radii[0])):
        angle = bifurcation_angles(1.0, radius, sibling)
        headings.append(np.cos(angle) * tangent + side * np.sin(angle) * sideways)
    return list(zip(shares, headings, strict=True))


def _unit(vector: ArrayLike) -> _Points:
    values = np.asarray(vector, dtype=float)
    return np.asarray(values / np.linalg.norm(values))
