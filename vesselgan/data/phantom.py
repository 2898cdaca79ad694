"""Synthetic TOF-MRA with exact vessel labels and brain masks, for when there are no patient data.

Arteries grow by Murray's law from a circle of Willis; slow flow in thin branches, scalp fat as bright as vessels,
uneven coils and Rician noise keep a plain threshold from finding them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.arteries import grow_arteries
from vesselgan.data.datasets import LoadedSubject
from vesselgan.data.head import FIELD_OF_VIEW_MM, draw_head, render_tissue, smooth_noise
from vesselgan.data.vessel_tree import Branch
from vesselgan.errors import InputError

__all__ = ["Phantom", "make_phantom", "phantom_subjects"]

_SMALLEST_SHAPE = (32, 32, 16)
_WHITE_MATTER = 110.0  # scanner units
_BRIGHTEST = 4095  # 12 bits
_NOISE = 0.12  # of white matter
_COIL_UNEVENNESS = 0.14
_INFLOW = 5.0  # vessel over tissue where blood is fresh, white matter being 1
_SATURATION_MM = 300.0  # way along which the blood's signal falls to 1/e
_SLAB_MM = 30.0  # acquired one after the other; within each, blood loses signal on the way up
_PAIRS_AT_ONCE = 2_000_000  # of centreline point and voxel: bounds memory


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic subject."""

    image: NDArray[np.float32]  # (X, Y, Z), whole numbers from 0 to 4095
    label: NDArray[np.bool_]  # (X, Y, Z), arteries inside and outside the brain
    brain_mask: NDArray[np.bool_]  # (X, Y, Z)
    affine: NDArray[np.float64]  # (4, 4), voxel index -> mm, RAS
    spacing_mm: tuple[float, float, float]
    branches: tuple[Branch, ...]  # ground truth of the tree, mm in the head's frame


def make_phantom(
    shape: Sequence[int], *, subject: int, seed: int, spacing_mm: Sequence[float] | None = None
) -> Phantom:
    """One synthetic subject, the same for the same shape, subject and seed.

    Args:
        shape: voxels per axis, at least 32 x 32 x 16. Each shape shows the whole slab of 156 x 192 x 89 mm; coarser
            grids get fewer and wider vessels.
        subject: from 0; each has a head, a circle of Willis, trees and noise of its own.
        seed: of the whole population.
        spacing_mm: what the affine says; by default the slab divided by the shape (0.5 x 0.5 x 0.7 at 312 x 384 x 127).

    Raises:
        InputError: a shape too small to hold a head.
    """
    if len(shape) != 3 or any(n < least for n, least in zip(shape, _SMALLEST_SHAPE, strict=True)):
        raise InputError(f"phantom shape {tuple(shape)}: needs at least {_SMALLEST_SHAPE} voxels; enlarge it")
    rng = np.random.default_rng([seed, subject, *shape])
    head = draw_head(rng)
    voxel_mm = np.array(FIELD_OF_VIEW_MM) / shape
    branches = grow_arteries(head, voxel_mm=float(voxel_mm.mean()), rng=rng)
    enhancement, label = _render_branches(branches, shape, voxel_mm)
    image, brain_mask = render_tissue(head, shape, rng)
    image += enhancement
    image *= 1 + np.float32(_COIL_UNEVENNESS) * smooth_noise(shape, 70, rng)
    _add_rician_noise(image, rng)

    spacing = tuple(float(mm) for mm in (voxel_mm if spacing_mm is None else spacing_mm))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2  # the origin is the middle of the volume
    return Phantom(image, label, brain_mask, affine, (spacing[0], spacing[1], spacing[2]), tuple(branches))


def phantom_subjects(
    count: int, shape: Sequence[int], seed: int, spacing_mm: Sequence[float] | None = None
) -> Iterator[LoadedSubject]:
    """Subjects "phantom-000", "phantom-001", ... one at a time, in the form in which files are loaded."""
    for subject in range(count):
        yield _as_loaded(subject, make_phantom(shape, subject=subject, seed=seed, spacing_mm=spacing_mm))


def _as_loaded(subject: int, made: Phantom) -> LoadedSubject:
    return LoadedSubject(
        f"phantom-{subject:03d}", made.image, made.label, made.brain_mask, made.affine, made.spacing_mm
    )


def _render_branches(
    branches: Sequence[Branch], shape: Sequence[int], voxel_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Signal of the blood over the tissue (X, Y, Z) and label (X, Y, Z)."""
    enhancement = np.zeros(np.prod(shape), dtype=np.float32)
    label = np.zeros(np.prod(shape), dtype=bool)
    edge_mm = float(np.cbrt(voxel_mm.prod()))
    origin_mm = np.array([-FIELD_OF_VIEW_MM[0] / 2, -FIELD_OF_VIEW_MM[1] / 2, 0])
    widest_mm = max(branch.radius_mm for branch in branches)
    for branch in branches:
        # Annotators mark voxels that blood fills in part, and thin vessels without gaps.
        label_radius_mm = max(branch.radius_mm + 0.3 * edge_mm, 0.7 * edge_mm)
        signal = _inflow_signal(branch, widest_mm)
        # A vessel thinner than a voxel cannot fill it.
        most = min(1.0, np.pi * branch.radius_mm**2 / edge_mm**2)
        centres = (branch.points_mm - origin_mm) / voxel_mm - 0.5  # voxels
        reach = np.ceil((label_radius_mm + 0.5 * edge_mm) / voxel_mm + 0.5).astype(int)
        offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
        at_once = max(1, _PAIRS_AT_ONCE // len(offsets))
        for start in range(0, len(centres), at_once):
            part = centres[start : start + at_once, None]
            voxels = np.rint(part).astype(np.intp) + offsets  # (points, offsets, 3)
            distance_mm = np.sqrt((((voxels - part) * voxel_mm) ** 2).sum(axis=-1))
            near = (distance_mm < label_radius_mm + 0.5 * edge_mm) & ((voxels >= 0) & (voxels < shape)).all(axis=-1)
            flat = np.ravel_multi_index(tuple(voxels[near].T), tuple(shape))
            covered = np.clip(0.5 + (branch.radius_mm - distance_mm) / edge_mm, 0, most)
            values = (covered * signal[start : start + at_once, None])[near].astype(np.float32)
            np.maximum.at(enhancement, flat, values)
            label[flat[distance_mm[near] <= label_radius_mm]] = True
    return enhancement.reshape(shape), label.reshape(shape)


def _inflow_signal(branch: Branch, widest_mm: float) -> NDArray[np.float64]:
    """Signal over tissue (n,): blood in narrow, distant vessels is slow and has seen many pulses."""
    speed = branch.radius_mm / (branch.radius_mm + 0.5 * widest_mm)
    in_slab = (branch.points_mm[:, 2] % _SLAB_MM) / _SLAB_MM
    return np.asarray(_INFLOW * speed * np.exp(-branch.distance_mm / _SATURATION_MM) * (1 - 0.2 * in_slab))


def _add_rician_noise(image: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Magnitude of signal plus complex noise, in whole scanner units, in place."""
    image += np.float32(_NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(_NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
    np.hypot(image, imaginary, out=image)
    image *= np.float32(_WHITE_MATTER)
    np.rint(image, out=image)
    np.clip(image, 0, _BRIGHTEST, out=image)
