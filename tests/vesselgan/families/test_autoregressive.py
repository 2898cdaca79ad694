"""The autoregressive family: labelled patches of a trained generator, and the real ones that it learns from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vesselgan.data import LoadedSubject, VolumeStore, open_store, write_store
from vesselgan.families import FAMILIES
from vesselgan.families.autoregressive import AutoregressiveSampler, real_batches, training_atlas, without_specks
from vesselgan.networks.atlas import atlas_of
from vesselgan.recipe import CORRECTED, PAPER_CODE
from vesselgan.settings import AutoregressiveConfig
from vesselgan.synthesis import Pairs
from vesselgan.training.autoregressive import network_of

CONFIG = AutoregressiveConfig(patch_size=(32, 16, 16), steps=3, seed=5, filters=8, batch=6)


def made(count: int, **options: int) -> Pairs:
    torch.manual_seed(3)
    generator = network_of(CONFIG)
    options = {"seed": 1, "batch": 4, **options}
    torch.manual_seed(options["seed"] + 7)  # the caller's random numbers are nobody's business
    batches = AutoregressiveSampler(generator, CONFIG).sample(count, **options)
    return Pairs(*map(np.concatenate, zip(*batches, strict=True)))


def test_pairs_are_images_in_range_with_binary_labels() -> None:
    pairs = made(6)
    assert pairs.images.shape == pairs.labels.shape == (6, 32, 16, 16)
    assert pairs.images.dtype == np.float32
    assert pairs.labels.dtype == bool
    assert np.abs(pairs.images).max() <= 1


def test_a_patch_depends_on_seed_and_place_and_not_on_how_many_there_are() -> None:
    all_of_them, fewer, later = made(8), made(5), made(8, start=4)
    assert np.array_equal(fewer.images, all_of_them.images[:5])
    assert np.array_equal(later.images, all_of_them.images[4:])
    assert np.array_equal(later.labels, all_of_them.labels[4:])
    assert not np.array_equal(made(1, seed=2).images, all_of_them.images[:1])


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    """Two training subjects of other shapes, and one between them that nobody may learn from."""
    rng = np.random.default_rng(0)
    subjects = [
        LoadedSubject(
            key,
            image=rng.integers(1, 900, size=shape).astype(np.float32),
            label=rng.random(shape) < 0.05,
            mask=None,
            affine=np.eye(4),
            spacing_mm=(1.0, 1.0, 1.0),
        )
        for key, shape in (("a", (40, 30, 20)), ("b", (36, 36, 18)), ("c", (34, 20, 24)))
    ]
    splits = {"train": ["a", "c"], "test": ["b"]}
    write_store(tmp_path, subjects, splits=splits, patch_size=CONFIG.patch_size, grid=None, vessel=0, rng=rng)
    return open_store(tmp_path)


def test_what_it_learns_from_is_cut_around_vessels_of_training_subjects(store: VolumeStore) -> None:
    batch = real_batches(replace(CONFIG, anywhere=0.0, flips=()), store, CORRECTED)
    pairs = torch.cat([batch(step)[0] for step in range(4)])
    assert pairs.shape == (24, 2, 32, 16, 16)
    assert pairs[:, 1].unique().tolist() == [0, 1]
    assert pairs[:, 1, 16, 8, 8].eq(1).all(), "the central voxel is vessel"
    assert (pairs[:, 0].amin(), pairs[:, 0].amax()) == (-1, 1), "one scale per volume, clipped"
    assert torch.equal(batch(2)[0], pairs[12:18]), "a step is the same whenever it is asked for"
    allowed = [store.image(key) for key in ("a", "c")]
    for pair in pairs:
        bright = float((pair[0, 16, 8, 8] + 1) / 2)
        voxels = [(volume - low) / (high - low) for volume, (low, high) in zip(allowed, ranges(store), strict=True)]
        assert any(np.isclose(np.clip(volume, 0, 1), bright, atol=1e-4).any() for volume in voxels)


def ranges(store: VolumeStore) -> list[tuple[float, float]]:
    return [subject.intensity_range for subject in store.subjects if subject.split == "train"]


def test_a_share_comes_from_anywhere_and_half_are_mirrored(store: VolumeStore) -> None:
    plain, mirrored = (
        real_batches(replace(CONFIG, anywhere=1.0, flips=flips), store, CORRECTED) for flips in ((), ("x",))
    )
    pairs, places = (
        [torch.cat([batch(step)[part] for step in range(10)]) for batch in (plain, mirrored)] for part in (0, 1)
    )
    turned = [torch.equal(one.flip(1), other) for one, other in zip(*pairs, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(*pairs, strict=True)]
    assert all(np.add(turned, same) == 1), "image and label alike"
    assert 0.3 < np.mean(turned) < 0.7
    opposite = torch.where(torch.tensor(turned), -1.0, 1.0)
    assert torch.equal(places[1][:, 0], places[0][:, 0] * opposite), "a mirrored patch lies on the other side"
    assert torch.equal(places[1][:, 1:], places[0][:, 1:])
    assert 0.01 < float(pairs[0][:, 1, 16, 8, 8].mean()) < 0.2, "5 % of voxels are vessel, wherever one looks"


def test_the_atlas_is_of_training_subjects_alone_and_mirrored_as_patches_are(store: VolumeStore) -> None:
    plain, mirrored = (training_atlas(replace(CONFIG, flips=flips), store) for flips in ((), ("x", "z")))
    ranges_of = {subject.key: subject.intensity_range for subject in store.subjects}

    def volume(key: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        low, high = ranges_of[key]
        return np.clip((store.image(key) - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32), store.label(key)

    torch.testing.assert_close(plain, atlas_of([volume("a"), volume("c")]))
    torch.testing.assert_close(mirrored, mirrored.flip(1))
    torch.testing.assert_close(mirrored, mirrored.flip(3))
    assert not torch.allclose(mirrored, mirrored.flip(2))


def test_d8_scales_its_patches_as_those_of_a_wgan(store: VolumeStore) -> None:
    pairs, _ = real_batches(CONFIG, store, PAPER_CODE)(0)
    assert pairs[:, 0].amax(dim=(1, 2, 3)).eq(1).all()
    assert pairs[:, 0].amin(dim=(1, 2, 3)).eq(-1).all()


def test_what_is_kept_of_a_generator_makes_it_again() -> None:
    family = FAMILIES["autoregressive"]
    sampler = AutoregressiveSampler(network_of(CONFIG), CONFIG)
    facts = json.loads(json.dumps(sampler.facts))
    again = family.load(facts, sampler.network.state_dict(), CORRECTED)
    for one, other in zip(sampler.sample(3, seed=0, batch=2), again.sample(3, seed=0, batch=2), strict=True):
        assert np.array_equal(one.images, other.images)


def test_the_operations_of_both_turns_and_of_sampling_are_checked() -> None:
    config = replace(CONFIG, precision="bf16")
    found = FAMILIES["autoregressive"].operations(config, "cpu", 5)
    convolutions = {one.arguments[0].shape[0] for one in found if one.name == "convolution"}
    assert convolutions >= {1, 5, 6}, "the fine levels' pairs of a step, those of sampling, all"
    assert {one.dtype for one in found} == {torch.bfloat16, torch.float32}, "thin grids stay in float32"
    assert {"convolution_backward", "mm", "addmm", "bmm"} <= {one.name for one in found}
    half = FAMILIES["autoregressive"].operations(replace(CONFIG, precision="fp16"), "cpu", 5)
    assert torch.float16 in {one.dtype for one in half}


def test_the_cost_of_a_step_is_counted() -> None:
    family = FAMILIES["autoregressive"]
    costs = [
        family.step_cost(family.sized(replace(CONFIG, filters=filters, lr=lr))) for filters, lr in ((8, 1), (16, 2))
    ]
    assert 1.5 < costs[1].flops / costs[0].flops < 4
    weights = sum(weight.nbytes for weight in network_of(CONFIG).parameters())
    assert costs[0].peak_bytes > costs[0].state_bytes > 3 * weights, "with a moment and the average"
    assert family.sized(replace(CONFIG, lr=1.0, steps=9)) == family.sized(replace(CONFIG, lr=2.0, seed=7))


def test_specks_are_taken_out_of_labels_and_what_touches_a_vessel_by_a_corner_stays() -> None:
    label = np.zeros((8, 8, 8), dtype=bool)
    label[:4, 1, 1] = True
    label[4, 2, 2] = True
    label[7, 7, 6:] = True
    kept = without_specks(label, 3)
    assert kept.sum() == 5
    assert not kept[7].any()
    assert np.array_equal(without_specks(label, 1), label)
    assert not without_specks(np.zeros((2, 2, 2), dtype=bool), 5).any()
