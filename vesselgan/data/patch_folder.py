"""Somebody's patches: a folder of labelled (or unlabelled) 3-D arrays of one shape, read in batches.

What is an image and what is a label is told by the name, in this order:

- npz: arrays `image` and `label` (one patch), or `images` and `labels` (a stack); `subject` or `subjects` if known;
- folders `imagesTr` and `labelsTr`, or `images` and `labels`: files of equal names, images with or without `_0000`;
- in one folder `NAME_image` and `NAME_label` (or `images` and `labels` alone, for stacks): anything else is an image.

Patches of one subject may lie in a folder of their own, whose name then is the subject.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.folders import (
    array_files,
    checked_images,
    checked_labels,
    folders_within,
    is_nifti,
    read_arrays,
)
from vesselgan.data.patches import apply_range, robust_range
from vesselgan.data.volumes import check_same_grid, load_mask, load_volume
from vesselgan.errors import InputError

__all__ = ["PatchBatch", "PatchFolder", "open_patches", "patch_files"]

_PAIRED_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
_RANGE_VOXELS = 2_000_000  # that the intensity range is taken from at most, evenly spread over the folder
_BLOCK = 16  # patches of a stack that are looked at together
_EXPECTED = "NAME.npz with image and label, NAME_image.nii.gz with NAME_label.nii.gz, or imagesTr/ with labelsTr/"


@dataclass(frozen=True)
class _File:
    """An image file, its label file (None: inside the same npz, or nowhere), and its subject if known."""

    image: Path
    label: Path | None
    subject: str | None


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
    files: tuple[_File, ...]

    def batches(self, size: int) -> Iterator[PatchBatch]:
        """All patches in the order of their files' names; little more than one batch is in memory at a time."""
        images: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.bool_]] = []
        for file in self.files:
            for content in _read(file):
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
    """The files of a folder of patches and their labels, found as `open_patches` finds them, unread.

    Raises InputError: no such folder, no patches, a label without image.
    """
    files = _find(folder, option)
    return sorted({path for file in files for path in (file.image, file.label) if path})


def open_patches(
    folder: Path, option: str, *, intensity_range: tuple[float, float] | None = None, labelled: bool = False
) -> PatchFolder:
    """Read and check every file of `folder` once; `option` is how a person names the folder, for messages.

    Intensities are mapped to [-1, 1] by one range for the whole folder, so that their unit does not matter: by default
    its percentiles 0.5 and 99.9 (`robust_range`). With `labelled`, labels are a must.

    Raises InputError, with one line per bad file: no patches; unreadable; not a number, NaN or infinite; not 3-D;
    several shapes; a label that is missing, without image, not binary, or on another grid than its image.
    """
    files = _find(folder, option)
    problems: list[str] = []
    sample = _Sample()
    subjects: list[str] = []
    shapes: dict[tuple[int, ...], Path] = {}  # with the first file of each
    unlabelled: list[Path] = []
    count, with_label = 0, 0
    for file in files:
        try:
            for content in _read(file):
                count += len(content.images)
                with_label += 0 if content.labels is None else len(content.images)
                subjects += content.subjects or ()
                shapes.setdefault(content.images.shape[1:], file.image)
                sample.add(content.images.reshape(-1))
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
    low, high = intensity_range or robust_range(sample.values())
    if high <= low:
        raise InputError(f"{folder}: every voxel of every image is {low:g}; export the images again")
    known = tuple(subjects) if len(subjects) == count else None
    x, y, z = shape
    return PatchFolder(folder, count, (x, y, z), not unlabelled, known, (low, high), tuple(files))


@dataclass(frozen=True, eq=False)
class _Content:
    """Some patches of one file, as stored."""

    images: NDArray[np.float32]  # (n, X, Y, Z)
    labels: NDArray[np.bool_] | None
    subjects: tuple[str, ...] | None


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


def _find(folder: Path, option: str) -> list[_File]:
    files = _paired(folder, option, subject=None)
    for inside in folders_within(folder):
        if inside.name not in {name for pair in _PAIRED_FOLDERS for name in pair}:
            files += _paired(inside, option, subject=inside.name)
    if not files:
        raise InputError(f"{folder}: no patches; {option} wants {_EXPECTED}")
    return files


