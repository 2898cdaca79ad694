"""Synthetic TOF-MRA with exact vessel labels and brain masks, for when there are no patient data.

Arteries grow by Murray's law from a circle of Willis. Partial volume, slow or saturated blood, veins, bright tissue,
uneven coils, slabs, ghosts and noise keep a threshold and a vesselness filter from finding them. PHANTOM.md, beside
this file, says how hard it is and how its anatomy compares with published values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.arteries import calibre_widening, grow_arteries
from vesselgan.data.bright_tissue import add_bright_tissue
from vesselgan.data.datasets import LoadedSubject
from vesselgan.data.head import FIELD_OF_VIEW_MM, draw_head, render_tissue
from vesselgan.data.inflow import blood_signals, draw_speeds
from vesselgan.data.partial_volume import fill_voxels
from vesselgan.data.scanner import add_ghosts, add_rician_noise, coil_field, slab_gains
from vesselgan.data.veins import draw_veins, vein_signals
from vesselgan.data.vessel_tree import Branch
from vesselgan.errors import InputError

__all__ = ["Phantom", "make_phantom", "phantom_subjects"]

_SMALLEST_SHAPE = (32, 32, 16)
_LEAST_BLOOD = 0.15  # of a voxel that annotators mark: about where its edge is seen, and thin vessels stay in one piece


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic subject."""

    image: NDArray[np.float32]  # (X, Y, Z), whole numbers from 0 to 4095
    label: NDArray[np.bool_]  # (X, Y, Z), arteries inside and outside the brain, where they fill 15 % of a voxel
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
    mean_mm = float(voxel_mm.mean())
    branches = grow_arteries(head, voxel_mm=mean_mm, rng=rng)
    image, brain_mask = render_tissue(head, shape, rng)
    add_bright_tissue(image, head, rng)
    veins = draw_veins(head, step_mm=0.4 * mean_mm, widening=calibre_widening(mean_mm), rng=rng)
    _add_blood(image, *fill_voxels(veins, vein_signals(veins, rng), shape))
    first_slab_mm = float(rng.uniform(5, 25))
    signals = blood_signals(branches, draw_speeds(branches, rng), first_slab_mm)
    voxels, share, signal = fill_voxels(branches, signals, shape)
    _add_blood(image, voxels, share, signal)
    label = np.zeros(shape, dtype=bool)
    label.ravel()[voxels[share >= _LEAST_BLOOD]] = True
    add_ghosts(image, voxels, share * signal, rng)
    image *= coil_field(head, shape, rng)
    image *= slab_gains(shape[2], first_slab_mm, rng)
    add_rician_noise(image, rng)

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


def _add_blood(
    image: NDArray[np.float32], voxels: NDArray[np.intp], share: NDArray[np.float32], signal: NDArray[np.float32]
) -> None:
    """Replace a share of each of some voxels, in place: what is not blood remains tissue."""
    flat = image.reshape(-1)
    flat[voxels] += share * (signal - flat[voxels])
