"""Synthetic pairs: how many, how they are drawn, and deviation D7."""

import numpy as np
import pytest
import torch

from vesselgan import Generator
from vesselgan.errors import InputError
from vesselgan.recipe import CORRECTED, Recipe
from vesselgan.synthesis import synthesise
from vesselgan.training import choose_precision
from vesselgan.training.randomness import generator_for

FP32 = choose_precision("fp32", "cpu")


def varied_generator() -> Generator:
    """Untrained, but with statistics of its own and both channels spread over [-1, 1]."""
    torch.manual_seed(0)
    generator = Generator((16, 16, 16), filters=32)
    with torch.no_grad():
        generator.output.weight *= 20
        generator(torch.randn(16, 128))
    return generator


def pairs(count: int, *, batch: int = 4, seed: int = 0, recipe: Recipe = CORRECTED) -> tuple[np.ndarray, np.ndarray]:
    batches = list(synthesise(varied_generator(), count, seed=seed, recipe=recipe, precision=FP32, batch=batch))
    return np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches])


def test_as_many_pairs_come_as_were_asked_for() -> None:
    images, labels = pairs(6)
    assert images.shape == labels.shape == (6, 16, 16, 16)
    assert images.dtype == np.float32
    assert labels.dtype == np.bool_
    assert np.abs(images).max() <= 1


def test_fewer_pairs_are_the_first_of_more() -> None:
    np.testing.assert_array_equal(pairs(5)[0], pairs(8)[0][:5])


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_pairs_from_a_later_start_are_those_of_the_whole(statistics: str) -> None:
    options = {"seed": 0, "recipe": Recipe(generation_statistics=statistics), "precision": FP32, "batch": 4}
    whole = np.concatenate([batch.images for batch in synthesise(varied_generator(), 10, **options)])
    late = np.concatenate([batch.images for batch in synthesise(varied_generator(), 10, **options, start=4)])
    np.testing.assert_array_equal(late, whole[4:])


def test_seeds_give_other_pairs_and_repeat_their_own() -> None:
    np.testing.assert_array_equal(pairs(4)[0], pairs(4)[0])
    assert not np.array_equal(pairs(4)[0], pairs(4, seed=1)[0])


def test_d7_decides_whether_a_pair_depends_on_its_batch() -> None:
    """Alone in the last place or not, a pair is the same with running statistics only."""

    def first(statistics: str, batch: int) -> np.ndarray:
        recipe = Recipe(generation_statistics=statistics)
        return pairs(batch, batch=batch, recipe=recipe)[0][0]

    # The first sample of both batch sizes has the same noise.
    np.testing.assert_allclose(first("running", 2), first("running", 6), atol=1e-5)
    assert np.abs(first("batch", 2) - first("batch", 6)).max() > 1e-3


def test_batch_statistics_leave_the_running_ones_alone() -> None:
    generator = varied_generator()
    before = generator.norm.running_mean.clone()
    list(synthesise(generator, 4, seed=0, recipe=Recipe(generation_statistics="batch"), precision=FP32, batch=4))
    assert torch.equal(generator.norm.running_mean, before)


@pytest.mark.parametrize("threshold", [0.4, 0.0])
def test_d8_sets_the_threshold_of_a_label(threshold: float) -> None:
    generator = varied_generator().eval()
    with torch.inference_mode():
        channel = generator(torch.randn(3, 128, generator=generator_for(0, 0, "synthesis")))[:, 1].numpy()
    (batch,) = synthesise(generator, 3, seed=0, recipe=Recipe(label_threshold=threshold), precision=FP32, batch=3)
    np.testing.assert_array_equal(batch.labels, channel > threshold)
    assert (channel > 0.4).sum() < (channel > 0.0).sum()


def test_weights_that_are_numbers_but_make_none_give_no_pairs() -> None:
    generator = varied_generator()
    with torch.no_grad():
        generator.blocks[2][0].weight.fill_(1e38)
        generator.output.weight.fill_(1e38)
    assert all(torch.isfinite(tensor).all() for tensor in generator.state_dict().values())
    with pytest.raises(InputError, match="pairs from 0 on hold NaN or infinity, though its weights are numbers"):
        list(synthesise(generator, 4, seed=0, recipe=CORRECTED, precision=FP32, batch=4))
