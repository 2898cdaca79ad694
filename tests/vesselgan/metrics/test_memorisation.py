"""The audit catches a generator that replays training patches, and leaves an honest one in peace."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from vesselgan import metrics
from vesselgan.metrics import memorisation

SHAPE = (16, 16, 8)


def smooth_patches(count, rng):
    """Random patches with structures several voxels wide, in [-1, 1]."""
    noise = rng.standard_normal((count, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 2), mode="wrap")
    return np.tanh(smooth / smooth.std())


def replay(generated, training, share, rng):
    """Generated patches of which a share are training patches, mirrored at random and with noise added."""
    replayed = generated.copy()
    count = round(share * len(generated))
    for place in rng.choice(len(generated), count, replace=False):
        copy = training[rng.integers(len(training))]
        copy = np.flip(copy, [axis for axis in range(3) if rng.random() < 0.5])
        replayed[place] = copy + 0.1 * rng.standard_normal(SHAPE)
    return replayed, count


def image_audit(training, held_out, generated):
    means = [metrics.block_means(patches) for patches in (training, held_out, generated)]
    return metrics.memorisation_audit(
        training=means[0].reshape(len(means[0]), -1),
        held_out=metrics.mirrored(means[1]),
        generated=metrics.mirrored(means[2]),
    )


def feature_sets(seed, *, training=1000, held_out=500, generated=500, width=32):
    rng = np.random.default_rng(seed)
    scales = (1.0 + np.arange(width)) ** -0.5
    return [rng.standard_normal((count, width)) * scales for count in (training, held_out, generated)], rng


def test_a_generator_that_replays_two_percent_is_caught_in_image_space_in_spite_of_noise_and_mirroring():
    rng = np.random.default_rng(0)
    training, held_out, generated = (smooth_patches(count, rng) for count in (400, 300, 500))
    honest = image_audit(training, held_out, generated)
    assert not honest.memorised
    replayed, count = replay(generated, training, 0.02, rng)
    audit = image_audit(training, held_out, replayed)
    assert audit.memorised
    assert audit.excess_low > 0
    assert count <= audit.close_count <= count + 10
    for pair in audit.pairs[:count]:
        copy = np.flip(replayed[pair.generated], pair.mirrored_axes)
        assert np.corrcoef(copy.ravel(), training[pair.training].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_replayed_features_are_caught(seed):
    (training, held_out, generated), rng = feature_sets(seed)
    copies = training[rng.choice(len(training), 10, replace=False)]
    generated[:10] = copies + 0.1 * (generated[10:20])
    audit = metrics.memorisation_audit(training=training, held_out=held_out, generated=generated)
    assert audit.memorised
    assert audit.p_value < 0.01
    assert {pair.generated for pair in audit.pairs} == set(range(10))


def test_an_honest_generator_is_seldom_accused():
    accused, shares = 0, []
    for seed in range(60):
        (training, held_out, generated), _ = feature_sets(seed, training=400, held_out=300, generated=300)
        audit = metrics.memorisation_audit(training=training, held_out=held_out, generated=generated)
        accused += audit.memorised
        shares.append(audit.close_share)
    assert accused <= 3  # 0.6 expected at most
    assert np.mean(shares) == pytest.approx(0.01, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "power"),
    [
        ((1000, 500, 500), 0.95),
        ((2000, 300, 1000), 0.75),  # 300 held-out samples place their 1st percentile only roughly
        ((500, 1000, 200), 0.95),
    ],
)
def test_false_alarms_are_no_more_than_alpha_and_replays_of_two_percent_are_caught(counts, power):
    alarms, caught, repeats = 0, 0, 400
    for seed in range(repeats):
        (training, held_out, generated), rng = feature_sets(
            seed, training=counts[0], held_out=counts[1], generated=counts[2]
        )
        alarms += metrics.memorisation_audit(training=training, held_out=held_out, generated=generated).memorised
        copied = max(1, round(0.02 * len(generated)))
        generated[:copied] = training[rng.choice(len(training), copied)] + 0.1 * generated[:copied]
        caught += metrics.memorisation_audit(training=training, held_out=held_out, generated=generated).memorised
    print(f"{counts}: false alarms {alarms / repeats:.4f}, caught {caught / repeats:.4f}")
    assert alarms / repeats < 0.025
    assert caught / repeats > power


def test_exact_copies_lie_at_distance_zero_and_are_counted():
    (training, held_out, generated), _ = feature_sets(0)
    generated[:3] = training[[5, 6, 7]]
    audit = metrics.memorisation_audit(training=training + 1e4, held_out=held_out + 1e4, generated=generated + 1e4)
    assert (audit.near_zero, audit.held_out_near_zero) == (3, 0)
    assert [(pair.generated, pair.training) for pair in audit.pairs[:3]] == [(0, 5), (1, 6), (2, 7)]
    assert [pair.distance for pair in audit.pairs[:3]] == [0, 0, 0]
    assert audit.close_share == audit.close_count / 500
    assert audit.excess == pytest.approx(audit.close_share - audit.expected_share)
    assert audit.excess_low <= audit.excess <= audit.excess_high
    assert (audit.generated_count, audit.held_out_count, audit.training_count) == (500, 500, 1000)
    assert audit.expected_share == pytest.approx(5 / 501)


@pytest.mark.parametrize("block_numbers", [7, 2**22])
def test_nearest_neighbours_equal_brute_force_whatever_the_block(monkeypatch, block_numbers):
    monkeypatch.setattr(memorisation, "_BLOCK_NUMBERS", block_numbers)
    rng = np.random.default_rng(0)
    training, queries = rng.standard_normal((40, 5)), rng.standard_normal((3, 30, 5))
    found = memorisation.nearest_training(queries, training)
    distances = np.stack([cdist(copy, training) for copy in queries])  # (copies, queries, training)
    np.testing.assert_allclose(found.distances, distances.min(axis=(0, 2)))
    np.testing.assert_array_equal(found.rows, distances.min(axis=0).argmin(axis=1))
    np.testing.assert_array_equal(found.copies, distances.min(axis=2).argmin(axis=0))


def test_block_means_average_equal_blocks_and_come_from_any_iterator():
    patches = np.arange(2 * 4 * 6 * 2, dtype=np.float32).reshape(2, 4, 6, 2)
    means = metrics.block_means(iter(patches), most=2)
    assert means.shape == (2, 2, 2, 2)
    assert means[0, 0, 0, 0] == patches[0, :2, :3, 0].mean()
    np.testing.assert_allclose(metrics.block_means(patches[:, ::-1], most=2), means[:, ::-1])


def test_an_axis_that_nothing_divides_is_cut_into_nearly_equal_blocks_alike_from_both_ends():
    patches = np.random.default_rng(0).random((2, 31, 30, 17))
    means = metrics.block_means(patches)
    assert means.shape == (2, 7, 6, 7)
    assert means[0, 0, 0, 0] == pytest.approx(patches[0, :4, :5, :2].mean())
    assert means[1, 3, 5, 6] == pytest.approx(patches[1, 13:18, 25:, 15:].mean())
    np.testing.assert_allclose(metrics.block_means(patches[:, ::-1, :, ::-1]), means[:, ::-1, :, ::-1])


def test_copies_among_patches_of_31_voxels_are_caught():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((300, 31, 31, 17))
    training, held_out, generated = np.split(ndimage.gaussian_filter(noise, (0, 3, 3, 3)), 3)
    generated[:10] = training[:10, :, ::-1]
    audit = image_audit(training, held_out, generated)
    assert audit.memorised
    assert (audit.near_zero, audit.held_out_near_zero) == (10, 0)
    assert audit.held_out_median > 0


def test_held_out_samples_that_are_training_samples_are_refused():
    (training, _, generated), _ = feature_sets(0, training=50, generated=30)
    with pytest.raises(
        metrics.SharedSamplesError, match=r"^held_out and training share samples: hold out other subjects$"
    ):
        metrics.memorisation_audit(training=training, held_out=training[:40], generated=generated)


def test_mirrored_copies_are_numbered_by_their_axes():
    patches = np.random.default_rng(0).random((3, 2, 4, 2))
    copies = metrics.mirrored(patches)
    assert copies.shape == (8, 3, 16)
    np.testing.assert_array_equal(copies[0], patches.reshape(3, -1))
    np.testing.assert_array_equal(copies[5], patches[:, ::-1, :, ::-1].reshape(3, -1))
    np.testing.assert_array_equal(metrics.mirrored(patches, axes=(1,))[1], patches[:, :, ::-1].reshape(3, -1))


def test_tensors_are_taken():
    import torch

    (training, held_out, generated), _ = feature_sets(0, training=50, held_out=40, generated=30)
    given = {"training": training, "held_out": held_out, "generated": generated}
    tensors = {name: torch.tensor(rows, requires_grad=True) for name, rows in given.items()}
    assert metrics.memorisation_audit(**tensors) == metrics.memorisation_audit(**given)


ROWS = np.random.default_rng(0).random((20, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"training": ROWS[0]}, r"training must be \(N, d\), but has shape \(3,\)"),
        ({"training": ROWS[None]}, r"training must be \(N, d\), but has shape \(1, 20, 3\)"),
        ({"held_out": ROWS[0]}, r"held_out must be \(N, d\) or \(copies, N, d\)"),
        ({"held_out": ROWS[:1]}, "held_out must hold 2 rows of features or more"),
        ({"generated": ROWS[:, :2]}, "generated has 2 features per row, but training has 3"),
        ({"generated": np.stack([ROWS, ROWS])}, "generated has 2 copies per row, but held_out has 1"),
        ({"generated": np.full((20, 3), np.nan)}, "generated holds NaN or infinite features"),
        ({"training": ROWS.astype(str)}, "training must hold real numbers"),
        ({"pairs": -1}, "pairs must be at least 0, but is -1"),
        ({"level": 0}, "level must be between 0 and 1, but is 0"),
        ({"alpha": 2}, "alpha must be between 0 and 1, but is 2"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        metrics.memorisation_audit(**{"training": ROWS, "held_out": ROWS, "generated": ROWS, **arguments})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.block_means([]), "patches must hold at least one patch"),
        (lambda: metrics.block_means([np.zeros((2, 2))]), r"patches\[0\] must be an \(X, Y, Z\) volume"),
        (lambda: metrics.block_means([np.zeros((2, 2, 2)), np.zeros((2, 2, 3))]), r"patches\[1\] must be of shape"),
        (lambda: metrics.mirrored(np.zeros((2, 2, 2))), r"patches must be \(N, x, y, z\)"),
        (lambda: metrics.mirrored(np.zeros((2, 2, 2, 2)), axes=(0, 3)), "axes must be different ones of 0, 1, 2"),
    ],
)
def test_bad_patches_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        call()


def test_copies_are_caught_although_some_held_out_samples_are_training_samples():
    (training, held_out, generated), _ = feature_sets(3)
    clean = metrics.memorisation_audit(training=training, held_out=held_out[20:], generated=generated[10:])
    training[:5] = held_out[:20] = generated[:10] = 0.5  # patches of background
    generated[10:60] = training[100:150]
    audit = metrics.memorisation_audit(training=training, held_out=held_out, generated=generated)
    assert (audit.shared, audit.held_out_count, audit.generated_count) == (20, 480, 490)
    assert audit.near_zero == 50
    assert audit.memorised
    assert audit.threshold == pytest.approx(clean.threshold, rel=0.05)
    copied = set(zip(range(10, 60), range(100, 150), strict=True))
    assert {(pair.generated, pair.training) for pair in audit.pairs} <= copied


def test_an_honest_generator_of_background_is_not_accused():
    (training, held_out, generated), _ = feature_sets(4)
    training[:50] = held_out[:25] = generated[:25] = 0.5
    audit = metrics.memorisation_audit(training=training, held_out=held_out, generated=generated)
    assert not audit.memorised
    assert audit.near_zero == 0
