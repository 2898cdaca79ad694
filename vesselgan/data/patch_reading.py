"""The arrays of one file of patches: which of its axes are what, and whether image and label belong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.folders import checked_images, checked_labels, read_arrays
from vesselgan.data.patch_names import EXPECTED, PatchFile, is_plural
from vesselgan.data.volumes import check_same_grid, is_volume, load_volume
from vesselgan.errors import InputError

__all__ = ["PatchContent", "read_patches"]

_BLOCK = 16  # patches of a stack that are looked at together
_THINNEST = 4  # voxels on an axis of a patch; what has fewer is a channel or a slice


@dataclass(frozen=True, eq=False)
class PatchContent:
    """Some patches of one file, as stored."""

    images: NDArray[np.float32]  # (n, X, Y, Z)
    labels: NDArray[np.bool_] | None
    subjects: tuple[str, ...] | None
    spacing_mm: tuple[float, float, float] | None = None  # where the file says it


def read_patches(file: PatchFile, nan: float | None = None) -> Iterator[PatchContent]:
    """A file's patches in blocks that fit in memory; NaN in an image becomes `nan`, if that is given.

    Raises InputError for whatever is wrong with them.
    """
    subjects = None if file.subject is None else (file.subject,)
    if is_volume(file.image):
        volume = load_volume(file.image, nan=nan)
        labels = None
        if file.label:
            mask = load_volume(file.label, is_label=True)
            check_same_grid(file.label, mask.data.shape, mask.affine, file.image, volume.data.shape, volume.affine)
            labels = checked_labels(file.label, mask.data)[None]
        yield PatchContent(volume.data[None], labels, subjects, volume.spacing_mm)
        return
    images, label_array, names = _arrays(file)
    for start in range(0, len(images), _BLOCK):
        part = slice(start, start + _BLOCK)
        values = checked_images(file.image, images[part], nan)
        labels = None if label_array is None else checked_labels(file.label or file.image, label_array[part])
        yield PatchContent(values, labels, subjects * len(values) if subjects else names[part] if names else None)


def _arrays(file: PatchFile) -> tuple[NDArray[Any], NDArray[Any] | None, tuple[str, ...] | None]:
    """Images (n, X, Y, Z), labels and subjects of an npy or npz file."""
    names = {"image", "images", "label", "labels", "subject", "subjects"}
    arrays = read_arrays(file.image, names)
    name = next((name for name in ("", "image", "images") if name in arrays), None)
    if name is None:
        raise InputError(f"{file.image}: has no array 'image' or 'images'; {EXPECTED}")
    images = _stack(file.image, name, arrays[name])
    label_name = next((name for name in ("label", "labels") if name in arrays), None)
    labels = None if label_name is None else _stack(file.image, label_name, arrays[label_name])
    if file.label:
        beside = read_arrays(file.label, names)
        given = next((name for name in ("", "label", "labels") if name in beside), None)
        if given is None:
            raise InputError(f"{file.label}: has no array 'label' or 'labels'")
        labels = _stack(file.label, given, beside[given])
    if labels is not None and labels.shape != images.shape:
        raise InputError(f"{file.label or file.image}: labels of {labels.shape}, but images of {images.shape}")
    owners = next((arrays[name] for name in ("subject", "subjects") if name in arrays), None)
    known = None if owners is None else tuple(str(owner) for owner in np.atleast_1d(owners))
    if known is not None and len(known) != len(images):
        raise InputError(f"{file.image}: {len(known)} subjects of {len(images)} patches; give one each")
    return images, labels, known


def _stack(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """(n, X, Y, Z) of a patch (X, Y, Z) or a stack, also with an axis of one channel; `name` is the array's in an npz.

    Raises InputError for several channels. One patch under the name `image` or `label` has no axis of patches, and in
    a file without names for its arrays (npy) a stack's file has a name in the plural.
    """
    given = array.shape
    plural = is_plural(name or path.name)
    channel_last = 5 if plural else 4
    while array.ndim >= channel_last and array.shape[-1] == 1:
        array = array[..., 0]
    while array.ndim > 4 and array.shape[1] == 1:
        array = array[:, 0]
    if not array.size or array.ndim not in (3, 4):
        raise InputError(
            f"{path}: shape {given}; needs a patch (X, Y, Z) or a stack (N, X, Y, Z) of them: "
            "part channels into images and labels"
        )
    if array.ndim == 4 and name in ("image", "label") and len(array) > 1:
        raise InputError(
            f"{path}: shape {given} under the name {name!r}, which is one patch (X, Y, Z); name a stack "
            f"{name + 's'!r}, and give a channel that is the label an array of its own, 'label'"
        )
    if min(array.shape[-3:]) < _THINNEST:
        raise InputError(
            f"{path}: shape {given}, so patches of {array.shape[-3:]}, which have fewer than {_THINNEST} voxels on an "
            "axis: slices, or channels? Give patches (X, Y, Z), and images and labels apart"
        )
    return array[None] if array.ndim == 3 else array
