"""What no single file can show: a label that lies wrongly in its scan, one label or scan that is there twice."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.data import LoadedSubject, Subject

__all__ = ["Suspicions", "better_placed", "scan_like_files"]

_MOST_VESSEL = 0.5  # of a volume; a label above is the background's
_CLEARLY_BRIGHT = 1.0  # SDs by which vessels have to outshine the scan before a label counts as lying on them
_CLEARLY_BETTER = 1.5  # times the contrast of the label as it is
_LOOKED_AT = 16  # places on each axis at which two scans are compared
_SAME = 1e-6  # 1 - correlation
_BETTER_ELSEWHERE = 1.1  # times the contrast in its own scan; of phantoms the right one is 1.15 of any other at least
_BLOCKS = 48  # on each axis, of whose brightest voxels a scan and a label are compared with those of others


class Suspicions:
    """Looks at one subject after the other, and remembers what it takes to recognise it."""

    def __init__(self) -> None:
        self._labels: dict[str, Subject] = {}
        self._scans: list[tuple[Subject, tuple[int, ...], NDArray[np.float64]]] = []
        self._blocks: list[tuple[Subject, tuple[int, ...], NDArray[np.float16], NDArray[np.intp]]] = []

    def of(self, subject: Subject, loaded: LoadedSubject) -> list[str]:
        """A line for each thing that is hardly meant."""
        self._keep_blocks(subject, loaded)
        return [*_inverted(subject, loaded), *_misplaced(subject, loaded), *self._shared_label(subject, loaded)]

    def rescaled(self, subject: Subject, loaded: LoadedSubject) -> list[str]:
        """A line where the scan is another one with other intensities; equal voxels are for others to tell."""
        shape, values = loaded.image.shape, _looked_at(loaded.image)
        lines = []
        for other, other_shape, other_values in self._scans:
            if shape != other_shape or values.std() == 0 or other_values.std() == 0:
                continue
            if np.array_equal(values, other_values) or 1 - abs(np.corrcoef(values, other_values)[0, 1]) > _SAME:
                continue
            slope, offset = np.polyfit(other_values, values, 1)
            added = "" if abs(offset) < 1e-3 * values.std() else f" plus {offset:.3g}"
            lines.append(
                f"{subject.image}: is {other.image} (subject {other.key!r}) times {slope:.3g}{added}; drop one"
            )
            break
        self._scans.append((subject, shape, values))
        return lines

    def exchanged(self) -> list[str]:
        """A line for each label, of all subjects seen so far, that lies on what is bright in another one's scan.

        Compared are scans of one size, by the brightest voxels of blocks, in which vessels stay what they are.
        """
        lines = []
        for subject, shape, own, places in self._blocks:
            now = float(own[places].mean(dtype=np.float64)) if len(places) else 0.0
            others = [
                (float(values[places].mean(dtype=np.float64)), other)
                for other, other_shape, values, _ in self._blocks
                if len(places)
                and other_shape == shape
                and (other.person or other.key) != (subject.person or subject.key)
            ]
            then, other = max(others, key=lambda found: found[0], default=(0.0, subject))
            if then >= _CLEARLY_BRIGHT and then >= _BETTER_ELSEWHERE * now:
                lines.append(
                    f"{subject.label}: lies on brighter voxels of {other.image} (contrast {then:.2f} SD, in its own "
                    f"scan {now:.2f}); is it the label of subject {other.key!r}?"
                )
        return lines

    def _keep_blocks(self, subject: Subject, loaded: LoadedSubject) -> None:
        image, label = (_brightest(values) for values in (loaded.image, loaded.label))
        spread = float(image.std(dtype=np.float64))
        scaled = (image - image.mean(dtype=np.float64)) / (spread or 1.0)
        place = subject, loaded.image.shape, scaled.astype(np.float16).ravel(), np.flatnonzero(label)
        self._blocks.append(place)

    def _shared_label(self, subject: Subject, loaded: LoadedSubject) -> Iterator[str]:
        digest = hashlib.blake2b(np.packbits(loaded.label).tobytes(), person=b"label").hexdigest()
        other = self._labels.setdefault(f"{loaded.label.shape} {digest}", subject)
        if (other.person or other.key) != (subject.person or subject.key):
            yield (
                f"{subject.label}: the same label as {other.label} (subject {other.key!r}), of another scan; "
                "one of the two is not its scan's"
            )


def better_placed(image: NDArray[np.float32], label: NDArray[np.bool_]) -> tuple[str, float, float] | None:
    """How a label has to be turned to lie on what is bright, with its contrast now and then; None if it lies well.

    Vessels are bright in TOF-MRA. Contrast: mean in the label less that of the image, in the image's SDs.
    """
    places = np.argwhere(label)
    mean, spread = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    if not len(places) or spread == 0:
        return None

    def contrast(axes: Sequence[int], mirrored: Sequence[bool]) -> float:
        there = places[:, axes].copy()
        for axis, flip in enumerate(mirrored):
            if flip:
                there[:, axis] = image.shape[axis] - 1 - there[:, axis]
        return (float(image[tuple(there.T)].mean(dtype=np.float64)) - mean) / spread

    found = {
        (axes, mirrored): contrast(axes, mirrored)
        for axes in permutations(range(3))
        if tuple(image.shape[axis] for axis in axes) == image.shape
        for mirrored in product((False, True), repeat=3)
    }
    as_is = ((0, 1, 2), (False, False, False))
    best = max(found, key=lambda way: found[way])
    now, then = found[as_is], found[best]
    if best == as_is or then < _CLEARLY_BRIGHT or then < _CLEARLY_BETTER * now:
        return None
    axes, mirrored = best
    flips = ", ".join(name for name, flip in zip("xyz", mirrored, strict=True) if flip)
    turned = [] if axes == (0, 1, 2) else [f"turned to the axes {', '.join('xyz'[axis] for axis in axes)}"]
    return " and ".join(turned + ([f"mirrored along {flips}"] if flips else [])), now, then


def _inverted(subject: Subject, loaded: LoadedSubject) -> Iterator[str]:
    share = float(loaded.label.mean())
    if share > _MOST_VESSEL:
        yield f"{subject.label}: {share:.0%} of the volume is vessel; is the label inverted?"


def _misplaced(subject: Subject, loaded: LoadedSubject) -> Iterator[str]:
    if float(loaded.label.mean()) > _MOST_VESSEL or (found := better_placed(loaded.image, loaded.label)) is None:
        return
    how, now, then = found
    yield (
        f"{subject.label}: lies on brighter voxels when {how} (contrast {then:.2f} SD, as it is {now:.2f}); "
        "is it turned against its scan?"
    )


def _brightest(volume: NDArray[Any]) -> NDArray[Any]:
    """The greatest voxel of each of _BLOCKS blocks or fewer along each axis."""
    for axis, size in enumerate(volume.shape):
        starts = np.arange(0, size, -(-size // _BLOCKS))
        volume = np.maximum.reduceat(volume, starts, axis=axis)
    return volume


def _looked_at(image: NDArray[np.float32]) -> NDArray[np.float64]:
    places = [np.linspace(0, size - 1, min(size, _LOOKED_AT)).astype(np.intp) for size in image.shape]
    return image[np.ix_(*places)].astype(np.float64).ravel()


def scan_like_files(folder: Path) -> list[Path]:
    """Every file below a folder whose name ends as a scan's does, whichever way it is written; hidden ones are not."""
    endings = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".tre")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(endings)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )
