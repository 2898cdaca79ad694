"""A real patch, a synthetic one and its nearest real one, each of median quality: what is typical, not what is best."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import map_array
from benchmark.artifacts.roles import Role
from benchmark.report.pictures import Picture, grey_picture, mask_picture
from benchmark.report.sections.figures import plane_spacing, run_store
from benchmark.report.sections.text import ArmMark
from benchmark.results.format import Results
from benchmark.results.median_patches import LOOKED_AT
from benchmark.results.run_folder import Run
from vesselgan.data import VolumeStore

__all__ = ["MedianPatch", "MedianPatches", "median_patches"]

REAL_COLOUR = "#c9c9c9"
RULE = (
    "Each has the median distance to its nearest training patch, among up to "
    f"{LOOKED_AT} patches: half of them lie nearer, half farther. Distances are between block means of the patches, "
    "each with mean 0 and SD 1, mirrored or not."
)


@dataclass(frozen=True)
class MedianPatch:
    """Projections of image and vessel label, with what they are."""

    title: str
    about: str
    image: Picture
    mask: Picture


@dataclass(frozen=True)
class MedianPatches:
    """The three of them, of one arm and seed, and the rule that chose them."""

    arm: ArmMark
    seed: int
    patches: tuple[MedianPatch, ...]
    rule: str = RULE


def median_patches(run: Run, results: Results, marks: Mapping[str, ArmMark]) -> MedianPatches | None:
    """Those of results.json; None where none were chosen, or the volumes are no longer there."""
    chosen, store = results["median_patches"], run_store(run)
    if chosen is None or store is None:
        return None
    record = next(record for record in run.cells if record["cell"]["id"] == chosen["cell"])
    images, labels = (run.file(record, Role.PAIRS, f"{name}.npy") for name in ("images", "labels"))
    if images is None or labels is None:
        return None
    mark, spacing, row = marks[chosen["label"]], plane_spacing(run), chosen["synthetic"]["row"]
    made = decoded(np.asarray(map_array(images)[row])), np.asarray(map_array(labels)[row])
    real, near = _real(store, chosen["real"]["row"]), _real(store, chosen["nearest"]["row"])
    patches = (
        _patch("real", f"of a subject held out, {chosen['real']['distance']:.3g} away", real, spacing),
        _patch("synthetic", f"{mark.name}, {chosen['synthetic']['distance']:.3g} away", made, spacing, mark.colour),
        _patch("nearest real", "the training patch nearest to the synthetic one", near, spacing),
    )
    return MedianPatches(mark, chosen["seed"], patches)


def _real(store: VolumeStore, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    images, labels = store.cut_pairs([int(row)], "volume")
    return images[0], labels[0].astype(bool)


def _patch(
    title: str,
    about: str,
    pair: tuple[NDArray[np.float32], NDArray[np.bool_]],
    spacing: tuple[float, float],
    colour: str = REAL_COLOUR,
) -> MedianPatch:
    image, label = pair
    return MedianPatch(
        title,
        about,
        grey_picture(image.max(axis=2), spacing, f"{title}: image of median distance", unit=True),
        mask_picture(np.any(label, axis=2), spacing, colour, f"{title}: label of median distance"),
    )
