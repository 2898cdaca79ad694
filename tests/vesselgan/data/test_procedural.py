"""Patches of the phantom with random looks: reproducible, on the scale of real patches, and truly unlike each other."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from vesselgan.data import (
    Randomisation,
    apply_range,
    make_phantom,
    phantom_shape,
    procedural_patches,
    randomise,
    robust_range,
)
from vesselgan.errors import InputError

SHAPE, PATCH = (48, 48, 32), (32, 32, 16)
OFF = Randomisation(tone=0, vessel_contrast=(1.0, 1.0), gain=0, offset=0, bias=0, blur=0, noise=0)

Floats = NDArray[np.float32]
Pair = tuple[Floats, NDArray[np.bool_]]


@pytest.fixture(scope="module")
def volume() -> Pair:
    made = make_phantom(SHAPE, subject=0, seed=1)
    return apply_range(made.image, *robust_range(made.image)), made.label


@pytest.fixture(scope="module")
def patches() -> Pair:
    return procedural_patches(SHAPE, PATCH, subject=2, seed=1, grid=(2, 2, 1), vessel=20)


def test_patches_depend_on_seed_and_subject_alone(patches: Pair) -> None:
    procedural_patches(SHAPE, PATCH, subject=3, seed=1, vessel=2, grid=None)
    again = procedural_patches(SHAPE, PATCH, subject=2, seed=1, grid=(2, 2, 1), vessel=20)
    for one, other in zip(patches, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for subject, seed in ((3, 1), (2, 2)):
        assert not np.array_equal(
            procedural_patches(SHAPE, PATCH, subject=subject, seed=seed, grid=(2, 2, 1), vessel=20)[1], again[1]
        )


def test_patches_are_pairs_on_the_scale_of_real_ones(patches: Pair) -> None:
    images, labels = patches
    assert images.shape == labels.shape == (24, *PATCH)
    assert (images.dtype, labels.dtype) == (np.float32, np.bool_)
    assert images.min() >= -1
    assert images.max() <= 1
    middle = tuple(n // 2 for n in PATCH)
    assert all(label[middle] for label in labels[4:])  # after those of the grid


def test_vessels_stay_brighter_than_what_is_around_them(patches: Pair) -> None:
    rises = []
    for image, label in zip(*(each[4:] for each in patches), strict=True):
        around = ndimage.binary_dilation(label, iterations=3) & ~ndimage.binary_dilation(label)
        rises.append(image[label].mean() - image[around].mean())
    assert np.mean(np.array(rises) > 0) > 0.9
    assert np.std(rises) > 0.05  # by very different amounts


def test_no_threshold_serves_all_looks(volume: Pair) -> None:
    """The brightness that parts vessels from tissue moves by several times what the noise of one look is."""
    image, label = volume
    means = [
        (looked[label].mean() + looked[~label].mean()) / 2
        for looked in (randomise(image, label, Randomisation(), seed=0, index=index) for index in range(20))
    ]
    assert np.std(means) > 0.1
    assert np.ptp(means) > 0.4


def test_with_everything_off_the_image_stays(volume: Pair) -> None:
    np.testing.assert_allclose(randomise(*volume, OFF, seed=0, index=0), volume[0], atol=2e-6)


@pytest.mark.parametrize(
    "only",
    [
        {"tone": 1.0},
        {"vessel_contrast": (0.5, 0.5)},
        {"gain": 0.3},
        {"offset": 0.2},
        {"bias": 0.3},
        {"blur": 1.0},
        {"noise": 0.1},
    ],
)
def test_each_setting_does_something_and_spares_what_is_given(volume: Pair, only: dict[str, object]) -> None:
    image, label = volume
    before = image.copy(), label.copy()
    looked = randomise(image, label, replace(OFF, **only), seed=0, index=1)  # type: ignore[arg-type]
    assert np.abs(looked - image).max() > 0.02
    np.testing.assert_array_equal((image, label), before)
    if "vessel_contrast" in only:
        np.testing.assert_allclose(looked[~label], image[~label], atol=2e-6)
        assert looked[label].mean() < image[label].mean() - 0.05
    if "tone" in only:  # order remains
        darker, brighter = np.quantile(image, [0.2, 0.9])
        assert looked[image <= darker].max() <= looked[image >= brighter].min()


def test_looks_are_drawn_alike_whatever_else_is_switched_on(volume: Pair) -> None:
    image, label = volume
    for index in range(3):
        shifted = randomise(image, label, replace(OFF, offset=0.05), seed=0, index=index)
        inside = np.abs(image) < 0.8
        alone = np.unique(np.round((shifted - image)[inside], 4))
        assert len(alone) == 1
        noisy = randomise(image, label, replace(OFF, offset=0.05, noise=0.02), seed=0, index=index)
        assert np.median((noisy - image)[inside]) == pytest.approx(float(alone[0]), abs=0.01)


def test_a_patch_without_vessels_gets_a_look_too() -> None:
    image = np.zeros((8, 8, 8), np.float32)
    looked = randomise(image, np.zeros(image.shape, bool), Randomisation(), seed=0, index=0)
    assert np.isfinite(looked).all()
    full = randomise(image, np.ones(image.shape, bool), Randomisation(), seed=0, index=0)
    assert np.isfinite(full).all()


def test_the_phantom_takes_a_datasets_voxels() -> None:
    assert phantom_shape((0.5, 0.5, 0.7)) == (312, 384, 127)
    assert phantom_shape((20.0, 20.0, 20.0)) == (32, 32, 16)
    with pytest.raises(ValueError, match="must be three positive lengths"):
        phantom_shape((0.5, 0.5, 0.0))


def test_settings_and_shapes_that_make_no_sense_are_refused() -> None:
    for wrong in ({"tone": 2.0}, {"gain": 1.0}, {"vessel_contrast": (2.0, 1.0)}, {"noise": -0.1}):
        with pytest.raises(ValueError, match=r"must (be|not be)"):
            Randomisation(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="phantom shape"):
        procedural_patches((8, 8, 8), (8, 8, 8), subject=0, seed=0)
