"""Variations of training patches: mirrored, slightly turned, of other contrast. Pure functions of arrays and a seed.

Nothing depends on the unit of intensities: what is added or scaled is a share of the patch's own range, so that real
and synthetic patches, on whatever scale, are varied alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Augmentation", "augment", "change_intensity", "mirror", "turn"]

T = TypeVar("T", bound=np.generic)
Axis = Literal["x", "y", "z"]

_AXES: tuple[Axis, ...] = ("x", "y", "z")
_STREAM = 0xA06  # keeps these draws apart from those of the samplers, which start from the same seed


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far patches are varied; zero (or no axis) switches a variation off.

    Each of the axes in ``flips`` is mirrored in half of the patches. A ``share`` of the patches is turned, and,
    independently, a ``share`` gets other intensities; every amount is uniform between the limits.
    """

    flips: tuple[Axis, ...] = _AXES
    rotation: float = 10.0  # degrees, to either side, in one of the three planes of the voxel grid
    gamma: float = 1.3  # exponents from 1/gamma to gamma, evenly in their logarithm; 1 is off
    contrast: float = 0.15  # factor 1 +- contrast about the patch's mean
    brightness: float = 0.1  # +- this share of the patch's range
    noise: float = 0.03  # standard deviation of Gaussian noise up to this share of the patch's range
    share: float = 0.3

    def __post_init__(self) -> None:
        if unknown := set(self.flips) - set(_AXES):
            raise ValueError(f"flips names {sorted(unknown)}: the axes are x, y and z")
        if not 0 <= self.rotation <= 45:
            raise ValueError(f"rotation {self.rotation}: must be from 0 to 45 degrees")
        if self.gamma < 1 or not 0 <= self.contrast < 1 or min(self.brightness, self.noise) < 0:
            raise ValueError("gamma must be at least 1, contrast from 0 to below 1, brightness and noise not negative")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share}: must be from 0 to 1")


def augment(
    images: NDArray[np.float32], labels: NDArray[T], settings: Augmentation, *, seed: int, step: int
) -> tuple[NDArray[np.float32], NDArray[T]]:
    """Images and labels (B, X, Y, Z) of a training step, varied; labels keep their values (and so stay binary).

    The outcome depends on the arguments alone: a resumed training sees what it would have seen. The given arrays are
    left as they are.
    """
    rng = np.random.default_rng([seed, step, _STREAM])
    # Everything is drawn for every patch, so that switching one variation off leaves the others as they were.
    flipped = (rng.random((len(images), 3)) < 0.5) & [axis in settings.flips for axis in _AXES]
    turned, changed = rng.random((2, len(images))) < settings.share
    planes = rng.integers(3, size=len(images))
    degrees, gamma, contrast, brightness = rng.uniform(-1, 1, (4, len(images)))
    noise = rng.uniform(0, settings.noise, len(images))

    new_images, new_labels = np.empty(images.shape, images.dtype), np.empty(labels.shape, labels.dtype)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        if turned[index] and settings.rotation:
            image, label = turn(image, label, planes[index], degrees[index] * settings.rotation)
        if changed[index]:
            image = change_intensity(
                image,
                gamma=settings.gamma ** gamma[index],
                contrast=1 + settings.contrast * contrast[index],
                brightness=settings.brightness * brightness[index],
                noise=noise[index] * rng.standard_normal(image.shape, np.float32) if settings.noise else None,
            )
        new_images[index], new_labels[index] = mirror(image, flipped[index]), mirror(label, flipped[index])
    return new_images, new_labels


def mirror(patch: NDArray[T], along: Sequence[bool] | NDArray[np.bool_]) -> NDArray[T]:
    """The patch (X, Y, Z) mirrored along each axis that says so; a view."""
    return patch[tuple(slice(None, None, -1 if mirrored else 1) for mirrored in along)]


def turn(
    image: NDArray[np.float32], label: NDArray[T], plane: int, degrees: float
) -> tuple[NDArray[np.float32], NDArray[T]]:
    """Image and label (X, Y, Z) turned about the patch's middle in the plane across axis *plane* of the voxel grid.

    Image linearly interpolated; label from the nearest voxel, which keeps its values and, on average, its volume. What
    comes from outside is mirrored at the border.
    """
    rows, columns = (image.shape[axis] for axis in range(3) if axis != plane)
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    row = (np.arange(rows) - (rows - 1) / 2)[:, None]
    column = (np.arange(columns) - (columns - 1) / 2)[None, :]
    from_row = _inside(cosine * row + sine * column + (rows - 1) / 2, rows).ravel()
    from_column = _inside(cosine * column - sine * row + (columns - 1) / 2, columns).ravel()

    low_row, low_column = from_row.astype(np.intp), from_column.astype(np.intp)
    to_row, to_column = (low_row < rows - 1) * columns, (low_column < columns - 1).astype(np.intp)
    part_row, part_column = ((from_row - low_row).astype(np.float32), (from_column - low_column).astype(np.float32))
    at = low_row * columns + low_column
    lines = np.moveaxis(image, plane, 2).reshape(rows * columns, -1)
    turned = np.zeros(lines.shape, np.float32)
    for source, weight in (
        (at, (1 - part_row) * (1 - part_column)),
        (at + to_column, (1 - part_row) * part_column),
        (at + to_row, part_row * (1 - part_column)),
        (at + to_row + to_column, part_row * part_column),
    ):
        part = lines.take(source, axis=0)
        part *= weight[:, None]
        turned += part
    nearest = np.rint(from_row).astype(np.intp) * columns + np.rint(from_column).astype(np.intp)
    label_lines = np.moveaxis(label, plane, 2).reshape(rows * columns, -1).take(nearest, axis=0)
    shape = (rows, columns, image.shape[plane])
    return np.moveaxis(turned.reshape(shape), 2, plane), np.moveaxis(label_lines.reshape(shape), 2, plane)


def change_intensity(
    image: NDArray[np.float32],
    *,
    gamma: float = 1.0,
    contrast: float = 1.0,
    brightness: float = 0.0,
    noise: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The patch with other intensities; *brightness* and *noise* are shares of its range, which gamma maps to itself.

    A constant patch stays as it is.
    """
    low, high = image.min(), image.max()
    if low == high:
        return image
    unit: NDArray[np.float32] = (image - low) / (high - low)
    if gamma != 1:
        np.power(unit, np.float32(gamma), out=unit)
    if contrast != 1:
        mean = unit.mean()
        unit -= mean
        unit *= np.float32(contrast)
        unit += mean
    if noise is not None:
        unit += noise
    unit += np.float32(brightness)
    unit *= high - low
    unit += low
    return unit


def _inside(position: NDArray[np.float64], size: int) -> NDArray[Any]:
    """Positions mirrored at the first and the last voxel."""
    last = size - 1
    mirrored: NDArray[np.float64] = np.abs(last - np.abs(last - np.abs(position)))
    return mirrored
