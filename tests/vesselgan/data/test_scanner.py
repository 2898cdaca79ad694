"""What makes the phantom hard to threshold: each ingredient, alone and in the volume."""

import numpy as np
import pytest

from vesselgan.data import bright_tissue, make_phantom, phantom, scanner
from vesselgan.data.bright_tissue import add_bright_tissue
from vesselgan.data.head import Head, draw_head, render_tissue
from vesselgan.data.scanner import add_ghosts, add_rician_noise, coil_field, slab_gains

MEDIUM = (96, 96, 48)


@pytest.fixture(scope="module")
def made():
    return make_phantom(MEDIUM, subject=0, seed=0)


def without(name):
    """A stand-in for one of the phantom's ingredients that changes nothing but draws the same random numbers."""
    real = getattr(phantom, name)

    def neutral(*args, **kwargs):
        if name in ("coil_field", "slab_gains"):
            return np.ones_like(real(*args, **kwargs))
        if name in ("add_ghosts", "add_bright_tissue"):
            return real(args[0].copy(), *args[1:], **kwargs)
        if name == "vein_signals":
            return [np.ones_like(signal) for signal in real(*args, **kwargs)]
        if name == "draw_speeds":
            return [speed / speed * 250.0 for speed in real(*args, **kwargs)]
        return real(*args, **kwargs)

    return neutral


@pytest.mark.parametrize(
    ("ingredient", "voxels"),
    [
        ("coil_field", 150_000),
        ("slab_gains", 80_000),
        ("add_ghosts", 5_000),
        ("add_bright_tissue", 200),
        ("vein_signals", 3_000),
        ("draw_speeds", 3_000),
    ],
)
def test_every_ingredient_shows_in_the_volume_and_none_in_the_label(made, ingredient, voxels, monkeypatch):
    monkeypatch.setattr(phantom, ingredient, without(ingredient))
    plain = make_phantom(MEDIUM, subject=0, seed=0)
    np.testing.assert_array_equal(plain.label, made.label)
    np.testing.assert_array_equal(plain.brain_mask, made.brain_mask)
    assert (np.abs(plain.image - made.image) > 3).sum() > voxels


def test_coils_see_the_rim_of_the_brain_better_than_its_middle_and_one_side_better_than_the_other(made):
    rises, asymmetries = [], []
    for subject in range(6):
        rng = np.random.default_rng(subject)
        head = draw_head(rng)
        field = coil_field(head, MEDIUM, rng)
        assert field.min() > 0.1
        centre = field[40:56, 40:56, 16:26].mean()
        rims = [field[14:20, 40:56, 16:26].mean(), field[76:82, 40:56, 16:26].mean()]
        rises.append(np.mean(rims) / centre)
        asymmetries.append(max(rims) / min(rims))
    assert 1.4 < np.mean(rises) < 2.2
    assert 1.1 < np.mean(asymmetries) < 2
    tissue = np.where(made.brain_mask & ~made.label, made.image, np.nan)
    assert np.nanmedian(tissue[14:24, 30:66, 16:26]) > 1.2 * np.nanmedian(tissue[40:56, 30:66, 16:26])


def test_slabs_differ_in_brightness_and_are_dark_where_they_meet():
    rng = np.random.default_rng(0)
    first_mm, slices = 20.0, 890  # slices of 0.1 mm
    gains = slab_gains(slices, first_mm, rng)
    assert gains.shape == (slices,)
    middles = [gains[round(10 * (first_mm + 30 * k + 15))] for k in (0, 1)]
    borders = [gains[round(10 * (first_mm + 30 * k))] for k in (0, 1, 2)]
    assert max(borders) < min(middles)
    for k, middle in enumerate(middles):
        within = gains[round(10 * (first_mm + 30 * k)) + 1 : round(10 * (first_mm + 30 * k + 30)) - 1]
        assert within.max() == pytest.approx(middle, rel=1e-3)
        assert within[0] == pytest.approx(0.75 * middle, rel=0.03)
        assert np.median(within) > 0.97 * middle
    steps = [slab_gains(slices, first_mm, rng)[[350, 650]] for _ in range(40)]
    assert np.std([one / other for one, other in steps]) == pytest.approx(0.12 * 2**0.5, abs=0.06)


