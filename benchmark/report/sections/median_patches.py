"""A real patch, a synthetic one and its nearest real one, each of median quality: what is typical, not what is best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.pairs import decoded
from benchmark.report.pictures import Picture, grey_picture, mask_picture
from benchmark.report.sections.figures import plane_spacing, run_store
from benchmark.report.sections.text import LabelMark
from benchmark.results.run_folder import Run
from benchmark.scoring.patch_sets import standardised
from vesselgan.data import VolumeStore
from vesselgan.metrics import block_means, mirrored, nearest_training

__all__ = ["MedianPatch", "MedianPatches", "median_patches"]

LOOKED_AT = 200  # patches of each kind: a median of more is hardly another
REAL_LABEL = "#c9c9c9"
RULE = (
    "Each has the median distance to its nearest training patch, among up to "
    f"{LOOKED_AT} patches: half of them lie nearer, half farther. Distances are between block means of the patches, "
    "each with mean 0 and SD 1, mirrored or not."
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MedianPatch:
    """Projections of image and label, with what they are."""

    title: str
    about: str
    image: Picture
    mask: Picture


@dataclass(frozen=True)
class MedianPatches:
    """The three of them, of one label and seed, and the rule that chose them."""

    label: LabelMark
    seed: int
    patches: tuple[MedianPatch, ...]
    rule: str = RULE


@dataclass(frozen=True, eq=False)
class _Median:
    """Which patch of a set has the median distance to the training patches, and which one is nearest to it."""

    index: int
    nearest: int
    distance: float


def median_patches(run: Run, answer: Mapping[str, Any] | None, marks: Mapping[str, LabelMark]) -> MedianPatches | None:
    """Of the answer's label, its first seed whose pairs are made and whose reference is there; None without one."""
    store = run_store(run)
    records = [r for r in run.cells if answer and r["cell"]["label"] == answer["label"]]
    for record in records:
        paths = [run.file(record, "pairs", "images.npy"), run.file(record, "pairs", "labels.npy")]
        paths += [run.file(record, "reference", f"{name}.npz") for name in ("train", "held_out")]
        if store is None or any(path is None for path in paths):
            continue
        images, labels = (np.load(str(path), mmap_mode="r") for path in paths[:2])
        with np.load(str(paths[2])) as train, np.load(str(paths[3])) as held_out:
            training = _rows(train["blocks"])
            rows = np.sort(np.random.default_rng(0).permutation(len(held_out["blocks"]))[:LOOKED_AT])
            real = _median(held_out["blocks"][rows], training)
            synthetic = _median(block_means(decoded(images[:LOOKED_AT])), training)
            real_row, near_row = held_out["indices"][rows[real.index]], train["indices"][synthetic.nearest]
        mark = marks[record["cell"]["label"]]
        spacing = plane_spacing(run)
        made = decoded(np.asarray(images[synthetic.index])), np.asarray(labels[synthetic.index])
        patches = (
            _patch("real", f"of a subject held out, {real.distance:.3g} away", _real(store, real_row), spacing),
            _patch("synthetic", f"{mark.name}, {synthetic.distance:.3g} away", made, spacing, mark.colour),
            _patch("nearest real", "the training patch nearest to the synthetic one", _real(store, near_row), spacing),
        )
        return MedianPatches(mark, record["cell"]["seed"], patches)
    return None


def _rows(blocks: Floats) -> Floats:
    """(N, d) of block means (N, x, y, z)."""
    return standardised(blocks).reshape(len(blocks), -1)


def _median(blocks: Floats, training: Floats) -> _Median:
    found = nearest_training(mirrored(standardised(blocks)), training)
    index = int(np.argsort(found.distances, kind="stable")[(len(found.distances) - 1) // 2])
    return _Median(index, int(found.rows[index]), float(found.distances[index]))


def _real(store: VolumeStore, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    images, labels = store.cut_pairs([int(row)], "volume")
    return images[0], labels[0].astype(bool)


def _patch(
    title: str,
    about: str,
    pair: tuple[NDArray[np.float32], NDArray[np.bool_]],
    spacing: tuple[float, float],
    colour: str = REAL_LABEL,
) -> MedianPatch:
    image, label = pair
    return MedianPatch(
        title,
        about,
        grey_picture(image.max(axis=2), spacing, f"{title}: image of median distance", unit=True),
        mask_picture(np.any(label, axis=2), spacing, colour, f"{title}: label of median distance"),
    )