def _paired(folder: Path, option: str, *, subject: str | None) -> list[_File]:
    """The files of one folder, or of the two that hold its images and labels, by name."""
    found = array_files(folder, option)
    images = {name: path for name, path in found.items() if not _is(name, "label")}
    labels = {name: path for name, path in found.items() if _is(name, "label")}
    for image_folder, label_folder in _PAIRED_FOLDERS:
        if (folder / image_folder).is_dir():
            images |= array_files(folder / image_folder, option)
            if (folder / label_folder).is_dir():
                labels |= array_files(folder / label_folder, option)
    by_name = {_stem(name): path for name, path in labels.items()}
    files = []
    for name, path in sorted(images.items()):
        label = by_name.pop(_stem(name), None)
        if label is not None and is_nifti(label) != is_nifti(path):
            raise InputError(f"{label}: another kind of file than its image {path.name}; store both alike")
        files.append(_File(path, label, subject))
    if by_name:
        name, path = sorted(by_name.items())[0]
        raise InputError(f"{path}: a label without image {name or 'images'!r}; add the image or remove the label")
    return files


def _is(name: str, role: str) -> bool:
    return name in (role, f"{role}s") or name.endswith((f"_{role}", f"_{role}s"))


def _stem(name: str) -> str:
    """What an image's name and its label's have in common."""
    for ending in ("_0000", "_images", "_image", "_labels", "_label"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return "" if name in ("image", "images", "label", "labels") else name


def _read(file: _File) -> Iterator[_Content]:
    """A file's patches in blocks that fit in memory. Raises InputError for whatever is wrong with them."""
    subjects = None if file.subject is None else (file.subject,)
    if is_nifti(file.image):
        volume = load_volume(file.image)
        labels = None
        if file.label:
            mask = load_mask(file.label, allow_uniform=True)
            check_same_grid(file.label, mask.data.shape, mask.affine, file.image, volume.data.shape, volume.affine)
            labels = mask.data[None]
        yield _Content(volume.data[None], labels, subjects)
        return
    images, label_array, names = _arrays(file)
    for start in range(0, len(images), _BLOCK):
        part = slice(start, start + _BLOCK)
        values = checked_images(file.image, images[part])
        labels = None if label_array is None else checked_labels(file.label or file.image, label_array[part])
        yield _Content(values, labels, subjects * len(values) if subjects else names[part] if names else None)


def _arrays(file: _File) -> tuple[NDArray[Any], NDArray[Any] | None, tuple[str, ...] | None]:
    """Images (n, X, Y, Z), labels and subjects of an npy or npz file."""
    names = {"image", "images", "label", "labels", "subject", "subjects"}
    arrays = read_arrays(file.image, names)
    images = next((arrays[name] for name in ("", "image", "images") if name in arrays), None)
    if images is None:
        raise InputError(f"{file.image}: has no array 'image' or 'images'; {_EXPECTED}")
    labels = next((arrays[name] for name in ("label", "labels") if name in arrays), None)
    if file.label:
        beside = read_arrays(file.label, names)
        labels = next((beside[name] for name in ("", "label", "labels") if name in beside), None)
        if labels is None:
            raise InputError(f"{file.label}: has no array 'label' or 'labels'")
    if images.ndim not in (3, 4) or not images.size:
        raise InputError(f"{file.image}: shape {images.shape}; needs a patch (X, Y, Z) or a stack (N, X, Y, Z) of them")
    if labels is not None and labels.shape != images.shape:
        raise InputError(f"{file.label or file.image}: labels of {labels.shape}, but images of {images.shape}")
    owners = next((arrays[name] for name in ("subject", "subjects") if name in arrays), None)
    if images.ndim == 3:
        images, labels = images[None], None if labels is None else labels[None]
    known = None if owners is None else tuple(str(owner) for owner in np.atleast_1d(owners))
    if known is not None and len(known) != len(images):
        raise InputError(f"{file.image}: {len(known)} subjects of {len(images)} patches; give one each")
    return images, labels, known
