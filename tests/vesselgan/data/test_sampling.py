"""Batches as a function of the step."""

import numpy as np
import pytest

from vesselgan.data import EpochSampler


def epoch(sampler: EpochSampler, number: int) -> list[np.ndarray]:
    first = number * sampler.steps_per_epoch
    return [sampler(step) for step in range(first, first + sampler.steps_per_epoch)]


def test_every_epoch_shows_each_sample_once_in_another_order() -> None:
    sampler = EpochSampler(12, 4, seed=0, drop_last=True)
    first, second = (np.concatenate(epoch(sampler, number)) for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(12))
    assert not np.array_equal(first, second)


def test_d13_decides_about_the_last_short_batch() -> None:
    assert [len(batch) for batch in epoch(EpochSampler(10, 4, seed=0, drop_last=True), 0)] == [4, 4]
    assert [len(batch) for batch in epoch(EpochSampler(10, 4, seed=0, drop_last=False), 0)] == [4, 4, 2]


def test_the_papers_epoch_has_588_steps_the_last_of_two() -> None:
    sampler = EpochSampler(2350, 4, seed=990, drop_last=False)
    assert sampler.steps_per_epoch == 588
    assert len(sampler(587)) == 2


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    forwards, backwards = (EpochSampler(10, 3, seed=5, drop_last=True) for _ in range(2))
    steps = range(20)
    expected = [forwards(step) for step in steps]
    for step in reversed(steps):
        np.testing.assert_array_equal(backwards(step), expected[step])


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert sorted(EpochSampler(3, 8, seed=0, drop_last=True)(7)) == [0, 1, 2]


@pytest.mark.parametrize(("samples", "batch"), [(0, 4), (4, 0)])
def test_nothing_cannot_be_drawn_from(samples: int, batch: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EpochSampler(samples, batch, seed=0, drop_last=True)
