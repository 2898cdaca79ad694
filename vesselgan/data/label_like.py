"""Labels and channels that go by the name of images: found by what they hold, since names can mean anything."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.patch_names import PatchFile, is_plural
from vesselgan.errors import InputError

__all__ = ["LabelLike"]

_MOST_CLASSES = 64
_CHANNELS = range(2, 5)  # arrays in each of several files, when they may be the channels of one patch
_LOOKED_AT = 4096  # voxels of a patch, evenly spread, whose values are counted


class LabelLike:
    """Looks at patches that are said to be images, one file after the other."""

    def __init__(self) -> None:
        self._binary, self._varied = 0, 0
        self._first: Path | None = None
        self._arrays: Counter[Path] = Counter()  # in each npy, which cannot say what its first axis is
        self._classes: dict[Path, bool] = {}  # of files without label: whether each of their patches looks like one

    def add(self, file: PatchFile, images: NDArray[np.float32]) -> None:
        """`images` (n, X, Y, Z) are some of a file's patches."""
        if file.image.suffix != ".npz" and not is_plural(file.image.name):
            self._arrays[file.image] += len(images)
        for image in images:
            low, high = image.min(), image.max()
            if low < high:
                self._varied += 1
                if np.logical_or(image == low, image == high).all():
                    self._binary += 1
                    self._first = self._first or file.image
        if file.label is None:
            self._classes[file.image] = self._classes.get(file.image, True) and all(map(_has_few_classes, images))

    def check(self, folder: Path) -> None:
        """Raises InputError where labels or channels were taken for images."""
        advice = "tell images and labels apart by name: NAME_image and NAME_label, or images/ and labels/"
        arrays = set(self._arrays.values())
        if len(self._arrays) > 1 and len(arrays) == 1 and arrays <= set(_CHANNELS):
            path, number = next(iter(self._arrays.items()))
            raise InputError(
                f"{path}: {number} arrays, as in every file of {folder}: patches, or the channels of one? Call a stack "
                "NAME_patches.npy; part channels into NAME_image.npy and NAME_label.npy"
            )
        if self._binary and 2 * self._binary >= self._varied:
            raise InputError(
                f"{folder}: {self._binary} of {self._varied} images hold two values only, as labels do, {self._first} "
                f"first; {advice}"
            )
        labels = [path for path, few in self._classes.items() if few]
        images = [path for path, few in self._classes.items() if not few]
        if labels and _pair_up(labels, images):
            raise InputError(
                f"{folder}: names come in pairs such as {images[0].name} and {labels[0].name}, and the second holds a "
                f"few whole numbers only, as a label does; {advice}"
            )


def _has_few_classes(image: NDArray[np.float32]) -> bool:
    """Whether a patch is constant, or holds few values, all of them whole numbers."""
    values = np.unique(image.reshape(-1)[:: max(1, image.size // _LOOKED_AT)])
    return len(values) <= min(_MOST_CLASSES, image.size // _MOST_CLASSES) and bool((values == np.round(values)).all())


def _pair_up(first: list[Path], second: list[Path]) -> bool:
    """Whether the two lists have the same names but for one word at the end or the beginning, one in each list."""
    for place in (-1, 0):
        words, names = zip(*(_parted(path, place) for path in first), strict=True)
        other_words, other_names = zip(*(_parted(path, place) for path in second), strict=True) if second else ((), ())
        if len(set(words)) == len(set(other_words)) == 1 and sorted(names) == sorted(other_names):
            return True
    return False


def _parted(path: Path, place: int) -> tuple[str, str]:
    """One word of a file's name, and the folder with the rest of the name."""
    words = path.name.partition(".")[0].split("_")
    word = words.pop(place)
    return word, f"{path.parent}/{'_'.join(words)}"
