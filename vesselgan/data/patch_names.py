"""Which files of a folder are patches and which are their labels, as people name them.

A name says what a file is by one of its words: `P_img_7` and `P_seg_7` (or `_image` and `_label`, `_mask`, `_gt`)
belong together, since without these words they are one name. So does a folder's name: images lie in `imagesTr`,
`images`, `imgs`, `patches` or beside the folder of labels, and those in `labelsTr`, `labels`, `seg_labels`, `masks`.
A folder that says it is BIDS is read as that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vesselgan.data.folders import array_files, folders_within
from vesselgan.data.layouts import BIDS, person_of, scan_folder
from vesselgan.data.volumes import is_volume
from vesselgan.errors import InputError

__all__ = ["NamedPatches", "PatchFile", "find_patches", "is_plural"]

_IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "patch", "patches", "scan", "scans"} | {"angio", "mra", "tof"}
)
_LABEL_WORDS = frozenset(
    {"label", "labels", "lbl", "seg", "segs", "dseg", "segmentation", "segmentations", "mask", "masks"}
    | {"gt", "groundtruth", "annotation", "annotations", "vessels"}
)
_OF_LABELS = frozenset({"desc", "vessel"})  # say nothing more in the name of a label: sub-1_desc-vessel_mask
_PLURALS = frozenset({"images", "imgs", "patches", "scans", "labels", "segs", "segmentations", "masks"})
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "patches", "scans")
# The first that is there holds the labels; masks beside them are of the brain.
_LABEL_FOLDERS = (
    *("labels", "label", "seg_labels", "segmentations", "segmentation", "segs", "seg"),
    *("annotations", "gt", "masks", "mask"),
)
_SPLITS = ("tr", "ts", "val")  # imagesTr, labelsTs, ...
_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net: NAME_0000 is the first channel of NAME
_CHANNELS = range(2, 5)  # files of a case that may be its channels
_FEWEST_CASES = 3  # that are numbered alike, before they are asked about
EXPECTED = "NAME.npz with image and label, NAME_image.nii.gz with NAME_label.nii.gz, or imagesTr/ with labelsTr/"


@dataclass(frozen=True)
class PatchFile:
    """An image file, its label file (None: inside the same npz, or nowhere), and its subject if known."""

    image: Path
    label: Path | None
    subject: str | None


@dataclass(frozen=True)
class NamedPatches:
    """The patches of a folder, and files that are no patches of their own: further channels (`NAME_0001`)."""

    files: tuple[PatchFile, ...]
    further_channels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Named:
    path: Path
    name: str  # without its ending
    key: str  # without the words that say what it is


def find_patches(folder: Path, option: str) -> NamedPatches:
    """The patches in `folder` and in the folders of subjects within, by name; `option` is how a person names it.

    Raises InputError: no such folder, no patches, a label without image or two of one image, images of two splits.
    """
    if (folder / "dataset_description.json").is_file():
        return _of_bids(folder)
    inside = folders_within(folder) if folder.is_dir() else []
    found = [_paired(folder, option, subject=None)]
    found += [_paired(subject, option, subject=subject.name) for subject in inside if _kind_of_folder(subject) is None]
    files = tuple(file for each in found for file in each.files)
    if not files:
        raise InputError(f"{folder}: no patches; {option} wants {EXPECTED}")
    return NamedPatches(files, tuple(path for each in found for path in each.further_channels))


def _of_bids(folder: Path) -> NamedPatches:
    """Each image with its label, or images alone: whoever has labels of some has forgotten the others."""
    found = scan_folder(folder, replace(BIDS, unlabelled=False))
    if found.files and not found.labels:
        images = sorted(found.matched)
        return NamedPatches(tuple(PatchFile(path, None, person_of(path.name, BIDS)) for path in images))
    if found.problems:
        raise InputError("\n".join(found.problems))
    return NamedPatches(tuple(PatchFile(each.image, each.label, each.person) for each in found.subjects))


def is_plural(name: str) -> bool:
    """Whether a file's or an array's name says that it holds several patches."""
    return not _PLURALS.isdisjoint(_words(name))


def _paired(folder: Path, option: str, *, subject: str | None) -> NamedPatches:
    """The patches of one folder, and of the two within that hold its images and labels."""
    here = [_named(path, name) for name, path in array_files(folder, option).items()]
    images = [file for file in here if not _says_label(file.name)]
    labels = [file for file in here if _says_label(file.name)]
    split, image_folder, label_folder = _role_folders(folder)
    if image_folder:
        within = [_named(path, name) for name, path in array_files(image_folder, option).items()]
        images += [file for file in within if not _says_label(file.name)]
        labels += [file for file in within if _says_label(file.name)]
    if label_folder:
        labels += [_named(path, name) for name, path in array_files(label_folder, option).items()]
    images, channels = _without_further_channels(images, labels, named_by_nnunet=bool(split))
    if not labels and not split:
        _refuse_likely_channels(folder, images)
    by_key: dict[str, _Named] = {}
    for label in labels:
        other = by_key.setdefault(label.key, label)
        if other is not label:
            raise InputError(f"{label.path}: a second label beside {other.path}; keep the one that marks vessels")
    owner = _owners(images, by_key)
    for key, label in by_key.items():
        if key not in owner:
            raise InputError(
                f"{label.path}: a label without image {key or 'images'!r}; add the image or remove the label"
            )
        if is_volume(label.path) != is_volume(owner[key].path):
            raise InputError(
                f"{label.path}: another kind of file than its image {owner[key].path.name}; store both alike"
            )
    label_of = {image.path: by_key[key].path for key, image in owner.items()}
    files = tuple(PatchFile(image.path, label_of.get(image.path), subject) for image in images)
    return NamedPatches(files, tuple(file.path for file in channels))


def _owners(images: list[_Named], labels: Mapping[str, _Named]) -> dict[str, _Named]:
    """The image of each label that has one: of its own key, or of its key as a case of nnU-Net's (`_0000`)."""
    owner: dict[str, _Named] = {}
    for image in images:
        key = image.key
        if key not in labels and (channel := _CHANNEL.fullmatch(key)) and channel[2] == "0000":
            key = channel[1]
        if key not in labels:
            continue
        if key in owner:
            raise InputError(
                f"{image.path}: {labels[key].path} may be the label of it or of {owner[key].path}; rename one"
            )
        owner[key] = image
    return owner


