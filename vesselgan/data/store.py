"""Volumes on disk, each kept once, and the patches cut out of them on the fly.

The paper writes each patch as a file of its own, which repeats most voxels many times; here a patch is a row of four
numbers. A store is a folder with ``store.json`` (subjects), ``patches.npy`` (subject and corner of each patch) and for
each subject ``KEY.image.npy``, ``KEY.label.npy`` and, where there is one, ``KEY.mask.npy``.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.datasets import LoadedSubject
from vesselgan.data.patches import apply_range, cut, minmax_scale, patch_corners, robust_range
from vesselgan.errors import InputError

__all__ = ["StoredSubject", "VolumeStore", "open_store", "write_store"]

_FORMAT = 1


@dataclass(frozen=True)
class StoredSubject:
    """What the store knows of a subject without reading its volumes."""

    key: str
    split: str
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]
    intensity_range: tuple[float, float]  # `robust_range` of the image
    has_mask: bool


def write_store(
    folder: Path | str,
    subjects: Iterable[LoadedSubject],
    *,
    splits: Mapping[str, Sequence[str]],
    patch_size: Sequence[int],
    grid: Sequence[int] | None,
    vessel: int,
    rng: np.random.Generator,
) -> None:
    """Write a store; only one subject is in memory at a time, and equal input gives equal bytes.

    The folder is created if need be. ``store.json`` comes last, so a folder without it is an unfinished one.

    Args:
        folder: empty, or not there yet.
        subjects: e.g. ``map(load_subject, find_subjects(...))`` or `phantom_subjects`; those in no split are skipped.
        splits: name -> subject keys, as `split_subjects` gives them.
        patch_size, grid, vessel, rng: see `patch_corners`.

    Raises:
        InputError: a subject twice, in two splits, or in a split and never seen.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    split_of = _split_of(splits)
    stored: list[StoredSubject] = []
    rows: list[NDArray[np.int64]] = []  # subject, x, y, z
    for subject in subjects:
        if subject.key not in split_of:
            continue
        if any(subject.key == other.key for other in stored):
            raise InputError(f"subject {subject.key!r} comes twice; give each subject one key")
        corners = patch_corners(subject.label, patch_size, grid=grid, vessel=vessel, rng=rng)
        rows.append(np.column_stack([np.full(len(corners), len(stored)), corners]))
        stored.append(_write_volumes(folder, subject, split_of[subject.key]))
    missing = sorted(split_of.keys() - {subject.key for subject in stored})
    if missing:
        raise InputError(f"subject {missing[0]!r} of split {split_of[missing[0]]!r} is not among the data; add it")
    np.save(folder / "patches.npy", np.concatenate(rows).astype(np.int32))
    table = {"format": _FORMAT, "patch_size": [int(n) for n in patch_size], "subjects": [asdict(s) for s in stored]}
    (folder / "store.json").write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def open_store(folder: Path | str) -> "VolumeStore":
    """Open a store for reading; volumes stay on disk and are memory-mapped when first asked for.

    Raises:
        InputError: no finished store there, or one of another format.
    """
    folder = Path(folder)
    try:
        table = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no finished volume store (store.json); prepare the data again") from error
    if table.get("format") != _FORMAT:
        raise InputError(f"{folder}: store of format {table.get('format')}, not {_FORMAT}; prepare the data again")
    subjects = tuple(_stored_subject(row) for row in table["subjects"])
    return VolumeStore(folder, subjects, tuple(table["patch_size"]), np.load(folder / "patches.npy"))