def test_slab_borders_are_those_at_which_blood_is_fresh(monkeypatch):
    """One height for both: brightness steps where inflow starts anew."""
    seen = {}
    blood, gains = phantom.blood_signals, phantom.slab_gains
    monkeypatch.setattr(phantom, "blood_signals", lambda b, s, mm: (seen.update(blood=mm), blood(b, s, mm))[1])
    monkeypatch.setattr(phantom, "slab_gains", lambda n, mm, rng: (seen.update(gains=mm), gains(n, mm, rng))[1])
    make_phantom((48, 48, 24), subject=0, seed=0)
    assert seen["blood"] == seen["gains"]


def test_ghosts_lie_along_x_at_equal_distances_on_both_sides_and_fold_over():
    for seed in range(5):
        image = np.ones((64, 20, 10), np.float32)
        voxel = np.array([np.ravel_multi_index((50, 7, 3), image.shape)])
        add_ghosts(image, voxel, np.array([4.0], np.float32), np.random.default_rng(seed))
        changed = np.argwhere(image != 1)
        assert set(map(tuple, changed[:, 1:])) == {(7, 3)}
        away = sorted(int((x - 50 + 32) % 64 - 32) for x in changed[:, 0])
        distance = away[2]
        assert away == [-2 * distance, -distance, distance, 2 * distance]
        assert 64 // 7 <= distance < 64 // 4
        assert np.abs(image - 1).max() < 4 * 4 * 0.035  # faint: four standard deviations


def test_ghosts_never_make_a_voxel_negative():
    image = np.full((64, 4, 4), 0.02, np.float32)
    everywhere = np.arange(image.size)
    add_ghosts(image, everywhere, np.full(image.size, 5.0, np.float32), np.random.default_rng(0))
    assert image.min() >= 0


def test_choroid_plexus_is_bright_in_a_dark_ventricle_and_the_pituitary_between_the_carotids():
    rng = np.random.default_rng(0)
    head = Head((60.0, 75.0, 62.0), 38.0, 0.0)
    tissue, _ = render_tissue(head, (156, 192, 89), rng)
    plain = tissue.copy()
    add_bright_tissue(tissue, head, rng)
    at = {name: tuple(np.array((x + 78, y + 96, z)).astype(int)) for name, (x, y, z) in PLACES.items()}
    for name, place in at.items():
        box = tuple(slice(c - 2, c + 3) for c in place)
        assert tissue[box].max() > 1.25, name
    fluid = plain[tuple(slice(c - 2, c + 3) for c in at["plexus right"])]
    assert np.median(fluid) < 0.7
    assert (tissue >= plain).mean() > 0.999


PLACES = {"plexus right": (16, -30, 51), "plexus left": (-16, -30, 51), "pituitary": (0, 8, 15)}


def test_spots_of_short_t1_are_few_small_and_bright(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        bright_tissue,
        "blend_ellipsoid",
        lambda tissue, where, radii_mm, brightness: drawn.append((radii_mm, brightness)),
    )
    counts = []
    for subject in range(20):
        rng = np.random.default_rng(subject)
        drawn.clear()
        add_bright_tissue(np.ones((32, 32, 16), np.float32), draw_head(rng), rng)
        spots = drawn[len(bright_tissue._FIXED) :]
        counts.append(len(spots))
        assert all(0.5 < radius_mm < 4 for radii_mm, _ in spots for radius_mm in radii_mm)
        assert all(1.5 < brightness < 4 for _, brightness in spots)
    assert 4 <= min(counts) < max(counts) <= 10


def test_noise_is_rician_in_scanner_units():
    image = np.zeros((64, 64, 64), np.float32)
    image[32:] = 1.0
    add_rician_noise(image, np.random.default_rng(0))
    sigma = scanner._NOISE * 110
    assert image[:32].mean() == pytest.approx(sigma * (np.pi / 2) ** 0.5, rel=0.02)  # Rayleigh where there is no signal
    assert image[32:].mean() == pytest.approx((110**2 + sigma**2) ** 0.5, rel=0.01)
    assert image[32:].std() == pytest.approx(sigma, rel=0.05)
    assert (image == np.rint(image)).all()
