"""Labelled patches of phantoms with random looks, stored as the pairs of a generator are."""

import math

import numpy as np
from numpy.lib.format import open_memmap

from benchmark.artifacts.options import SimulateOptions
from benchmark.artifacts.pairs import describe_pairs, encoded
from benchmark.artifacts.values import PairsValues
from benchmark.stages.context import Context
from vesselgan.data import open_store, phantom_shape, procedural_patches

__all__ = ["simulate_pairs"]


def simulate_pairs(context: Context[SimulateOptions]) -> PairsValues:
    """Write `images.npy`, `labels.npy` and `shown.npz` as `synthesise` does, in a random order.

    Of the data only the voxel size is used, the median of the training subjects': no image and no label of a patient
    has a part in it.
    """
    store = open_store(context.inputs["data"] / "store")
    shape = phantom_shape(store.usual_spacing_mm("train"))
    options = context.options
    subjects, patch, seed, patches = options["subjects"], options["patch"], options["seed"], options["patches"]
    count = subjects * (math.prod(patches["grid"]) + patches["vessel"])
    images = open_memmap(context.folder / "images.npy", "w+", np.int16, (count, *patch))
    labels = open_memmap(context.folder / "labels.npy", "w+", np.bool_, (count, *patch))
    places = np.random.default_rng(seed).permutation(count).reshape(subjects, -1)
    for subject in range(subjects):
        context.progress(subject, subjects, "phantoms")
        made, vessels = procedural_patches(shape, patch, subject=subject, seed=seed, **patches)
        images[places[subject]], labels[places[subject]] = encoded(made), vessels
    images.flush()
    labels.flush()
    return describe_pairs(context.folder, images, labels) | {"shape": shape}
