"""Somebody else's labelled patches, stored as the pairs of a generator are."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from benchmark.artifacts.options import ImportOptions
from benchmark.artifacts.pairs import describe_pairs, encoded
from benchmark.artifacts.values import PairsValues
from benchmark.stages.context import Context, throttled
from vesselgan.data.patch_folder import open_patches
from vesselgan.errors import InputError

__all__ = ["import_pairs"]

BATCH = 16


def import_pairs(context: Context[ImportOptions]) -> PairsValues:
    """Write `images.npy`, `labels.npy` and `shown.npz` as `synthesise` does; intensities get one scale per folder.

    The pairs lie in a random order, as synthetic ones do: whoever takes the first of them takes a fair sample, where a
    folder's own order would give the patches of its first subjects.
    Raises InputError for files that are no labelled patches of the profile's size.
    """
    folder = Path(context.where["folder"])
    intensities = context.options["intensities"]
    ends = None if intensities is None else (intensities[0], intensities[1])
    patches = open_patches(
        folder,
        "external:",
        nan=context.options.get("nan"),
        intensity_range=ends,
        labelled=True,
    )
    wanted = tuple(context.options["patch"])
    if patches.shape != wanted:
        raise InputError(
            f"{folder}: patches of {patches.shape}, but this profile compares patches of {wanted}; cut them alike"
        )
    shape = (patches.count, *patches.shape)
    images = open_memmap(context.folder / "images.npy", "w+", np.int16, shape)
    labels = open_memmap(context.folder / "labels.npy", "w+", np.bool_, shape)
    progress, done = throttled(context.progress), 0
    places = np.random.default_rng(0).permutation(patches.count)
    for batch in patches.batches(BATCH):
        end = done + len(batch.images)
        images[places[done:end]] = encoded(batch.images)
        labels[places[done:end]] = batch.labels
        done = end
        progress(done, patches.count, "pairs imported")
    images.flush()
    labels.flush()
    return describe_pairs(context.folder, images, labels) | {"intensity_range": list(patches.intensity_range)}
