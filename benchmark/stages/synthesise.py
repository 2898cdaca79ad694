"""Labelled pairs of a trained generator."""

import numpy as np
from numpy.lib.format import open_memmap

from benchmark.artifacts.generators import kept_folder, load_generator
from benchmark.artifacts.options import SynthesiseOptions
from benchmark.artifacts.pairs import describe_pairs, encoded
from benchmark.artifacts.values import PairsValues
from benchmark.stages.context import Context, throttled

__all__ = ["synthesise_pairs"]


def synthesise_pairs(context: Context[SynthesiseOptions]) -> PairsValues:
    """Write `images.npy` (N, X, Y, Z) int16, `encoded`, `labels.npy` bool, and some pairs to be shown.

    With the option `at`, they are of the generator as it was after that share of its training.
    """
    options, trained = context.options, context.inputs["gan"]
    folder = kept_folder(trained, options["at"]) if "at" in options else trained
    _, sampler = load_generator(folder, context.recipe, context.device)
    count = int(options["pairs"])
    shape = (count, *sampler.patch_size)
    images = open_memmap(context.folder / "images.npy", "w+", np.int16, shape)
    labels = open_memmap(context.folder / "labels.npy", "w+", np.bool_, shape)
    progress, done = throttled(context.progress), 0
    for pairs in sampler.sample(count, seed=options["seed"], batch=options["batch"]):
        end = done + len(pairs.images)
        images[done:end] = encoded(pairs.images)
        labels[done:end] = pairs.labels
        done = end
        progress(done, count, "synthetic pairs")
    images.flush()
    labels.flush()
    return describe_pairs(context.folder, images, labels)
