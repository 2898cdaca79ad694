"""The volumes of one subject, read and checked, on one grid."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.layouts import Subject
from vesselgan.data.placement import placement_of
from vesselgan.data.resampling import resample, resample_mask, resampled_grid
from vesselgan.data.tubes import rasterise_tubes, read_tubes
from vesselgan.data.volumes import Volume, check_same_grid, load_mask, load_volume, spacing_of
from vesselgan.errors import InputError

__all__ = ["LoadedSubject", "examine_subject", "load_subject"]


@dataclass(frozen=True, eq=False)
class LoadedSubject:
    """The volumes of one subject, on one grid in canonical (RAS) orientation."""

    key: str
    image: NDArray[np.float32]  # (X, Y, Z)
    label: NDArray[np.bool_]  # (X, Y, Z), vessels
    mask: NDArray[np.bool_] | None  # (X, Y, Z), brain
    affine: NDArray[np.float64]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]
    placement: bytes | None = None  # `placement_of` the image; None where its voxels are no file's


def load_subject(
    subject: Subject,
    *,
    vessels: Collection[int] | None = None,
    background: Collection[int] = (0,),
    spacing_mm: Sequence[float] | None = None,
    nan: float | None = None,
) -> LoadedSubject:
    """Read and check the files of one subject.

    Args:
        subject: the files; a label in .tre is drawn into the image's grid.
        vessels, background: the values of a label map, see `load_mask`; None for a binary label.
        spacing_mm: resample to this voxel size (see `vesselgan.data.resampling`); None leaves the voxels alone.
        nan: what NaN voxels of the image become; None refuses them.

    Raises:
        InputError: a line for each file that is bad: as `load_volume` and `load_mask`; a constant image; a label or
            mask on another grid than the image; tubes that lie elsewhere.
    """
    loaded, problems = examine_subject(subject, vessels=vessels, background=background, nan=nan)
    if loaded is None:
        raise InputError("\n".join(problems))
    return loaded if spacing_mm is None else _resampled(subject, loaded, spacing_mm)


def examine_subject(
    subject: Subject,
    *,
    vessels: Collection[int] | None = None,
    background: Collection[int] = (0,),
    nan: float | None = None,
) -> tuple[LoadedSubject | None, list[str]]:
    """As `load_subject`, but with the problems as lines in place of an error."""
    problems: list[str] = []

    def attempt(read: Callable[[], Volume]) -> Volume | None:
        try:
            return read()
        except InputError as error:
            problems.extend(str(error).splitlines())
            return None

    image = attempt(lambda: _image(subject.image, nan))
    label = attempt(lambda: _label(subject.label, image, vessels, background))
    mask = attempt(lambda: load_mask(brain)) if (brain := subject.mask) else None
    if image is not None:
        for path, other in ((subject.label, label), (subject.mask, mask)):
            if path is not None and other is not None:
                problems.extend(_grid_problem(path, other, subject.image, image))
    if problems or image is None or label is None:
        return None, problems
    brain_voxels = None if mask is None else mask.data
    loaded = LoadedSubject(subject.key, image.data, label.data, brain_voxels, image.affine, image.spacing_mm)
    if image.stored_affine is not None:
        loaded = replace(loaded, placement=placement_of(subject.image, image.stored_affine))
    return loaded, problems


def _image(path: Path, nan: float | None) -> Volume:
    image = load_volume(path, nan=nan)
    if image.data.min() == image.data.max():
        raise InputError(f"{path}: constant image (every voxel is {image.data.flat[0]:g}); export it again")
    return image


def _label(path: Path, image: Volume | None, vessels: Collection[int] | None, background: Collection[int]) -> Volume:
    if path.suffix != ".tre":
        return load_mask(path, vessels=vessels, background=background)
    tubes = read_tubes(path)
    if image is None:  # nothing to draw them into; the image's own problem is told
        return Volume(np.zeros((1, 1, 1), dtype=bool), np.eye(4), (1.0, 1.0, 1.0))
    mask, share = rasterise_tubes(tubes, image.data.shape, image.affine)
    if share < 0.5:
        raise InputError(
            f"{path}: only {share:.0%} of the tubes' points lie in the image; its offset and spacing are others"
        )
    return Volume(mask, image.affine, image.spacing_mm)


def _grid_problem(path: Path, volume: Volume, image_path: Path, image: Volume) -> Iterator[str]:
    try:
        check_same_grid(path, volume.data.shape, volume.affine, image_path, image.data.shape, image.affine)
    except InputError as error:
        yield str(error)


def _resampled(subject: Subject, loaded: LoadedSubject, spacing_mm: Sequence[float]) -> LoadedSubject:
    _, affine = resampled_grid(loaded.image.shape, loaded.affine, spacing_mm)
    label = resample_mask(loaded.label, loaded.spacing_mm, spacing_mm)
    if not label.any():
        raise InputError(f"{subject.label}: no vessel is left at {tuple(spacing_mm)} mm; choose a smaller --spacing")
    return replace(
        loaded,
        image=resample(loaded.image, loaded.spacing_mm, spacing_mm),
        label=label,
        mask=None if loaded.mask is None else resample_mask(loaded.mask, loaded.spacing_mm, spacing_mm),
        affine=affine,
        spacing_mm=spacing_of(affine),
        placement=None,
    )
