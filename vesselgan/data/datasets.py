"""Where the files of a dataset lie, which of them belong together, and who is trained, validated and tested on."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.nifti import check_same_grid, load_mask, load_volume
from vesselgan.errors import InputError

__all__ = ["LAYOUTS", "Layout", "LoadedSubject", "Subject", "find_subjects", "load_subject", "split_subjects"]


@dataclass(frozen=True)
class Layout:
    """How a dataset names its files: relative paths in which ``{key}`` stands for the subject and ``*`` for anything.

    Both stay within one folder or file name. Several patterns of a kind are alternatives.
    """

    name: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    masks: tuple[str, ...] = ()  # optional brain masks


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "nnunet",
            images=("imagesTr/{key}_0000.nii.gz", "imagesTr/{key}_0000.nii"),
            labels=("labelsTr/{key}.nii.gz", "labelsTr/{key}.nii"),
            masks=("masksTr/{key}.nii.gz", "masksTr/{key}.nii"),
        ),
        Layout(  # with or without a folder per split above the patients
            "pegasus",
            images=("{key}/001_img_denoised.nii.gz", "*/{key}/001_img_denoised.nii.gz"),
            labels=tuple(
                f"{split}{{key}}/001_Vessel-Manual-Gold-int.nii{ending}"
                for split in ("", "*/")
                for ending in ("", ".gz")
            ),
            masks=tuple(f"{split}{{key}}/*_BET-fsl.mask.nii{ending}" for split in ("", "*/") for ending in ("", ".gz")),
        ),
    )
}


@dataclass(frozen=True)
class Subject:
    """The files of one subject."""

    key: str
    image: Path
    label: Path
    mask: Path | None  # of the brain


@dataclass(frozen=True, eq=False)
class LoadedSubject:
    """The volumes of one subject, on one grid in canonical (RAS) orientation."""

    key: str
    image: NDArray[np.float32]  # (X, Y, Z)
    label: NDArray[np.bool_]  # (X, Y, Z), vessels
    mask: NDArray[np.bool_] | None  # (X, Y, Z), brain
    affine: NDArray[np.float64]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]


def find_subjects(folder: Path | str, layout: str | Layout = "auto") -> list[Subject]:
    """The subjects in *folder*, sorted by key.

    Args:
        folder: a dataset.
        layout: a name in `LAYOUTS`, a `Layout`, or "auto": the one layout that has files here.

    Raises:
        InputError: no such folder, unknown layout, no (or more than one) layout that fits, two files for one subject,
            an image without label, a label or mask without image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such data folder; point to a dataset with --data DIR")
    images, labels, masks = _fitting(folder, layout)
    for there, missing, absent_kind in ((images, labels, "label"), (labels, images, "image"), (masks, images, "image")):
        if unpaired := sorted(there.keys() - missing.keys()):
            key = unpaired[0]
            raise InputError(f"{there[key]}: no {absent_kind} of subject {key!r} in {folder}; add it or drop this")
    return [Subject(key, images[key], labels[key], masks.get(key)) for key in sorted(images)]


def load_subject(subject: Subject) -> LoadedSubject:
    """Read and check the files of one subject.

    Raises:
        InputError: as `load_volume` and `load_mask`; a constant image; a label or mask on another grid than the image.
    """
    image = load_volume(subject.image)
    if image.data.min() == image.data.max():
        raise InputError(f"{subject.image}: constant image (every voxel is {image.data.flat[0]:g}); export it again")

    def on_the_same_grid(path: Path) -> NDArray[np.bool_]:
        mask = load_mask(path)
        check_same_grid(path, mask.data.shape, mask.affine, subject.image, image.data.shape, image.affine)
        return mask.data

    label = on_the_same_grid(subject.label)
    mask = on_the_same_grid(subject.mask) if subject.mask else None
    return LoadedSubject(subject.key, image.data, label, mask, image.affine, image.spacing_mm)


