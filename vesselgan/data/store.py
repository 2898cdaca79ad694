"""Volumes on disk, each kept once, and the patches cut out of them on the fly.

The paper writes each patch as a file of its own, which repeats most voxels many times; here a patch is a row of four
numbers. A store is a folder with ``store.json`` (subjects), ``patches.npy`` (subject and corner of each patch),
``ranges.npy`` (lowest and highest intensity of each patch) and ``volumes/HASH.npy``, named by what is in it: images,
labels and brain masks. ``placements/HASH.nii`` are headers without voxels: how the scans lie in their files.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.datasets import LoadedSubject
from vesselgan.data.patches import cut, cut_into, patch_corners, robust_range, to_unit
from vesselgan.errors import InputError

__all__ = ["StoredSubject", "VolumeStore", "open_store", "overhang_of", "write_store"]

Scaling = Literal["patch", "volume"]

_FORMAT = 2
_VOXELS_AT_ONCE = 2**16  # cut and scaled while they lie in the processor's cache


@dataclass(frozen=True)
class StoredSubject:
    """What the store knows of a subject without reading its volumes."""

    key: str
    split: str
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]  # (4, 4), voxel index -> mm
    spacing_mm: tuple[float, float, float]
    intensity_range: tuple[float, float]  # `robust_range` of the image
    image: str  # content hashes, which name the files
    label: str
    mask: str | None
    placement: str | None = None  # the name of a header, see `vesselgan.data.placement_of`
    person: str | None = None  # whose scan it is, where somebody has several

    @property
    def owner(self) -> str:
        """The person; whoever has one scan goes by its key."""
        return self.person or self.key

    @property
    def has_mask(self) -> bool:
        """Whether there is a brain mask."""
        return self.mask is not None


def write_store(
    folder: Path | str,
    subjects: Iterable[LoadedSubject],
    *,
    splits: Mapping[str, Sequence[str]],
    patch_size: Sequence[int],
    grid: Sequence[int] | None,
    vessel: int,
    rng: np.random.Generator,
    persons: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a store; only one subject is in memory at a time, and equal input gives equal bytes.

    The folder is created if need be. ``store.json`` comes last, so a folder without it is an unfinished one.

    Args:
        folder: empty, or not there yet.
        subjects: e.g. ``map(load_subject, find_subjects(...))`` or `phantom_subjects`; those in no split are skipped.
        splits: name -> subject keys, as `split_subjects` gives them.
        patch_size, grid, vessel, rng: see `patch_corners`.
        persons: whose scan a subject is, by key, where somebody has several.

    Raises:
        InputError: a subject twice, in two splits, or in a split and never seen; one image in two splits.
    """
    folder = Path(folder)
    (folder / "volumes").mkdir(parents=True, exist_ok=True)
    split_of = _split_of(splits)
    stored: dict[str, StoredSubject] = {}
    rows: list[NDArray[np.int64]] = []  # subject, x, y, z
    ranges: list[NDArray[np.float32]] = []  # lowest, highest
    for subject in subjects:
        if subject.key in split_of:
            if subject.key in stored:
                raise InputError(f"subject {subject.key!r} comes twice; give each subject one key")
            corners = patch_corners(subject.label, patch_size, grid=grid, vessel=vessel, rng=rng)
            rows.append(np.column_stack([np.full(len(corners), len(stored)), corners]))
            ranges.append(_ranges(subject.image, corners, patch_size, overhang_of(robust_range(subject.image)[0])))
            written = _write_volumes(folder, subject, split_of[subject.key])
            stored[subject.key] = replace(written, person=persons.get(subject.key))
            _refuse_leak(list(stored.values()))
        del subject  # or it would stay in memory while the next one is made
    missing = sorted(split_of.keys() - stored.keys())
    if missing:
        raise InputError(f"subject {missing[0]!r} of split {split_of[missing[0]]!r} is not among the data; add it")
    np.save(folder / "patches.npy", np.concatenate(rows).astype(np.int32))
    np.save(folder / "ranges.npy", np.concatenate(ranges))
    subjects_table = [_row(subject) for subject in stored.values()]
    table = {"format": _FORMAT, "patch_size": [int(n) for n in patch_size], "subjects": subjects_table}
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
    patches, ranges = (np.load(folder / f"{name}.npy") for name in ("patches", "ranges"))
    return VolumeStore(folder, subjects, tuple(table["patch_size"]), patches, ranges)