class VolumeStore:
    """An open store; see `open_store`."""

    def __init__(
        self, folder: Path, subjects: tuple[StoredSubject, ...], patch_size: tuple[int, ...], table: NDArray[np.int32]
    ) -> None:
        self.subjects = subjects
        self.patch_size = patch_size
        self.patch_table = table  # (N, 4): index into subjects, then the corner in voxels
        self._folder = folder
        self._mapped: dict[str, NDArray[Any]] = {}

    def keys(self, split: str) -> list[str]:
        """Subject keys of a split, in the order in which they were stored."""
        return [subject.key for subject in self.subjects if subject.split == split]

    def patches(self, split: str) -> NDArray[np.intp]:
        """Indices into the patch table of all patches of a split."""
        in_split = np.array([subject.split == split for subject in self.subjects], dtype=bool)
        return np.flatnonzero(in_split[self.patch_table[:, 0]])

    def image(self, key: str) -> NDArray[Any]:
        """(X, Y, Z) intensities as scanned, read-only; of an integer type where that loses nothing, else float32."""
        return self._map(f"{key}.image.npy")

    def label(self, key: str) -> NDArray[np.bool_]:
        """(X, Y, Z) vessels, read-only."""
        return self._map(f"{key}.label.npy")

    def mask(self, key: str) -> NDArray[np.bool_] | None:
        """(X, Y, Z) brain mask, read-only, or None where the dataset has none."""
        return self._map(f"{key}.mask.npy") if self.subject(key).has_mask else None

    def subject(self, key: str) -> StoredSubject:
        """The table's row of a subject (KeyError if unknown)."""
        for subject in self.subjects:
            if subject.key == key:
                return subject
        raise KeyError(key)

    def cut_pairs(
        self, indices: Iterable[int], scaling: Literal["patch", "volume"]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Images float32 (B, X, Y, Z) in [-1, 1] and their labels uint8 (B, X, Y, Z) in {0, 1}.

        Args:
            indices: rows of the patch table.
            scaling: "patch" is the paper's code: overhang zero, then each patch from its minimum to its maximum;
                "volume" maps one robust range per subject, and its lower end (-1) is what overhangs.
        """
        if scaling not in ("patch", "volume"):
            raise ValueError(f"scaling {scaling!r} is neither 'patch' nor 'volume'")
        rows = self.patch_table[np.asarray(list(indices), dtype=np.intp)]
        images = np.empty((len(rows), *self.patch_size), dtype=np.float32)
        labels = np.empty((len(rows), *self.patch_size), dtype=np.uint8)
        for at, (index, *corner) in enumerate(rows):
            subject = self.subjects[index]
            labels[at] = cut(self.label(subject.key), corner, self.patch_size)
            image = self.image(subject.key)
            if scaling == "patch":
                images[at] = minmax_scale(cut(image, corner, self.patch_size))
            else:
                low, high = subject.intensity_range
                images[at] = apply_range(cut(image, corner, self.patch_size, fill=math.floor(low)), low, high)
        return images, labels

    def _map(self, name: str) -> NDArray[Any]:
        if name not in self._mapped:
            self._mapped[name] = np.load(self._folder / name, mmap_mode="r")
        return self._mapped[name]


def _write_volumes(folder: Path, subject: LoadedSubject, split: str) -> StoredSubject:
    np.save(folder / f"{subject.key}.image.npy", _smallest_lossless(subject.image))
    np.save(folder / f"{subject.key}.label.npy", subject.label)
    if subject.mask is not None:
        np.save(folder / f"{subject.key}.mask.npy", subject.mask)
    x, y, z = subject.image.shape
    affine = tuple(tuple(float(value) for value in row) for row in subject.affine)
    intensity_range = robust_range(subject.image)
    has_mask = subject.mask is not None
    return StoredSubject(subject.key, split, (x, y, z), affine, subject.spacing_mm, intensity_range, has_mask)


def _stored_subject(row: dict[str, Any]) -> StoredSubject:
    lists = {"shape", "spacing_mm", "intensity_range"}
    values: dict[str, Any] = {name: tuple(value) if name in lists else value for name, value in row.items()}
    return StoredSubject(**{**values, "affine": tuple(tuple(line) for line in row["affine"])})


def _split_of(splits: Mapping[str, Sequence[str]]) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for split, keys in splits.items():
        for key in keys:
            if key in split_of:
                raise InputError(f"subject {key!r} is in two splits, {split_of[key]!r} and {split!r}; keep it in one")
            split_of[key] = split
    return split_of


def _smallest_lossless(image: NDArray[np.float32]) -> NDArray[Any]:
    """Scanners count in integers: most images fit half the bytes of float32 without loss."""
    low, high = image.min(), image.max()
    for dtype in (np.uint8, np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            smaller = image.astype(dtype)
            return smaller if np.array_equal(smaller, image) else image
    return image
