"""Varied patches: the same for the same seed and step, image and label together, on whatever scale intensities are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.protocol.load import load_protocol
from benchmark.stages.train_unet import _varied
from vesselgan.data import Augmentation, augment
from vesselgan.data.augmentation import change_intensity, mirror, turn

SHAPE = (32, 24, 16)
OFF = Augmentation(flips=(), rotation=0, gamma=1, contrast=0, brightness=0, noise=0, share=1)

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def pairs() -> tuple[Array, Array]:
    """Smooth images, so that interpolation loses little, and their brightest voxels as labels."""
    noise = np.random.default_rng(0).standard_normal((4, *SHAPE))
    images = np.stack([ndimage.gaussian_filter(each, 2) for each in noise]).astype(np.float32)
    return images, (images > np.quantile(images, 0.9)).astype(np.float32)


def test_the_outcome_depends_on_seed_and_step_alone_and_spares_what_is_given(pairs: tuple[Array, Array]) -> None:
    before = [array.copy() for array in pairs]
    first = augment(*pairs, Augmentation(), seed=3, step=7)
    augment(*pairs, Augmentation(), seed=3, step=8)
    again = augment(*pairs, Augmentation(), seed=3, step=7)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for seed, step in ((3, 8), (4, 7)):
        assert not np.array_equal(first[0], augment(*pairs, Augmentation(), seed=seed, step=step)[0])
    for given, kept in zip(pairs, before, strict=True):
        np.testing.assert_array_equal(given, kept)


def test_with_everything_off_nothing_changes(pairs: tuple[Array, Array]) -> None:
    images, labels = augment(*pairs, OFF, seed=0, step=0)
    np.testing.assert_allclose(images, pairs[0], atol=1e-6)
    np.testing.assert_array_equal(labels, pairs[1])


@pytest.mark.parametrize("only", [{"flips": ("x",)}, {"rotation": 20.0}, {"noise": 0.1}, {"gamma": 2.0}])
def test_each_variation_is_drawn_alike_whatever_the_others_do(
    pairs: tuple[Array, Array], only: dict[str, object]
) -> None:
    """The share decides how many patches change; a flip comes in half of them."""
    setting = replace(OFF, share=0.25, **only)  # type: ignore[arg-type]
    changed = [
        not np.allclose(one, other, atol=1e-6)
        for step in range(100)
        for one, other in zip(augment(*pairs, setting, seed=0, step=step)[0], pairs[0], strict=True)
    ]
    expected = 0.5 if "flips" in only else 0.25
    assert abs(np.mean(changed) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(changed))


def test_image_and_label_go_together_and_labels_stay_binary(pairs: tuple[Array, Array]) -> None:
    moves = replace(OFF, flips=("x", "y", "z"), rotation=15.0)
    for step in range(5):
        images, labels = augment(*pairs, moves, seed=0, step=step)
        assert images.dtype == labels.dtype == np.float32
        assert np.isin(labels, (0, 1)).all()
        bright = images > np.quantile(pairs[0], 0.9)
        overlap = 2 * (bright & (labels > 0)).sum() / (bright.sum() + labels.sum())
        assert overlap > 0.9
    as_bool = augment(pairs[0], pairs[1].astype(bool), moves, seed=0, step=0)[1]
    assert as_bool.dtype == np.bool_
    np.testing.assert_array_equal(as_bool, augment(*pairs, moves, seed=0, step=0)[1] > 0)


def test_what_is_varied_does_not_depend_on_the_unit_of_intensities(pairs: tuple[Array, Array]) -> None:
    setting = Augmentation(share=1)
    scaled, _ = augment(pairs[0] * 300 + 500, pairs[1], setting, seed=1, step=1)
    plain, _ = augment(*pairs, setting, seed=1, step=1)
    np.testing.assert_allclose(scaled, plain * 300 + 500, atol=0.05)


def test_mirroring_follows_the_axes_named(pairs: tuple[Array, Array]) -> None:
    patch = pairs[0][0]
    np.testing.assert_array_equal(mirror(patch, (True, False, True)), patch[::-1, :, ::-1])
    seen = {
        next(place for place, flipped in enumerate((patch, patch[:, ::-1])) if np.array_equal(flipped, image))
        for step in range(12)
        for image in augment(patch[None], pairs[1][:1], replace(OFF, flips=("y",), share=0), seed=0, step=step)[0]
    }
    assert seen == {0, 1}


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_turning_is_scipys_linear_rotation_in_that_plane(pairs: tuple[Array, Array], plane: int) -> None:
    """An independent reference; `mirror` is what scipy calls the border of this kind."""
    image, label = pairs[0][0], pairs[1][0]
    axes = tuple(axis for axis in range(3) if axis != plane)
    turned, turned_label = turn(image, label, plane, 8.0)
    expected, expected_label = (
        ndimage.rotate(array, 8.0, axes=axes[::-1], reshape=False, order=order, mode="mirror")
        for array, order in ((image, 1), (label, 0))
    )
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    assert (turned_label != expected_label).mean() < 1e-3  # positions half-way between two voxels


def test_intensities_change_as_named() -> None:
    image = np.linspace(-1, 3, 11, dtype=np.float32).reshape(11, 1, 1)
    unit = (image + 1) / 4
    np.testing.assert_allclose(change_intensity(image, gamma=2), unit**2 * 4 - 1, rtol=1e-5)
    np.testing.assert_allclose(change_intensity(image, contrast=0.5), (image - 1) / 2 + 1, atol=1e-6)
    np.testing.assert_allclose(change_intensity(image, brightness=0.25), image + 1, rtol=1e-5, atol=1e-6)
    noise = np.full_like(image, 0.5)
    np.testing.assert_allclose(change_intensity(image, noise=noise), image + 2, rtol=1e-5, atol=1e-6)
    constant = np.full((2, 2, 2), 7, np.float32)
    np.testing.assert_array_equal(change_intensity(constant, gamma=2, brightness=1), constant)


@pytest.mark.parametrize(
    "wrong", [{"flips": ("w",)}, {"rotation": 46}, {"gamma": 0.9}, {"contrast": 1}, {"noise": -0.1}, {"share": 1.1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_a_profile_switches_it_on_with_the_librarys_defaults(tmp_path: Path) -> None:
    text = (
        "protocol: t\ntitle: T\nmatrix: {variant: [SN]}\ndefault_profile: a\n"
        "profiles: {a: {unet: {augmentation: {}}}, b: {}}\n"
    )
    (tmp_path / "t.yaml").write_text(text)
    profiles = load_protocol(tmp_path / "t.yaml").profiles
    asked = profiles["a"].unet.augmentation
    assert asked is not None
    assert Augmentation(**asked.model_dump()) == Augmentation()
    assert profiles["b"].unet.augmentation is None


def test_a_unets_batch_is_varied_only_where_the_stage_says_so(pairs: tuple[Array, Array]) -> None:
    batch = tuple(torch.from_numpy(array)[:, None] for array in pairs)
    assert _varied(batch, 0, 0, None) is batch  # type: ignore[arg-type]
    images, labels = _varied(batch, 5, 2, {"flips": ["x"], "share": 1})  # type: ignore[arg-type]
    expected = augment(*pairs, Augmentation(flips=("x",), share=1), seed=2, step=5)
    np.testing.assert_array_equal(images[:, 0], expected[0])
    np.testing.assert_array_equal(labels[:, 0], expected[1])
