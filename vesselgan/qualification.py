"""Is a feature extractor fit to score generated patches? Degrade real ones on purpose, and see what its distances say.

The real patches of one half of the subjects are the reference, those of the other half are what a perfect generator
would make: their distance is the floor. From there it has to grow with every step of a degradation: blur, noise,
erased vessels, and modes (levels of the head) that are dropped.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from vesselgan.data import LoadedSubject, apply_range, cut, patch_corners, robust_range
from vesselgan.metrics.topology import NEIGHBOURS_26

__all__ = ["LADDERS", "PatchSet", "Qualification", "cut_patches", "degrade", "qualify"]

Images: TypeAlias = NDArray[np.float32]
Features: TypeAlias = NDArray[np.float64]
Distance: TypeAlias = Callable[[Features, Features], float]

# Levels of each degradation, from slight to strong; level 0, the floor, stands before the first.
LADDERS: Mapping[str, Sequence[float]] = {
    "blur": (0.5, 0.75, 1.0, 1.5),  # sigma, voxels
    "noise": (0.05, 0.1, 0.2, 0.4),  # SD, on images in [-1, 1]
    "erased vessels": (0.25, 0.5, 0.75, 1.0),  # share of the vessels' pieces
    "dropped modes": (0.25, 0.5, 0.75),  # share of the levels of the head
}
_MODES = 8
_BATCH = 16


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Labelled real patches that know where they come from."""

    images: Images  # (N, X, Y, Z) in [-1, 1]
    labels: NDArray[np.bool_]  # (N, X, Y, Z), vessels
    subjects: NDArray[np.intp]  # (N,)
    places: NDArray[np.float64]  # (N, 3), the patch's centre over the volume's size

    def of(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "PatchSet":
        """Some of them."""
        return PatchSet(self.images[rows], self.labels[rows], self.subjects[rows], self.places[rows])


@dataclass(frozen=True)
class Qualification:
    """What one extractor made of one draw of subjects and patches."""

    floor: float  # real against real, different subjects
    distances: Mapping[str, Sequence[float]]  # degradation -> a distance per level

    def grows(self, degradation: str) -> bool:
        """Whether the floor and each further level lie strictly above one another."""
        steps = (self.floor, *self.distances[degradation])
        return all(lower < higher for lower, higher in pairwise(steps))

    @property
    def passed(self) -> bool:
        """Whether the distance grows with every degradation."""
        return all(self.grows(degradation) for degradation in self.distances)

    @property
    def separation(self) -> float:
        """The weakest degradation over the floor: above 1 it is seen at all, and the more the better."""
        return min(levels[0] for levels in self.distances.values()) / self.floor


def cut_patches(
    subjects: Iterable[LoadedSubject],
    patch_size: Sequence[int],
    *,
    grid: Sequence[int] | None,
    vessel: int,
    rng: np.random.Generator,
) -> PatchSet:
    """Patches of each subject as `patch_corners` places them, on one scale per volume."""
    images, labels, owners, places = [], [], [], []
    for number, subject in enumerate(subjects):
        corners = patch_corners(subject.label, patch_size, grid=grid, vessel=vessel, rng=rng)
        low, high = robust_range(subject.image)
        images += [apply_range(cut(subject.image, corner, patch_size, fill=low), low, high) for corner in corners]
        labels += [cut(subject.label, corner, patch_size) for corner in corners]
        places.append((corners + np.asarray(patch_size) / 2) / subject.image.shape)
        owners.append(np.full(len(corners), number))
    return PatchSet(np.stack(images), np.stack(labels), np.concatenate(owners), np.concatenate(places))


def qualify(
    extractor: Callable[[Iterable[Images]], Features],
    patches: PatchSet,
    distances: Mapping[str, Distance],
    *,
    count: int,
    seed: int,
    ladders: Mapping[str, Sequence[float]] = LADDERS,
) -> dict[str, Qualification]:
    """Score `count` real patches of half of the subjects against `count` patches of the other half, degraded.

    Each of `distances` takes the reference's features and the others'; lower is nearer. The subjects of both halves,
    and the patches, are drawn with `seed`. Every level has the same number of patches, since distances are biased by
    it. Raises ValueError where there are too few patches to drop modes and keep that number.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(patches.subjects))
    halves = [patches.of(np.isin(patches.subjects, part)) for part in (names[::2], names[1::2])]
    reference = extractor(_batches(_drawn(halves[0], count, rng).images))
    candidates = halves[1]
    chosen = _drawn(candidates, count, rng)
    ladder_features: dict[str, list[Features]] = {}
    for name, levels in ladders.items():
        if name == "dropped modes":
            # From one end of the head: whole levels, in an order in which each loss adds to the one before. (Of modes
            # lost in any order, a later one can bring the mean back to where it was.)
            levels_kept = _levels(candidates) if rng.random() < 0.5 else _MODES - 1 - _levels(candidates)
            kept = [candidates.of(levels_kept >= round(share * _MODES)) for share in levels]
            images: Iterator[Images] = iter([_drawn(rest, count, rng).images for rest in kept])
        else:
            # One draw of noise for all levels: each is the one before it, made worse.
            images = _degraded(chosen, name, levels, int(rng.integers(2**32)))
        ladder_features[name] = [extractor(_batches(level)) for level in images]
    intact = extractor(_batches(chosen.images))
    return {
        metric: Qualification(
            distance(reference, intact),
            {name: [distance(reference, level) for level in levels] for name, levels in ladder_features.items()},
        )
        for metric, distance in distances.items()
    }


def _degraded(patches: PatchSet, kind: str, levels: Sequence[float], seed: int) -> Iterator[Images]:
    return (degrade(patches, kind, level, seed=seed) for level in levels)


def degrade(patches: PatchSet, kind: str, level: float, *, seed: int) -> Images:
    """The images (N, X, Y, Z), made worse: `blur`, `noise` or `erased vessels` (see LADDERS); level 0 changes nothing.

    The same seed at two levels erases pieces that the higher level erases too, and adds the same noise, scaled.
    """
    rng = np.random.default_rng(seed)
    if kind == "blur":
        return np.asarray(scipy.ndimage.gaussian_filter(patches.images, (0, level, level, level), mode="nearest"))
    if kind == "noise":
        noise = rng.standard_normal(patches.images.shape, dtype=np.float32)
        return np.clip(patches.images + np.float32(level) * noise, -1, 1)
    if kind == "erased vessels":
        return np.stack(
            [_without(image, mask, level, rng) for image, mask in zip(patches.images, patches.labels, strict=True)]
        )
    raise ValueError(f"kind must be blur, noise or erased vessels, but is {kind!r}")


def _without(image: Images, mask: NDArray[np.bool_], share: float, rng: np.random.Generator) -> Images:
    """A patch with a share of its vessels' connected pieces replaced by what is around them, noise included."""
    pieces, count = scipy.ndimage.label(mask, NEIGHBOURS_26)
    fate = np.append(1.0, rng.random(count))  # piece 0 is the background
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    erased = scipy.ndimage.binary_dilation((fate < share)[pieces], iterations=1)  # partial volume lies one voxel around
    outside = ~scipy.ndimage.binary_dilation(mask, iterations=1)
    if not erased.any() or not outside.any():
        return image
    weight = scipy.ndimage.gaussian_filter(outside.astype(np.float32), 2.0)
    around = scipy.ndimage.gaussian_filter(np.where(outside, image, 0), 2.0) / np.maximum(weight, 1e-3)
    # Far from any background (weight near 0) the patch's own background stands in.
    filling = np.where(weight > 1e-2, around, image[outside].mean())
    grain = float((image - around)[outside].std())
    filled = np.clip(filling + np.float32(grain) * noise, -1, 1).astype(np.float32)
    return np.where(erased, filled, image)


def _levels(patches: PatchSet) -> NDArray[np.intp]:
    """(N,) which of eight equally large groups, from the neck to the crown, each patch belongs to."""
    rank = np.empty(len(patches.images), np.intp)
    rank[np.lexsort(patches.places.T)] = np.arange(len(rank))  # the last axis is the first key
    return rank * _MODES // len(rank)


def _drawn(patches: PatchSet, count: int, rng: np.random.Generator) -> PatchSet:
    available = len(patches.images)
    if available < count:
        raise ValueError(f"count must be at most {available}, the patches that are left, but is {count}")
    return patches.of(np.sort(rng.choice(available, count, replace=False)))


def _batches(images: Images) -> Iterator[Images]:
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]