def split_subjects(
    keys: Iterable[str], *, train: float, validation: float, test: float, seed: int
) -> dict[str, list[str]]:
    """Divide subjects at random: ``{"train": [...], "validation": [...], "test": [...]}``, each sorted.

    Sizes are either three counts (int; subjects left over are used nowhere) or three fractions (float, adding up to 1,
    rounded so that no split is empty). The result depends on the set of keys and the seed, not on the keys' order, and
    the test subjects do not depend on the sizes of the other two.

    Raises:
        InputError: a subject twice, a split without subjects, too few subjects.
    """
    ordered = sorted(keys)
    sizes = {"test": test, "validation": validation, "train": train}
    if len(set(ordered)) < len(ordered):
        twice = next(key for key, after in pairwise(ordered) if key == after)
        raise InputError(f"subject {twice!r} is listed twice; give each subject one key")
    counts = _counts(len(ordered), list(sizes.values()))
    if sum(counts) > len(ordered):
        wanted = " + ".join(f"{count} {name}" for name, count in zip(sizes, counts, strict=True))
        raise InputError(f"{len(ordered)} subjects, too few for {wanted}; add subjects or lower the sizes")
    shuffled = iter(np.random.default_rng(seed).permutation(len(ordered)))
    chosen = {name: sorted(ordered[next(shuffled)] for _ in range(n)) for name, n in zip(sizes, counts, strict=True)}
    return {name: chosen[name] for name in ("train", "validation", "test")}


def _counts(subjects: int, sizes: Sequence[float]) -> list[int]:
    if min(sizes) <= 0:
        raise InputError(f"split sizes {sizes}; each split needs at least one subject")
    if all(isinstance(size, int) for size in sizes):
        return [int(size) for size in sizes]
    if abs(sum(sizes) - 1) > 1e-6:
        raise InputError(f"split sizes {sizes}; give three whole numbers, or three fractions that add up to 1")
    counts = [max(1, int(subjects * size)) for size in sizes]
    while sum(counts) < subjects:  # largest remainder first
        counts[max(range(len(sizes)), key=lambda i: subjects * sizes[i] - counts[i])] += 1
    while sum(counts) > subjects and max(counts) > 1:  # the minimum of one took too many
        counts[int(np.argmax(counts))] -= 1
    return counts


def _fitting(folder: Path, layout: str | Layout) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """Key -> file for images, labels and masks, in the layout asked for or the one that has files here."""
    if isinstance(layout, Layout):
        candidates = [layout]
    elif layout == "auto":
        candidates = list(LAYOUTS.values())
    elif layout in LAYOUTS:
        candidates = [LAYOUTS[layout]]
    else:
        raise InputError(f"unknown layout {layout!r}; choose one of auto, {', '.join(LAYOUTS)}")
    found = {}
    for candidate in candidates:
        images, labels = _by_key(folder, candidate.images), _by_key(folder, candidate.labels)
        if images or labels:
            found[candidate.name] = (images, labels, _by_key(folder, candidate.masks))
    if not found:
        expected = "; ".join(f"{each.name}: {each.images[0]} with {each.labels[0]}" for each in candidates)
        raise InputError(f"{folder}: no files in a known layout; tried {expected}")
    if len(found) > 1:
        raise InputError(f"{folder}: files of several layouts ({', '.join(found)}); name the layout, or part the files")
    return next(iter(found.values()))


def _by_key(folder: Path, patterns: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pattern in patterns:
        # A leading dot marks what file managers leave behind ("._case.nii.gz"), never a subject.
        names = re.escape(pattern).replace(r"\{key\}", r"(?P<key>[^/.][^/]*)").replace(r"\*", "[^/]*")
        for path in sorted(folder.glob(pattern.replace("{key}", "*"))):
            matched = re.fullmatch(names, path.relative_to(folder).as_posix())
            if matched is None:
                continue
            key = matched["key"]
            if key in found:
                raise InputError(f"{path}: subject {key!r} has {found[key]} already; keep one of the two")
            found[key] = path
    return found
