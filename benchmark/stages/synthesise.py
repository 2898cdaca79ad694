"""Labelled pairs of a trained generator."""

import json
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from safetensors.torch import load_file

from benchmark.artifacts.pairs import describe_pairs, encoded
from benchmark.artifacts.values import PairsValues
from benchmark.stages.context import Context, throttled
from vesselgan.networks import Generator
from vesselgan.synthesis import synthesise
from vesselgan.training import choose_precision

__all__ = ["load_generator", "synthesise_pairs"]


def load_generator(folder: Path, device: str) -> tuple[Generator, str]:
    """The generator of a finished `train_gan` folder, and the precision that it was trained in."""
    facts = json.loads((folder / "generator.json").read_text())
    generator = Generator(facts["patch_size"], facts["filters"], facts["latent"])
    generator.load_state_dict(load_file(folder / "generator.safetensors"))
    return generator.to(device), facts["precision"]


def synthesise_pairs(context: Context) -> PairsValues:
    """Write `images.npy` (N, X, Y, Z) int16, `encoded`, `labels.npy` bool, and some pairs to be shown."""
    options = context.options
    generator, precision = load_generator(context.inputs["gan"], context.device)
    count = int(options["pairs"])
    shape = (count, *generator.patch_size)
    images = open_memmap(context.folder / "images.npy", "w+", np.int16, shape)
    labels = open_memmap(context.folder / "labels.npy", "w+", np.bool_, shape)
    progress, done = throttled(context.progress), 0
    batches = synthesise(
        generator,
        count,
        seed=options["seed"],
        recipe=context.recipe,
        precision=choose_precision(precision, context.device),
        batch=options["batch"],
    )
    for pairs in batches:
        end = done + len(pairs.images)
        images[done:end] = encoded(pairs.images)
        labels[done:end] = pairs.labels
        done = end
        progress(done, count, "synthetic pairs")
    images.flush()
    labels.flush()
    return describe_pairs(context.folder, images, labels)