def _without_further_channels(
    images: list[_Named], labels: list[_Named], *, named_by_nnunet: bool
) -> tuple[list[_Named], list[_Named]]:
    """Parts off NAME_0001, ... where NAME_0000 is the patch; in a folder of numbered patches nothing is parted off."""
    labelled = {label.key for label in labels}
    keys = {image.key for image in images}
    cases = {match[1] for key in keys if (match := _CHANNEL.fullmatch(key))}

    def is_further(image: _Named) -> bool:
        match = _CHANNEL.fullmatch(image.key)
        if match is None or match[2] == "0000" or f"{match[1]}_0000" not in keys or image.key in labelled:
            return False
        return match[1] in labelled or (named_by_nnunet and not labelled and len(cases) > 1)

    return [file for file in images if not is_further(file)], [file for file in images if is_further(file)]


def _refuse_likely_channels(folder: Path, images: list[_Named]) -> None:
    """Raises InputError where every case has the same few numbers from 0000 on: patches of it, or its channels?"""
    cases: dict[str, set[int]] = {}
    for image in images:
        if (match := _CHANNEL.fullmatch(image.key)) is None:
            return
        cases.setdefault(match[1], set()).add(int(match[2]))
    numbers = next(iter(cases.values()), set())
    few = len(numbers) in _CHANNELS and numbers == set(range(len(numbers)))
    if few and len(cases) >= _FEWEST_CASES and all(each == numbers for each in cases.values()):
        raise InputError(
            f"{folder}: each of {len(cases)} names has {len(numbers)} files, {images[0].path.name} first: patches, or "
            "channels as in nnU-Net? Put channels into imagesTr/, and number patches from 1 (NAME_1, NAME_2)"
        )


def _role_folders(folder: Path) -> tuple[str, Path | None, Path | None]:
    """The split, and the folders of images and of labels within a folder, as far as they are there."""
    within: dict[tuple[str, str], list[Path]] = {}
    for path in folders_within(folder):
        if kind := _kind_of_folder(path):
            within.setdefault(kind, []).append(path)
    splits = sorted({split for role, split in within if role == "images"} or {split for _, split in within})
    if len(splits) > 1:
        names = ", ".join(sorted(path.name for kind, paths in within.items() if kind[0] == "images" for path in paths))
        raise InputError(f"{folder}: several sets of images ({names}); give a folder that holds one with its labels")
    if not splits:
        return "", None, None
    images, labels = (within.get((role, splits[0]), []) for role in ("images", "labels"))
    if len(images) > 1:
        raise InputError(
            f"{folder}: images in {' and in '.join(path.name for path in images)}; keep one of these folders"
        )
    return splits[0], images[0] if images else None, min(labels, key=_rank) if labels else None


def _kind_of_folder(folder: Path) -> tuple[str, str] | None:
    """`images` or `labels`, and the split; None for the folder of a subject."""
    name = folder.name.lower()
    for role in ("images", "labels"):
        for split in _SPLITS:
            if name == role + split:
                return role, split
    if name in _IMAGE_FOLDERS:
        return "images", ""
    return ("labels", "") if name in _LABEL_FOLDERS else None


def _rank(folder: Path) -> int:
    name = folder.name.lower()
    return _LABEL_FOLDERS.index(name) if name in _LABEL_FOLDERS else 0


def _named(path: Path, name: str) -> _Named:
    said = _IMAGE_WORDS | _LABEL_WORDS | (_OF_LABELS if _says_label(name) else frozenset())
    kept = [word for word in _parts(name) if word.lower() not in said]
    return _Named(path, name, "_".join(kept))


def _says_label(name: str) -> bool:
    return not _LABEL_WORDS.isdisjoint(_words(name))


def _words(name: str) -> set[str]:
    return {word.lower() for word in _parts(name)}


def _parts(name: str) -> list[str]:
    return [word for word in re.split(r"[_\-. ]+", name) if word]
