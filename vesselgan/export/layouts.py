"""Which files a dataset of labelled patches has, and their bytes; writing them is `vesselgan.export.folder`'s part.

Names count from 1, indices of pairs from 0. The same pairs give the same bytes.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vesselgan.export.volume_bytes import VolumeEncoder

__all__ = ["CHANNEL", "LABELS", "About", "File", "Layout", "NiftiFiles", "NnunetLayout", "NpzLayout", "as_json"]

CHANNEL = "TOF-MRA"  # nnU-Net brings every channel that is not named CT to mean 0 and SD 1, image by image
LABELS = {"background": 0, "vessel": 1}
_PAIRS_IN_A_SHARD = 64
_BYTES_IN_A_SHARD = 32 * 2**20

File = tuple[str, bytes]  # path in the folder, content


@dataclass(frozen=True)
class About:
    """What the formats' own description files say of a dataset."""

    name: str
    description: str
    licence: str
    reference: str
    version: str  # of this package


class Layout(Protocol):
    """A kind of dataset folder."""

    about: About

    def pairs_at_once(self, batch: int) -> int:
        """How many pairs are written in one step: a multiple of `batch`."""

    def paths(self, pairs: range, count: int) -> list[str]:
        """The files of these pairs of a dataset of `count`, in the order in which `files` gives them."""

    def files(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[File]:
        """The files of these pairs; `images` as they are to be stored, both (B, X, Y, Z)."""

    def closing_files(self, count: int) -> Iterator[File]:
        """What describes the whole dataset, written when all pairs are there."""


class NiftiFiles:
    """What layouts of a NIfTI file for each image and each label have in common."""

    def __init__(self, about: About, volumes: VolumeEncoder) -> None:
        self.about = about
        self._volumes = volumes

    def pairs_at_once(self, batch: int) -> int:
        """One batch."""
        return batch


class NnunetLayout(NiftiFiles):
    """nnU-Net v2's raw layout. nnU-Net itself wants the folder to be called `DatasetNNN_NAME`."""

    def paths(self, pairs: range, count: int) -> list[str]:
        """An image and a label for each pair."""
        names = [f"syn_{number}" for number in numbers(pairs, count)]
        return [path for name in names for path in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz")]

    def files(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[File]:
        """As the protocol says."""
        contents = (self._volumes(data) for pair in zip(images, labels, strict=True) for data in pair)
        return zip(self.paths(pairs, count), contents, strict=True)

    def closing_files(self, count: int) -> Iterator[File]:
        """`dataset.json`."""
        content = {
            "name": self.about.name,
            "description": self.about.description,
            "reference": self.about.reference,
            "licence": self.about.licence,
            "release": self.about.version,
            "channel_names": {"0": CHANNEL},
            "labels": LABELS,
            "numTraining": count,
            "file_ending": ".nii.gz",
        }
        yield "dataset.json", as_json(content)


class NpzLayout:
    """Stacks `images` and `labels` (N, X, Y, Z) with the pairs' `index`, some dozens of pairs to a file."""

    def __init__(self, about: About, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.about = about
        self._pair_bytes = int(np.prod(shape)) * (dtype.itemsize + 1)

    def pairs_at_once(self, batch: int) -> int:
        """About 64 pairs, fewer of large patches: whoever reads a shard has all of it in memory."""
        wanted = min(_PAIRS_IN_A_SHARD, _BYTES_IN_A_SHARD // self._pair_bytes)
        return max(1, wanted // batch) * batch

    def paths(self, pairs: range, count: int) -> list[str]:
        """One shard, called after its first pair."""
        return [f"pairs_{numbers(pairs, count)[0]}.npz"]

    def files(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[File]:
        """As the protocol says."""
        content = io.BytesIO()
        # Not compressed: it would cost more than making the pairs. numpy's archives carry no time of day.
        np.savez(content, allow_pickle=False, images=images, labels=labels, index=np.asarray(pairs))
        yield self.paths(pairs, count)[0], content.getvalue()

    def closing_files(self, count: int) -> Iterator[File]:
        """Nothing: the datasheet says it all."""
        return iter(())


def numbers(pairs: Iterable[int], count: int) -> list[str]:
    """Pairs' numbers from 1, of equal length, so that names sort as numbers do."""
    width = max(5, len(str(count)))
    return [f"{index + 1:0{width}d}" for index in pairs]


def as_json(content: Any) -> bytes:
    """Strict JSON for people to read."""
    return (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
