"""Qualifying feature extractors: degradations are what they say, and every extractor that is offered passes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vesselgan.data import phantom_subjects
from vesselgan.features import Extractor, medicalnet, random_resnet10
from vesselgan.metrics import frechet_distance
from vesselgan.networks import ResNet10
from vesselgan.qualification import LADDERS, PatchSet, Qualification, cut_patches, degrade, qualify


@pytest.fixture(scope="module")
def patches() -> PatchSet:
    return cut_patches(
        phantom_subjects(4, (48, 48, 32), seed=0), (16, 16, 16), grid=(2, 2, 2), vessel=8, rng=np.random.default_rng(0)
    )


@pytest.mark.parametrize("kind", ["blur", "noise", "erased vessels"])
def test_each_level_departs_further_from_the_original(kind: str, patches: PatchSet) -> None:
    changes = [np.abs(degrade(patches, kind, level, seed=0) - patches.images).mean() for level in (0, *LADDERS[kind])]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert len(set(changes)) == len(changes)


def test_erasing_takes_the_vessels_and_leaves_the_rest(patches: PatchSet) -> None:
    from scipy.ndimage import binary_dilation

    erased = degrade(patches, "erased vessels", 1.0, seed=0)
    near = np.stack([binary_dilation(label) for label in patches.labels])
    np.testing.assert_array_equal(erased[~near], patches.images[~near])
    assert erased[patches.labels].mean() < patches.images[patches.labels].mean() - 0.1


def test_halves_share_no_subject_and_all_levels_have_the_same_number(patches: PatchSet) -> None:
    def means(batches: object) -> np.ndarray:
        return np.concatenate([batch.mean(axis=(1, 2, 3))[:, None] for batch in batches])  # type: ignore[attr-defined]

    sizes = []

    def distance(reference: np.ndarray, other: np.ndarray) -> float:
        sizes.append((len(reference), len(other)))
        assert not np.isin(other, reference).any()
        return float(abs(reference.mean() - other.mean()))

    found = qualify(means, patches, {"mean": distance}, count=6, seed=0)["mean"]
    assert set(sizes) == {(6, 6)}
    assert len(sizes) == 1 + sum(map(len, LADDERS.values()))
    assert {name: len(levels) for name, levels in found.distances.items()} == {k: len(v) for k, v in LADDERS.items()}
    with pytest.raises(ValueError, match="count must be at most"):
        qualify(means, patches, {"mean": distance}, count=1000, seed=0)


def test_growth_is_strict_and_starts_at_the_floor() -> None:
    assert Qualification(1.0, {"blur": [1.5, 2.0]}).passed
    assert not Qualification(1.0, {"blur": [1.5, 1.5]}).passed
    assert not Qualification(1.5, {"blur": [1.5, 2.0]}).passed
    assert not Qualification(1.0, {"blur": [1.5, 2.0], "noise": [1.5, 1.2]}).passed
    assert Qualification(2.0, {"blur": [5.0, 6.0], "noise": [3.0, 9.0]}).separation == 1.5


def random_medicalnet(folder: Path) -> Extractor:
    """MedicalNet's path through a file, with weights that are random: the true ones cannot be had everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = ResNet10().state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, folder / "weights.pth")
    return medicalnet(folder / "weights.pth")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vesselgan.metrics.SmallSampleWarning")
@pytest.mark.parametrize(
    ("name", "count", "number", "seeds"), [("random_resnet10", 320, 40, [0, 1]), ("medicalnet", 96, 20, [0])]
)
def test_every_offered_extractor_is_fit_to_score(
    name: str, count: int, number: int, seeds: list[int], tmp_path: Path
) -> None:
    """FID lies near its floor for real halves, and grows with every level of every degradation, in each draw."""
    extractor = random_resnet10() if name == "random_resnet10" else random_medicalnet(tmp_path)
    subjects = phantom_subjects(number, (96, 96, 48), seed=7)
    real = cut_patches(subjects, (32, 32, 16), grid=(3, 3, 2), vessel=60, rng=np.random.default_rng(0))
    draws = [
        qualify(
            extractor,
            real,
            {"fid": lambda reference, other: frechet_distance(real=reference, generated=other)},
            count=count,
            seed=seed,
        )["fid"]
        for seed in seeds
    ]
    for draw in draws:
        assert draw.passed, draw
    floors = [draw.floor for draw in draws]
    assert max(floors) < 2 * min(floors)
