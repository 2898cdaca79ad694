"""Another voxel size: place, brightness and volume stay."""

from pathlib import Path

import numpy as np
import pytest
from data_trees import AFFINE, SHAPE, image_of, label_of, nifti

from vesselgan.data import Subject, load_subject
from vesselgan.data.resampling import resample, resample_mask, resampled_grid
from vesselgan.errors import InputError

OBLIQUE = np.array([[0.5, 0.05, 0, -20], [-0.05, 0.6, 0, 3], [0, 0, 0.7, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.4), (0.8, 0.9, 1.4), (0.5, 1.3, 0.3)])
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
def test_a_gradient_in_mm_stays_where_it_is(spacing: tuple[float, ...], affine: np.ndarray) -> None:
    """An image that is linear in world coordinates is the same function on every grid (but at its borders)."""
    shape = (24, 26, 22)
    old_mm = np.linalg.norm(affine[:3, :3], axis=0)

    def world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        return (index @ affine[:3, :3].T + affine[:3, 3]) @ (1.0, -2.0, 3.0)

    new_shape, new_affine = resampled_grid(shape, affine, spacing)
    new = resample(world(shape, affine), old_mm, spacing)
    assert new.shape == new_shape
    np.testing.assert_allclose(np.linalg.norm(new_affine[:3, :3], axis=0), spacing, rtol=1e-6)
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(new[inner], world(new_shape, new_affine)[inner], atol=2e-3)
    middle = np.append((np.array(shape) - 1) / 2, 1), np.append((np.array(new_shape) - 1) / 2, 1)
    np.testing.assert_allclose(affine @ middle[0], new_affine @ middle[1], atol=1e-9)


def test_a_constant_stays_constant_and_a_mean_stays() -> None:
    assert np.ptp(resample(np.full(SHAPE, 7.0), (1, 1, 1), (1.7, 0.6, 2.2))) < 1e-5
    noise = np.random.default_rng(0).normal(100, 20, (60, 60, 60))
    coarse = resample(noise, (1, 1, 1), (3, 3, 3))
    assert coarse.mean() == pytest.approx(noise.mean(), rel=0.01)
    assert coarse.std() < 5, "towards larger voxels it is a mean, so noise falls"


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.3, 2.0])
def test_a_ball_keeps_its_volume(spacing: float) -> None:
    x, y, z = np.meshgrid(*[np.arange(48.0)] * 3, indexing="ij")
    ball = np.sqrt((x - 23.3) ** 2 + (y - 24.1) ** 2 + (z - 22.7) ** 2) < 12
    resampled = resample_mask(ball, (1, 1, 1), (spacing,) * 3)
    assert resampled.sum() * spacing**3 == pytest.approx(ball.sum(), rel=0.03)


@pytest.mark.parametrize(("factor", "least"), [(0.6, 0.9), (1.5, 0.93)])
def test_a_thin_tube_is_met_better_than_by_the_nearest_voxel(factor: float, least: float) -> None:
    """Dice with the tube drawn anew in the new voxels, over where it happens to lie."""
    x, y = np.meshgrid(*[np.arange(40.0)] * 2, indexing="ij")
    (new, *_), _ = resampled_grid((40, 40, 1), np.eye(4), (factor, factor, 1))
    at = (np.arange(new) - (new - 1) / 2) * factor + 19.5
    nearest = np.rint(at).astype(int)
    ours, theirs = [], []
    for centre in np.random.default_rng(0).uniform(15, 25, (60, 2)):
        tube = np.hypot(x - centre[0], y - centre[1]) < 2.2
        truth = np.hypot(at[:, None] - centre[0], at - centre[1]) < 2.2
        mine = resample_mask(tube[..., None], (1, 1, 1), (factor, factor, 1))[..., 0]
        for scores, found in ((ours, mine), (theirs, tube[np.ix_(nearest, nearest)])):
            scores.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert np.mean(ours) > least
    assert np.mean(ours) > np.mean(theirs) + 0.02


def test_the_same_size_changes_nothing() -> None:
    image = image_of(0)
    np.testing.assert_array_equal(resample(image, (0.5, 0.6, 0.7), (0.5, 0.60001, 0.7)), image)


@pytest.mark.parametrize("spacing", [(0.3, 0.45, 1.0), (0.9, 0.7, 0.5)])
def test_an_image_comes_back_to_its_own_voxels(spacing: tuple[float, float, float]) -> None:
    """Whatever the rounding of the other grid: a slope stays where it was, but for the border."""
    old, shape = (0.5, 0.6, 0.7), (31, 22, 17)
    slope = np.add.outer(np.add.outer(np.arange(31) * 0.5, np.arange(22) * 0.6), np.arange(17) * 0.7)
    there = resample(slope, old, spacing)
    back = resample(there, spacing, old, shape)
    assert back.shape == shape
    np.testing.assert_allclose(back[4:-4, 4:-4, 4:-4], slope[4:-4, 4:-4, 4:-4], atol=1e-3)


def test_a_subject_is_resampled_as_a_whole(tmp_path: Path) -> None:
    files = [nifti(tmp_path / f"{name}.nii.gz", data) for name, data in (("i", image_of(1)), ("l", label_of(1)))]
    mask = nifti(tmp_path / "m.nii.gz", np.pad(np.ones((10, 12, 8), bool), 5))
    subject = Subject("a", files[0], files[1], mask)
    plain, fine = load_subject(subject), load_subject(subject, spacing_mm=(0.25, 0.3, 0.35))
    assert fine.image.shape == fine.label.shape == fine.mask.shape == tuple(2 * n for n in SHAPE)
    assert fine.spacing_mm == pytest.approx((0.25, 0.3, 0.35))

    def centre_mm(loaded) -> np.ndarray:
        return loaded.affine[:3, :3] @ np.argwhere(loaded.label).mean(axis=0) + loaded.affine[:3, 3]

    np.testing.assert_allclose(centre_mm(fine), centre_mm(plain), atol=0.05)
    assert fine.label.sum() == pytest.approx(8 * plain.label.sum(), rel=0.1)


def test_voxels_without_end_and_vessels_without_voxel_are_refused(tmp_path: Path) -> None:
    files = [nifti(tmp_path / f"{name}.nii.gz", data) for name, data in (("i", image_of(1)), ("l", label_of(1)))]
    subject = Subject("a", *files, None)
    with pytest.raises(InputError, match=r"l\.nii\.gz: no vessel is left at \(5, 5, 5\) mm"):
        load_subject(subject, spacing_mm=(5, 5, 5))
    with pytest.raises(InputError, match="more than fit"):
        resampled_grid((1000, 1000, 1000), np.eye(4), (0.1, 0.1, 0.1))
