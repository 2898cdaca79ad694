"""Which patches are cut, what overhangs, and the two ways of scaling intensities."""

import numpy as np
import pytest

from vesselgan.data import (
    apply_range,
    cut,
    grid_corners,
    minmax_scale,
    patch_corners,
    robust_range,
    vessel_corners,
)
from vesselgan.errors import InputError

PAPER_SHAPE, PAPER_PATCH, PAPER_GRID = (312, 384, 127), (128, 128, 64), (3, 3, 2)


@pytest.fixture
def label() -> np.ndarray:
    label = np.zeros((20, 24, 10), bool)
    label[0, 0, 0] = label[19, 23, 9] = label[10, 5:9, 3] = True
    return label


def test_the_grid_has_the_papers_18_patches_and_they_cover_the_volume():
    corners = grid_corners(PAPER_SHAPE, PAPER_PATCH, PAPER_GRID)
    assert corners.shape == (18, 3)
    np.testing.assert_array_equal(corners, grid_corners(PAPER_SHAPE, PAPER_PATCH))  # the fewest that cover
    for axis, (size, patch) in enumerate(zip(PAPER_SHAPE, PAPER_PATCH, strict=True)):
        starts = np.unique(corners[:, axis])
        assert starts[0] == 0
        assert starts[-1] == size - patch
        assert np.diff(starts).max() <= patch


def test_the_paper_takes_50_patches_a_patient():
    label = np.zeros(PAPER_SHAPE, bool)
    label[100:200, 200, 60] = True
    corners = patch_corners(label, PAPER_PATCH, grid=PAPER_GRID, vessel=32, rng=np.random.default_rng(0))
    assert corners.shape == (50, 3)


def test_a_patch_larger_than_the_volume_is_centred():
    np.testing.assert_array_equal(grid_corners((10, 20, 8), (16, 16, 8), (2, 2, 2)), [[-3, 0, 0], [-3, 4, 0]])


def test_a_single_patch_on_an_axis_lies_in_the_middle():
    np.testing.assert_array_equal(grid_corners((10, 10, 10), (4, 4, 4), (1, 1, 1)), [[3, 3, 3]])


def test_vessel_patches_have_a_vessel_voxel_in_the_centre(label):
    patch_size = (8, 6, 4)
    corners = vessel_corners(label, patch_size, 50, np.random.default_rng(0))  # more than there are vessel voxels
    assert len(corners) == 50
    for corner in corners:
        assert cut(label, corner, patch_size)[4, 3, 2]


def test_vessel_patches_are_distinct_while_there_are_voxels(label):
    assert len(np.unique(vessel_corners(label, (8, 6, 4), 6, np.random.default_rng(0)), axis=0)) == 6


def test_corners_depend_on_the_generator_alone(label):
    first, again, other = (
        patch_corners(label, (8, 8, 4), grid=None, vessel=4, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_label_without_vessels_cannot_centre_patches():
    empty = np.zeros((8, 8, 8), bool)
    with pytest.raises(InputError, match="label without vessels"):
        vessel_corners(empty, (4, 4, 4), 1, np.random.default_rng(0))
    assert len(patch_corners(empty, (4, 4, 4), grid=None, vessel=0, rng=np.random.default_rng(0))) == 8


def test_what_overhangs_the_border_is_zero():
    volume = np.arange(1, 61, dtype=np.int16).reshape(3, 4, 5)
    patch = cut(volume, (-1, 2, 3), (3, 4, 4))
    assert patch.dtype == volume.dtype
    np.testing.assert_array_equal(patch[1:, :2, :2], volume[:2, 2:, 3:])
    assert patch[0].max() == patch[:, 2:].max() == patch[:, :, 2:].max() == 0
    assert not cut(volume, (10, -20, 0), (3, 4, 4)).any()


def test_a_cut_is_a_copy():
    volume = np.zeros((4, 4, 4))
    cut(volume, (0, 0, 0), (2, 2, 2))[:] = 1
    assert not volume.any()


def test_minmax_takes_each_patch_from_minus_one_to_one():
    scaled = minmax_scale(np.array([10, 20, 30], dtype=np.int16))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-1, 0, 1])
    np.testing.assert_array_equal(minmax_scale(np.full(3, 7.0)), [-1, -1, -1])


def test_the_robust_range_ignores_spikes_and_clips_them():
    volume = np.random.default_rng(0).normal(100, 10, size=100_000)
    volume[:20] = 1e6
    low, high = robust_range(volume)
    assert 60 < low < 80
    assert 120 < high < 160
    np.testing.assert_array_equal(apply_range(np.array([low, high, 1e6, -1e6]), low, high), [-1, 1, 1, -1])
    assert apply_range(volume, low, high).dtype == np.float32


def test_a_nearly_empty_volume_still_has_a_range():
    volume = np.zeros(10_000)
    volume[0] = 5
    assert robust_range(volume) == (0, 5)
    np.testing.assert_array_equal(apply_range(np.ones(2), 3, 3), [-1, -1])
