"""Batches as a function of the step."""

import numpy as np
import pytest

from vesselgan.data import EpochSampler, PlaceSampler


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


LABELS = [np.zeros((20, 12, 9), np.bool_), np.zeros((8, 30, 9), np.bool_), np.zeros((10, 10, 3), np.bool_)]
LABELS[0][3, 4, 5] = LABELS[0][19, 11, 8] = LABELS[1][0, 0, 0] = True


def test_places_are_around_vessels_and_a_subject_without_any_is_seen_too() -> None:
    sampler = PlaceSampler(LABELS, (8, 8, 4), 40, anywhere=0.0, seed=1)
    places = np.concatenate([sampler(step) for step in range(5)])
    corners = {number: {tuple(row[1:]) for row in places.tolist() if row[0] == number} for number in range(3)}
    assert corners[0] == {(3 - 4, 4 - 4, 5 - 2), (19 - 4, 11 - 4, 8 - 2)}
    assert corners[1] == {(-4, -4, -2)}
    assert corners[2] == {(x, y, -1) for x in range(3) for y in range(3)}, "the third axis is too short: centred"
    assert np.bincount(places[:, 0]).min() > 40, "of 200 places, each subject has about a third"


def test_places_from_anywhere_fill_the_volume_and_no_step_depends_on_another() -> None:
    sampler = PlaceSampler(LABELS[:1], (8, 8, 4), 64, anywhere=1.0, seed=1)
    places = np.concatenate([sampler(step) for step in range(20)])[:, 1:]
    assert places.min(axis=0).tolist() == [0, 0, 0]
    assert places.max(axis=0).tolist() == [12, 4, 5]
    np.testing.assert_array_equal(sampler(3), places[3 * 64 : 4 * 64] @ np.eye(3, 4, 1, dtype=int))
    assert not np.array_equal(sampler(3), sampler(4))


def test_a_share_of_places_is_from_anywhere() -> None:
    sampler = PlaceSampler(LABELS[1:2], (8, 8, 4), 100, anywhere=0.3, seed=0)
    places = np.concatenate([sampler(step) for step in range(20)])
    assert np.mean(places[:, 1] == -4) == pytest.approx(0.7, abs=0.04)