class VolumeStore:
    """An open store; see `open_store`."""

    def __init__(
        self,
        folder: Path,
        subjects: tuple[StoredSubject, ...],
        patch_size: tuple[int, ...],
        table: NDArray[np.int32],
        ranges: NDArray[np.float32],
    ) -> None:
        self.subjects = subjects
        self.patch_size = patch_size
        self.patch_table = table  # (N, 4): index into subjects, then the corner in voxels
        self.patch_ranges = ranges  # (N, 2): lowest and highest intensity, overhang included
        self.folder = folder
        first: dict[str, int] = {}
        for number, subject in enumerate(subjects):
            first.setdefault(subject.owner, number)
        # Of each subject the number of the first scan of the same person: what is drawn at random are people.
        self.people = np.array([first[subject.owner] for subject in subjects], dtype=np.int32)
        self._mapped: dict[str, NDArray[Any]] = {}

    def keys(self, split: str) -> list[str]:
        """Subject keys of a split, in the order in which they were stored."""
        return [subject.key for subject in self.subjects if subject.split == split]

    def usual_spacing_mm(self, split: str) -> tuple[float, float, float]:
        """Voxel size in mm, per axis the median of a split's subjects."""
        x, y, z = np.median([each.spacing_mm for each in self.subjects if each.split == split], axis=0).tolist()
        return x, y, z

    def patches(self, split: str) -> NDArray[np.intp]:
        """Indices into the patch table of all patches of a split."""
        in_split = np.array([subject.split == split for subject in self.subjects], dtype=bool)
        return np.flatnonzero(in_split[self.patch_table[:, 0]])

    def image(self, key: str) -> NDArray[Any]:
        """(X, Y, Z) intensities as scanned, read-only; of an integer type where that loses nothing, else float32."""
        return self._map(self.subject(key).image)

    def label(self, key: str) -> NDArray[np.bool_]:
        """(X, Y, Z) vessels, read-only."""
        return self._map(self.subject(key).label)

    def mask(self, key: str) -> NDArray[np.bool_] | None:
        """(X, Y, Z) brain mask, read-only, or None where the dataset has none."""
        mask = self.subject(key).mask
        return None if mask is None else self._map(mask)

    def placement(self, key: str) -> Path | None:
        """A header that says how the subject's scan lies in its file; None where its voxels are no file's."""
        name = self.subject(key).placement
        return None if name is None else self.folder / "placements" / f"{name}.nii"

    def subject(self, key: str) -> StoredSubject:
        """The table's row of a subject (KeyError if unknown)."""
        for subject in self.subjects:
            if subject.key == key:
                return subject
        raise KeyError(key)

    def cut_pairs(self, indices: Iterable[int], scaling: Scaling) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Images float32 (B, X, Y, Z) in [-1, 1] and their labels uint8 (B, X, Y, Z) in {0, 1}.

        Args:
            indices: rows of the patch table.
            scaling: "patch" is the paper's code: overhang zero (or the volume's black, where that
                is below zero), then each patch from its minimum to its maximum;
                "volume" maps one robust range per subject, and its lower end (-1) is what overhangs.
        """
        chosen = [int(index) for index in indices]
        images = np.empty((len(chosen), *self.patch_size), dtype=np.float32)
        labels = np.empty((len(chosen), *self.patch_size), dtype=np.uint8)
        for index, image, label in zip(chosen, images, labels, strict=True):
            self._cut(index, scaling, image, label)
        return images, labels

    def cut_channels(self, indices: Iterable[int], scaling: Scaling, *, label_low: float = 0.0) -> NDArray[np.float32]:
        """The same pairs as a WGAN takes them: (B, 2, X, Y, Z), image in [-1, 1] and label in {label_low, 1}."""
        chosen = [int(index) for index in indices]
        pairs = np.empty((len(chosen), 2, *self.patch_size), dtype=np.float32)
        for index, (image, label) in zip(chosen, pairs, strict=True):
            self._cut(index, scaling, image, label, label_low)
        return pairs

    def cut_at(
        self, places: NDArray[np.integer[Any]], scaling: Scaling
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Pairs as `cut_pairs` gives them, from places (B, 4) that need not be in the patch table: subject, corner."""
        images = np.empty((len(places), *self.patch_size), dtype=np.float32)
        labels = np.empty((len(places), *self.patch_size), dtype=np.uint8)
        for (number, *corner), image, label in zip(places.tolist(), images, labels, strict=True):
            subject = self.subjects[number]
            low, high = subject.intensity_range
            by_itself = scaling == "patch"
            cut_into(image, self._plain(subject.image), corner, overhang_of(low) if by_itself else math.floor(low))
            to_unit(image, *((image.min(), image.max()) if by_itself else (low, high)), clip=not by_itself)
            cut_into(label, self._plain(subject.label), corner)
        return images, labels

    def _cut(
        self, index: int, scaling: Scaling, image: NDArray[np.float32], label: NDArray[Any], label_low: float = 0.0
    ) -> None:
        """One pair into given arrays, slab by slab, each small enough to stay in cache until it is scaled."""
        number, x, y, z = self.patch_table[index].tolist()
        subject = self.subjects[number]
        if scaling == "patch":
            (low, high), fill = self.patch_ranges[index].tolist(), overhang_of(subject.intensity_range[0])
        elif scaling == "volume":
            low, high = subject.intensity_range
            fill = math.floor(low)
        else:
            raise ValueError(f"scaling {scaling!r} is neither 'patch' nor 'volume'")
        volume, vessels = self._plain(subject.image), self._plain(subject.label)
        deep = max(1, _VOXELS_AT_ONCE // math.prod(self.patch_size[1:]))
        for start in range(0, self.patch_size[0], deep):
            corner = (x + start, y, z)
            slab = image[start : start + deep]
            cut_into(slab, volume, corner, fill)
            to_unit(slab, low, high, clip=scaling == "volume")
            slab = label[start : start + deep]
            cut_into(slab, vessels, corner)
            if label_low:
                slab *= 1 - label_low
                slab += label_low

    def _map(self, name: str) -> NDArray[Any]:
        if name not in self._mapped:
            self._mapped[name] = np.load(self.folder / "volumes" / f"{name}.npy", mmap_mode="r")
        return self._mapped[name]

    def _plain(self, name: str) -> NDArray[Any]:
        """The mapped volume as an ordinary array, slices of which are quicker to make."""
        return self._map(name).view(np.ndarray)


def _write_volumes(folder: Path, subject: LoadedSubject, split: str) -> StoredSubject:
    x, y, z = subject.image.shape
    return StoredSubject(
        key=subject.key,
        split=split,
        shape=(x, y, z),
        affine=tuple(tuple(float(value) for value in row) for row in subject.affine),
        spacing_mm=subject.spacing_mm,
        intensity_range=robust_range(subject.image),
        image=_write_volume(folder, _smallest_lossless(subject.image)),
        label=_write_volume(folder, subject.label),
        mask=None if subject.mask is None else _write_volume(folder, subject.mask),
        placement=None if subject.placement is None else _write_placement(folder, subject.placement),
    )


def _write_placement(folder: Path, header: bytes) -> str:
    name = hashlib.sha256(header).hexdigest()[:32]
    (folder / "placements").mkdir(exist_ok=True)
    (folder / "placements" / f"{name}.nii").write_bytes(header)
    return name


def _row(subject: StoredSubject) -> dict[str, Any]:
    """As in ``store.json``: stores of before say nothing of placements and persons, nor do those of phantoms."""
    row = asdict(subject)
    return {name: value for name, value in row.items() if value is not None or name not in ("placement", "person")}


def _write_volume(folder: Path, volume: NDArray[Any]) -> str:
    """Write a volume, unless an equal one is there, and return its hash."""
    volume = np.ascontiguousarray(volume)
    digest = hashlib.sha256(f"{volume.dtype.str} {volume.shape} ".encode())
    digest.update(volume.data)
    name = digest.hexdigest()[:32]
    path = folder / "volumes" / f"{name}.npy"
    if not path.exists():
        np.save(path, volume)
    return name


def overhang_of(black: float) -> int:
    """What stands where a patch overhangs and is not scaled by the volume, whose darkest intensity is `black`.

    Zero, as in the paper's code, unless intensities are negative: there zero would be grey and no air.
    """
    return min(0, math.floor(black))


def _ranges(
    image: NDArray[np.float32], corners: NDArray[np.int64], patch_size: Sequence[int], fill: int
) -> NDArray[np.float32]:
    """Lowest and highest intensity (N, 2) of the patches at the corners, with `fill` for what overhangs."""
    patches = (cut(image, corner, patch_size, fill) for corner in corners.tolist())
    return np.array([(patch.min(), patch.max()) for patch in patches], dtype=np.float32).reshape(-1, 2)


def _refuse_leak(stored: Sequence[StoredSubject]) -> None:
    """The same scan in training and test would make the test a matter of memory."""
    *earlier, last = stored
    for other in earlier:
        if other.image == last.image and other.split != last.split:
            raise InputError(
                f"subjects {other.key!r} ({other.split}) and {last.key!r} ({last.split}) have the same image voxel "
                "for voxel; keep one of them"
            )


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
