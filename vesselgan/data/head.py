"""A head without its arteries: brain, ventricles, cisterns, skull, fat and skin, and where each lies in space.

Lengths are mm in the head's frame: x to the right, y to the front, both 0 in the middle, z up from the lowest slice. A
grid of any size shows the same slab, which is the field of view of the paper's volumes at 0.5 x 0.5 x 0.7 mm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIELD_OF_VIEW_MM", "Head", "blend_ellipsoid", "draw_head", "render_tissue", "smooth_noise"]

FIELD_OF_VIEW_MM = (156.0, 192.0, 89.0)

_Array = NDArray[Any]  # float32 on grids, float64 for points
_Field = NDArray[np.float32]  # (X, Y, Z)

# Depth (0 the brain's centre, 1 its surface) -> brightness, white matter being 1, and share of it that is texture.
_LAYERS = (
    # depth, brightness, texture
    (0.00, 1.00, 0.05),
    (0.97, 1.00, 0.05),
    (1.00, 0.45, 0.10),  # fluid
    (1.03, 0.45, 0.10),
    (1.05, 0.30, 0.25),  # bone
    (1.10, 0.35, 0.30),
    (1.13, 1.60, 0.08),  # fat
    (1.19, 1.60, 0.08),
    (1.21, 1.20, 0.16),  # skin
    (1.23, 0.04, 0.00),  # air
    (1.60, 0.04, 0.00),
)
# The cortex is folded: |a smooth random field| is 0 along the sulci. Depth -> where fluid ends, where grey matter ends.
_FOLDS = (
    # depth, fluid, grey matter
    (0.60, -0.30, -0.30),
    (0.78, -0.10, 0.35),
    (0.90, 0.08, 0.75),
    (0.97, 0.20, 1.40),
    (1.00, 0.30, 2.00),
)
_FOLD_MM = 9.0  # from sulcus to sulcus, about
_GREY_BRIGHTNESS = 0.84
# Under the brain the same field tells what there is: sinuses full of air, bone, muscle, marrow full of fat.
_BASE_FOLDS, _BASE_BRIGHTNESS = (
    (-4.0, -1.3, -1.0, -0.4, 0.7, 1.1, 1.5, 4.0),
    (0.05, 0.05, 0.4, 0.75, 0.85, 1.2, 1.6, 1.6),
)
_BASE_ROUGHNESS_MM = 2.0  # standard deviation of the skull base's height
_SKULL_DEPTH = 1.10
_SCALP_DEPTH = 1.165
_MASK_DEPTH = 1.02
_WARP = 0.012  # depth: no head is an ellipsoid
_DEPTH_STEP = 1.6 / 512
_DEPTHS = 512  # the code of what lies under the brain is the next
_FOLD_STEP = 1 / 8  # of the table's second axis, in standard deviations
_FOLDS_EACH_WAY = 32
_FLUID_BRIGHTNESS = 0.42
_NODE_SHARE_OF_VARIANCE = 0.55  # mean of the sum of the squared quadratic B-spline weights, per axis


@dataclass(frozen=True)
class Head:
    """Shape of one subject's head."""

    semi_axes_mm: tuple[float, float, float]  # of the brain
    centre_z_mm: float
    yaw: float  # radians

    def place(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn a point (3,) of the upright head into this head's position."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = point
        return np.array([cos * x - sin * y, sin * x + cos * y, z])

    def depth(self, x: _Array, y: _Array, z: _Array) -> _Array:
        """0 at the brain's centre, 1 at its surface; arrays broadcast."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        a, b, c = self.semi_axes_mm
        # x and y first: on a grid they meet in two dimensions, which is cheap, before z makes it three.
        flat = ((cos * x + sin * y) / a) ** 2 + ((cos * y - sin * x) / b) ** 2
        return np.asarray(np.sqrt(flat + ((z - self.centre_z_mm) / c) ** 2))

    def base_mm(self, y: _Array) -> _Array:
        """Height of the skull base: the front of the brain ends higher than the cerebellum."""
        return np.asarray(26 / (1 + np.exp(-(y - 10) / 8)) - 8)

    def petrous_mm(self, x: _Array, y: _Array) -> _Array:
        """Height of the ridges of the temporal bones above the rest of the base."""
        along = y + 18 + 0.5 * (np.abs(x) - 40)  # across the ridge, which runs forward and inward
        return np.asarray(9 * np.exp(-((along / 9) ** 2)) / (1 + np.exp(-(np.abs(x) - 28) / 4)))

    def coil_profile(self, shape: Sequence[int], rise: float) -> _Array:
        """Sensitivity (X, Y, Z) of the coils around the head: 1 - rise at its centre, 1 at the brain's surface."""
        x, y, z = _grid(shape)
        a, b, c = self.semi_axes_mm
        flat = 1 - rise + rise * ((x / a) ** 2 + (y / b) ** 2)
        return np.asarray(flat + rise * ((z - self.centre_z_mm) / c) ** 2, dtype=np.float32)

    def onto_scalp(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move points (..., 3) away from the head's centre into the fat under the skin."""
        return self.onto_depth(points, _SCALP_DEPTH)

    def onto_depth(self, points: NDArray[np.float64], depth: float) -> NDArray[np.float64]:
        """Move points (..., 3) to and from the head's centre to one depth."""
        return self._rescale(points, np.full(points.shape[:-1], depth))

    def into_brain(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move points (..., 3) that left the brain back to just below its surface."""
        return self._rescale(points, np.minimum(self.depth(*np.moveaxis(points, -1, 0)), 0.97))

    def sample_brain(self, count: int, depths: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
        """Points (n, 3), n <= count, evenly spread over the part of the brain between two depths."""
        x, y, z = points = self._sample_box(count, rng)
        depth = self.depth(x, y, z)
        inside = (depth > depths[0]) & (depth < depths[1]) & (z > self.base_mm(y) + 3)
        return np.ascontiguousarray(points.T[inside])

    def sample_scalp(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Points (n, 3), n <= count, in the upper scalp, up to which its arteries run."""
        points = self.onto_scalp(self._sample_box(count, rng).T)
        return points[(points[:, 2] > 45) & (points[:, 2] < FIELD_OF_VIEW_MM[2])]

    def _rescale(self, points: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
        centre = np.array([0, 0, self.centre_z_mm])
        now = self.depth(*np.moveaxis(points, -1, 0))
        return np.asarray(centre + (points - centre) * (depth / np.maximum(now, 1e-6))[..., None])

    def _sample_box(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        half_x, half_y = FIELD_OF_VIEW_MM[0] / 2, FIELD_OF_VIEW_MM[1] / 2
        return rng.uniform((-half_x, -half_y, 2), (half_x, half_y, FIELD_OF_VIEW_MM[2] - 2), size=(count, 3)).T


def draw_head(rng: np.random.Generator) -> Head:
    """A head of random size and pose that fits into the field of view."""
    a, b, c = np.array([60.5, 75.5, 62.0]) * rng.uniform(0.95, 1.0, size=3)
    return Head((float(a), float(b), float(c)), float(38 + rng.uniform(-2, 2)), float(rng.normal(scale=0.04)))


def render_tissue(head: Head, shape: Sequence[int], rng: np.random.Generator) -> tuple[_Field, NDArray[np.bool_]]:
    """Brightness (X, Y, Z), white matter being 1, before coil sensitivity and noise; and the brain mask (X, Y, Z)."""
    x, y, z = _grid(shape)
    warp = smooth_noise(shape, 25, rng)
    below = z + np.float32(_BASE_ROUGHNESS_MM) * warp < head.base_mm(y) + head.petrous_mm(x, y)
    warp *= np.float32(_WARP)
    depth = head.depth(x, y, z)
    depth += warp
    mask = (depth < _MASK_DEPTH) & ~below

    code = (depth * np.float32(1 / _DEPTH_STEP)).astype(np.int16)
    np.minimum(code, _DEPTHS - 1, out=code)
    code[below & (depth < _SKULL_DEPTH)] = _DEPTHS
    del depth, below
    fold = smooth_noise(shape, _FOLD_MM, rng)
    fold *= np.float32(1 / _FOLD_STEP)
    fold += np.float32(_FOLDS_EACH_WAY + 0.5)
    np.clip(fold, 0, 2 * _FOLDS_EACH_WAY, out=fold)
    index = code.astype(np.int32)
    index *= 2 * _FOLDS_EACH_WAY + 1
    index += fold.astype(np.int32)
    del fold, code
    brightness, texture = _layer_tables()
    tissue = smooth_noise(shape, 3.5, rng)
    tissue *= texture.take(index)
    tissue += brightness.take(index)
    del index

    for centre, radii in (
        ((10, 6, 64), (6, 26, 8)),  # ventricles
        ((-10, 6, 64), (6, 26, 8)),
        ((13, -28, 52), (6, 14, 12)),
        ((-13, -28, 52), (6, 14, 12)),
        ((0, -2, 48), (2.5, 10, 9)),
        ((0, 5, 28), (11, 13, 5)),  # cistern around the circle of Willis
        ((33, 6, 33), (12, 8, 4)),  # Sylvian fissures
        ((-33, 6, 33), (12, 8, 4)),
    ):
        where = head.place(np.array(centre) + rng.normal(scale=1.0, size=3))
        blend_ellipsoid(tissue, where, np.array(radii), _FLUID_BRIGHTNESS)
    return np.maximum(tissue, np.float32(0.02), out=tissue), mask


def smooth_noise(shape: Sequence[int], size_mm: float, rng: np.random.Generator) -> _Field:
    """Random field (X, Y, Z) of mean 0 and standard deviation 1, with features of about *size_mm*.

    A quadratic B-spline through normally distributed nodes, which are never closer than 1.5 voxels.
    """
    spans = [max(size_mm * n / fov, 1.5) for n, fov in zip(shape, FIELD_OF_VIEW_MM, strict=True)]  # voxels per node
    field: _Field = rng.standard_normal(
        [int(n / span) + 3 for n, span in zip(shape, spans, strict=True)], dtype=np.float32
    )
    field *= np.float32(_NODE_SHARE_OF_VARIANCE**-1.5)
    for axis in (2, 1, 0):  # the full-size step last, along the axis where it copies whole planes
        at = np.arange(shape[axis]) / spans[axis]
        node, t = at.astype(np.intp), (at % 1).astype(np.float32)
        broadcast = [-1 if other == axis else 1 for other in range(3)]
        weights = [w.reshape(broadcast) for w in ((1 - t) ** 2 / 2, 0.5 + t * (1 - t), t**2 / 2)]
        fine: _Field = np.multiply(field.take(node, axis), weights[0], dtype=np.float32)
        fine += field.take(node + 1, axis) * weights[1]
        fine += field.take(node + 2, axis) * weights[2]
        field = fine
    return field


def _layer_tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Brightness and texture of each pair of depth and fold, flat; the last depth means under the brain."""
    depths, brightness, texture = np.array(_LAYERS).T
    at = np.arange(_DEPTHS) * _DEPTH_STEP
    fold = (np.arange(2 * _FOLDS_EACH_WAY + 1) - _FOLDS_EACH_WAY) * _FOLD_STEP
    fold_depths, fluid_ends, grey_ends = np.array(_FOLDS).T
    level = np.interp(at, depths, brightness)[:, None]
    grey = _share_below(np.abs(fold), np.interp(at, fold_depths, grey_ends))
    fluid = _share_below(np.abs(fold), np.interp(at, fold_depths, fluid_ends))
    folded = 1 + grey * (_GREY_BRIGHTNESS - 1)
    folded += fluid * (_FLUID_BRIGHTNESS - folded)
    level = np.where(at[:, None] < 1, np.minimum(level, folded), level)
    level = np.append(level, np.interp(fold, _BASE_FOLDS, _BASE_BRIGHTNESS)[None], axis=0)
    share = np.append(np.interp(at, depths, texture), 0.15)[:, None]
    return level.astype(np.float32).ravel(), (level * share).astype(np.float32).ravel()


def _share_below(values: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """How surely each value (m,) lies below each end (n,): (n, m), from 0 to 1 over an eighth on both sides."""
    return np.clip(0.5 + (ends[:, None] - values) / 0.25, 0, 1)


def blend_ellipsoid(
    tissue: _Field, centre: NDArray[np.float64], radii_mm: NDArray[np.float64], brightness: float
) -> None:
    """Blend a soft-edged ellipsoid of one brightness into the tissue (X, Y, Z), in place."""
    grid = _grid(tissue.shape)
    near = [
        np.flatnonzero(np.abs(axis.ravel() - c) < 1.3 * r) for axis, c, r in zip(grid, centre, radii_mm, strict=True)
    ]
    if any(not len(indices) for indices in near):
        return
    box = tuple(slice(indices[0], indices[-1] + 1) for indices in near)
    squares = [
        ((axis.ravel()[part] - c) / r) ** 2 for axis, part, c, r in zip(grid, box, centre, radii_mm, strict=True)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    share = np.clip((1.15 - distance) / 0.3, 0, 1).astype(np.float32)
    tissue[box] += share * (np.float32(brightness) - tissue[box])


def _grid(shape: Sequence[int]) -> tuple[_Field, ...]:
    """Voxel centres in mm: x (X, 1, 1), y (1, Y, 1), z (1, 1, Z)."""
    axes = [(np.arange(n) + 0.5) * fov / n for n, fov in zip(shape, FIELD_OF_VIEW_MM, strict=True)]
    axes[0] -= FIELD_OF_VIEW_MM[0] / 2
    axes[1] -= FIELD_OF_VIEW_MM[1] / 2
    x, y, z = (axis.astype(np.float32) for axis in axes)
    return x[:, None, None], y[None, :, None], z[None, None, :]
