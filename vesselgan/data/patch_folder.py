"""Somebody's patches: a folder of labelled (or unlabelled) 3-D arrays of one shape, read in batches.

What is an image and what is a label is told by the name, in this order:

- npz: arrays `image` and `label` (one patch), or `images` and `labels` (a stack); `subject` or `subjects` if known;
- BIDS, and folders and files whose names say so, see `patch_names`: anything else is an image.

No name is believed blindly: where half of the images hold two values only, they are labels.
Patches of one subject may lie in a folder of their own, whose name then is the subject.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.label_like import LabelLike
from vesselgan.data.patch_names import PatchFile, find_patches
from vesselgan.data.patch_reading import read_patches
from vesselgan.data.patches import apply_range, robust_range
from vesselgan.data.volumes import is_volume, volume_files
from vesselgan.errors import InputError

__all__ = ["PatchBatch", "PatchFolder", "open_patches", "patch_files"]

_RANGE_VOXELS = 2_000_000  # that the intensity range is taken from at most, evenly spread over the folder


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Some patches of a folder."""

    images: NDArray[np.float32]  # (B, X, Y, Z), in [-1, 1]
    labels: NDArray[np.bool_] | None  # (B, X, Y, Z)


@dataclass(frozen=True, eq=False)
class PatchFolder:
    """A folder whose files have all been read once and found good."""

    folder: Path
    count: int
    shape: tuple[int, int, int]  # of each patch
    has_labels: bool
    subjects: tuple[str, ...] | None  # of each patch, in order; None where the folder does not say
    intensity_range: tuple[float, float]  # what becomes -1 and 1
    files: tuple[PatchFile, ...]
    spacing_mm: tuple[float, float, float] | None = None  # of a voxel; None where not all files say the same
    further_channels: tuple[Path, ...] = ()  # that were passed over: NAME_0001 beside the patch NAME_0000
    nan: float | None = None  # what NaN in the images becomes; None: there is none

    def batches(self, size: int) -> Iterator[PatchBatch]:
        """All patches in the order of their files' names; little more than one batch is in memory at a time."""
        images: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.bool_]] = []
        for file in self.files:
            for content in read_patches(file, self.nan):
                for index, image in enumerate(content.images):
                    images.append(apply_range(image, *self.intensity_range))
                    if content.labels is not None:
                        labels.append(content.labels[index])
                    if len(images) == size:
                        yield PatchBatch(np.stack(images), np.stack(labels) if labels else None)
                        images, labels = [], []
        if images:
            yield PatchBatch(np.stack(images), np.stack(labels) if labels else None)


def patch_files(folder: Path, option: str) -> list[Path]:
    """The files of a folder of patches and their labels, found as `open_patches` finds them, unread but for headers.

    Raises InputError: no such folder, no patches, a label without image, a broken header whose voxels lie elsewhere.
    """
    files = find_patches(folder, option).files
    paths = {path for file in files for path in (file.image, file.label) if path}
    return sorted({part for path in paths for part in (volume_files(path) if is_volume(path) else (path,))})


def open_patches(
    folder: Path,
    option: str,
    *,
    nan: float | None = None,
    intensity_range: tuple[float, float] | None = None,
    labelled: bool = False,
) -> PatchFolder:
    """Read and check every file of `folder` once; `option` is how a person names the folder, for messages.

    NaN in an image becomes `nan`, where a background was cut out; None refuses it. Intensities are mapped to [-1, 1] by
    one range for the whole folder, so that their unit does not matter: by default its percentiles 0.5 and 99.9
    (`robust_range`). With `labelled`, labels are a must.

    Raises InputError, with one line per bad file: no patches; unreadable; not a number, NaN or infinite; not 3-D;
    several shapes; a label that is missing, without image, not binary, or on another grid than its image; images that
    look like labels.
    """
    named = find_patches(folder, option)
    problems: list[str] = []
    sample = _Sample()
    subjects: list[str] = []
    shapes: dict[tuple[int, ...], Path] = {}  # with the first file of each
    unlabelled: list[Path] = []
    spacings: set[tuple[float, float, float] | None] = set()
    count, with_label = 0, 0
    looks = LabelLike()
    for file in named.files:
        try:
            for content in read_patches(file, nan):
                count += len(content.images)
                with_label += 0 if content.labels is None else len(content.images)
                subjects += content.subjects or ()
                shapes.setdefault(content.images.shape[1:], file.image)
                spacings.add(content.spacing_mm and _rounded(content.spacing_mm))
                sample.add(content.images.reshape(-1))
                looks.add(file, content.images)
                if content.labels is None and file.image not in unlabelled:
                    unlabelled.append(file.image)
        except InputError as error:
            problems.append(str(error))
    (shape, first), *others = shapes.items() or [((), folder)]
    problems += [
        f"{path}: patches of {other}, but {first} has {shape}; cut all patches of a folder alike, or score them apart"
        for other, path in others
    ]
    if unlabelled and (labelled or with_label):
        more = f" (nor have {len(unlabelled) - 1} more)" if len(unlabelled) > 1 else ""
        problems.append(f"{unlabelled[0]}: has no label{more}; add it, or take the labels of all others away")
    if problems:
        raise InputError("\n".join(problems))
    looks.check(folder)
    low, high = intensity_range or robust_range(sample.values())
    if high <= low:
        raise InputError(f"{folder}: every voxel of every image is {low:g}; export the images again")
    known = tuple(subjects) if len(subjects) == count else None
    x, y, z = shape
    spacing = next(iter(spacings)) if len(spacings) == 1 else None
    return PatchFolder(
        folder,
        count,
        (x, y, z),
        not unlabelled,
        known,
        (low, high),
        named.files,
        spacing,
        named.further_channels,
        nan,
    )


def _rounded(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """Without the last digits of single precision, in which headers keep it."""
    x, y, z = (round(mm, 4) for mm in spacing_mm)
    return x, y, z


class _Sample:
    """Evenly spread values of a stream whose length is not known: every n-th, where n doubles as the stream goes on."""

    def __init__(self) -> None:
        self._step = 1
        self._kept: list[NDArray[np.float32]] = []

    def add(self, values: NDArray[np.float32]) -> None:
        self._kept.append(values[:: self._step].copy())
        if sum(map(len, self._kept)) > _RANGE_VOXELS:
            self._kept = [self.values()[::2].copy()]
            self._step *= 2

    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self._kept)
