"""A computed brain mask, against the phantom's true ones and where there is no brain to be seen."""

import numpy as np
import pytest

from vesselgan.data import compute_brain_mask, make_phantom
from vesselgan.metrics import dice


@pytest.mark.parametrize("shape", [(96, 96, 48), (70, 62, 34)])
def test_on_the_phantom_the_mask_is_nearly_the_true_one(shape: tuple[int, int, int]) -> None:
    for subject in range(2):
        made = make_phantom(shape, subject=subject, seed=0)
        mask = compute_brain_mask(made.image, made.spacing_mm)
        assert (mask.shape, mask.dtype) == (shape, np.bool_)
        truth = made.brain_mask
        assert dice(truth, mask) > 0.9
        scaled = compute_brain_mask(made.image * np.float32(0.25), made.spacing_mm)
        np.testing.assert_array_equal(scaled, mask)  # the unit of intensities does not matter


def test_a_field_of_view_inside_the_brain_is_all_brain() -> None:
    made = make_phantom((96, 96, 48), subject=0, seed=0)
    inside = (slice(35, 61), slice(26, 50), slice(28, 44))
    assert made.brain_mask[inside].all()
    assert compute_brain_mask(made.image[inside], made.spacing_mm).mean() > 0.9


def test_a_coil_that_sees_one_side_better_changes_little() -> None:
    slope = np.linspace(0.6, 1.6, 96, dtype=np.float32)[:, None, None]
    heads = [make_phantom((96, 96, 48), subject=subject, seed=0) for subject in range(4)]
    masks = [compute_brain_mask(made.image * slope, made.spacing_mm) for made in heads]
    assert np.mean([dice(made.brain_mask, mask) for made, mask in zip(heads, masks, strict=True)]) > 0.91


def test_nothing_is_no_brain_and_one_brightness_throughout_is_all_brain() -> None:
    dark = np.zeros((24, 24, 24), np.float32)
    dark[3, 3, 3] = 100
    assert not compute_brain_mask(dark, (3.0, 3.0, 3.0)).any()
    assert compute_brain_mask(np.full((8, 8, 8), 5, np.float32), (3.0, 3.0, 3.0)).all()
