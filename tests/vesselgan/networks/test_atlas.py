"""The atlas: what training heads have in common, and where a patch finds it."""

import numpy as np
import pytest
import torch

from vesselgan.networks.atlas import ATLAS_SHAPE, atlas_at, atlas_intensities, atlas_of

SHAPE = tuple(2 * axis for axis in ATLAS_SHAPE)


def test_its_features_are_mean_spread_and_frequency_over_volumes_of_any_shape() -> None:
    dark, bright = np.full(SHAPE, -0.5, dtype=np.float32), np.full(ATLAS_SHAPE, 0.3, dtype=np.float32)
    few, none = np.zeros(SHAPE, dtype=bool), np.zeros(ATLAS_SHAPE, dtype=bool)
    few[:2, :2, 0] = True  # half of one cell
    atlas = atlas_of([(dark, few), (bright, none)])
    assert atlas.shape == (3, *ATLAS_SHAPE)
    assert atlas[0].numpy() == pytest.approx((0.5 + 1.3) / 2)
    assert atlas[1].numpy() == pytest.approx(0.4)
    assert atlas[2, 0, 0, 0].item() == pytest.approx(0.5)  # the root of a quarter
    assert atlas[2].count_nonzero() == 1


def test_mirrored_along_an_axis_it_is_symmetric_there_alone() -> None:
    rng = np.random.default_rng(0)
    volume = (rng.uniform(-1, 1, SHAPE).astype(np.float32), rng.random(SHAPE) < 0.1)
    both = (atlas_of([volume, tuple(part[::-1] for part in volume)]), atlas_of([volume], [0]))
    torch.testing.assert_close(*both)
    assert not torch.allclose(both[0], both[0].flip(2))


def test_a_patch_sees_its_own_part_of_the_volume() -> None:
    ramps = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in ATLAS_SHAPE), indexing="ij")
    places = torch.tensor([[0.25, -0.5, 0.0, 0.25, 0.125, 0.5, 1.0]])
    for axis, ramp in enumerate(ramps):  # intensity is the place itself
        atlas = atlas_of([(ramp.astype(np.float32), np.zeros(ATLAS_SHAPE, dtype=bool))])
        seen = atlas_intensities(atlas_at(atlas, places, (4, 4, 2)))
        assert seen.shape == (1, 4, 4, 2)
        along = seen[0].movedim(axis, 0).flatten(1)
        centre, extent, number = places[0, axis], places[0, axis + 3], len(along)
        for cell, values in enumerate(along):
            assert values.numpy() == pytest.approx(float(centre + extent * ((cell + 0.5) / number * 2 - 1)), abs=1e-5)


def test_outside_of_the_volume_there_is_air() -> None:
    atlas = torch.ones(3, *ATLAS_SHAPE)
    seen = atlas_at(atlas, torch.tensor([[1.0, 0, 0, 0.5, 0.5, 0.5, -1]]), (4, 4, 2))
    assert seen[0, :, :2].eq(1).all()
    assert seen[0, :, 3].eq(0).all()
    assert atlas_intensities(seen)[0, 3].eq(-1).all()
