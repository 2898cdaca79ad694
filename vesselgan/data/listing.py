"""How the paper's code pairs images with labels (D6), kept for the sake of reproducing it."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vesselgan.data.layouts import Subject

__all__ = ["pair_by_listing"]


def pair_by_listing(
    subjects: Sequence[Subject], folder: Path, listing: Callable[[Path], Iterator[Path]] | None = None
) -> list[Subject]:
    """The n-th image of an unsorted list of files with the n-th label of another, as the paper's code pairs them.

    The order of both is the one in which the file system lists *folder*, or `listing` for tests. Where image and label
    of a subject lie in a folder of their own, the lists agree. Where images and labels lie in two folders under
    different names (as the paper's patches do: `..._img_...` and `..._label_...`), nothing makes them agree: some file
    systems list in order of creation, others by a hash of the name. Subjects go by their images.
    """
    place = {path: index for index, path in enumerate((listing or _files)(folder))}

    def listed(path: Path) -> tuple[int, Path]:
        return place.get(path, len(place)), path  # a listing follows no links to folders: those come last, by name

    by_image = sorted(subjects, key=lambda subject: listed(subject.image))
    labels = sorted((subject.label for subject in subjects), key=listed)
    paired = [replace(subject, label=label) for subject, label in zip(by_image, labels, strict=True)]
    return sorted(paired, key=lambda subject: subject.key)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names)
