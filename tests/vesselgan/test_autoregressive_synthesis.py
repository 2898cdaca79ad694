"""Labelled patches from a trained autoregressive generator."""

import numpy as np
import torch

from vesselgan.autoregressive import synthesise_autoregressive
from vesselgan.networks.autoregressive import AutoregressiveGenerator
from vesselgan.synthesis import Pairs
from vesselgan.training import choose_precision


def made(count: int, **options: int) -> Pairs:
    torch.manual_seed(3)
    generator = AutoregressiveGenerator((32, 16, 16), filters=8)
    options = {"seed": 1, "batch": 4, **options}
    torch.manual_seed(options["seed"] + 7)  # the caller's random numbers are nobody's business
    batches = synthesise_autoregressive(generator, count, precision=choose_precision("fp32", "cpu"), **options)
    return Pairs(*map(np.concatenate, zip(*batches, strict=True)))


def test_pairs_are_images_in_range_with_binary_labels() -> None:
    pairs = made(6)
    assert pairs.images.shape == pairs.labels.shape == (6, 32, 16, 16)
    assert pairs.images.dtype == np.float32
    assert pairs.labels.dtype == bool
    assert np.abs(pairs.images).max() <= 1


def test_a_patch_depends_on_seed_and_place_and_not_on_how_many_there_are() -> None:
    all_of_them, fewer, later = made(8), made(5), made(8, start=4)
    assert np.array_equal(fewer.images, all_of_them.images[:5])
    assert np.array_equal(later.images, all_of_them.images[4:])
    assert np.array_equal(later.labels, all_of_them.labels[4:])
    assert not np.array_equal(made(1, seed=2).images, all_of_them.images[:1])
