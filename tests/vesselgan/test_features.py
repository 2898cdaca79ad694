"""Feature extraction: input normalisation, the offline default, and MedicalNet's file."""

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vesselgan.data import make_phantom, open_store, phantom_subjects, write_store
from vesselgan.errors import InputError
from vesselgan.features import medicalnet, normalise, random_resnet10
from vesselgan.hub import local_weights
from vesselgan.metrics import frechet_distance
from vesselgan.networks import ResNet10


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    folder = tmp_path_factory.mktemp("store")
    write_store(
        folder,
        phantom_subjects(4, (64, 64, 32), seed=0),
        splits={"train": [f"phantom-00{index}" for index in range(4)]},
        patch_size=(32, 32, 16),
        grid=(2, 2, 2),
        vessel=16,
        rng=np.random.default_rng(0),
    )
    store = open_store(folder)
    return store.cut_pairs(store.patches("train"), "volume")[0]


def test_normalised_patches_are_z_scores_of_what_is_above_zero() -> None:
    patch = np.full((1, 4, 4, 4), -1, np.float32)
    patch[0, :2] = np.random.default_rng(0).uniform(-0.5, 1, (2, 4, 4))
    inside = normalise(patch)[0, :2]
    assert inside.mean() == pytest.approx(0, abs=1e-6)
    assert inside.std() == pytest.approx(1, abs=1e-6)


def test_a_constant_patch_becomes_zeros() -> None:
    assert not normalise(np.full((1, 4, 4, 4), -1, np.float32)).any()


def test_d9_fills_zero_voxels_with_noise_or_leaves_them() -> None:
    patch = np.full((1, 16, 16, 16), -1, np.float32)
    patch[0, 0] = np.linspace(-0.5, 1, 256).reshape(16, 16)
    noisy, plain = normalise(patch, np.random.default_rng(0)), normalise(patch)
    assert np.unique(plain[0, 1:]).size == 1
    assert noisy[0, 1:].std() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(noisy[0, 0], plain[0, 0])
    batches = [patch]
    assert not np.array_equal(random_resnet10(noise="noise")(batches), random_resnet10(noise="none")(batches))


def test_features_do_not_depend_on_batches_and_repeat(patches: NDArray[np.float32]) -> None:
    extractor = random_resnet10()
    whole = extractor([patches[:6]])
    assert extractor.version == 2
    parts = extractor([patches[:2], patches[2:6]])
    assert whole.shape == (6, 256)
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-6)
    assert random_resnet10().weights_sha256 == extractor.weights_sha256


def test_the_distance_grows_with_blur_and_with_noise(patches: NDArray[np.float32]) -> None:
    """The least that an extractor must do to be offered at all."""
    extractor = random_resnet10()
    real, other = patches[::2], patches[1::2]
    rng = np.random.default_rng(0)

    def distance(images: NDArray[np.float32]) -> float:
        with pytest.warns(UserWarning, match="samples"):
            return frechet_distance(real=extractor([real]), generated=extractor([images]))

    floor = distance(other)
    blurred = [distance(gaussian_filter(other, (0, s, s, s))) for s in (0.5, 1.0, 2.0)]
    noise = rng.normal(size=other.shape).astype(np.float32)
    noisy = [distance(np.clip(other + s * noise, -1, 1)) for s in (0.1, 0.2, 0.4)]
    assert floor < blurred[0] < blurred[1] < blurred[2]
    assert floor < noisy[0] < noisy[1] < noisy[2]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_medicalnet_weights_load_with_and_without_the_prefix(tmp_path: Path, prefix: str) -> None:
    net = ResNet10()
    path = tmp_path / "resnet_10_23dataset.pth"
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in net.state_dict().items()}}, path)
    extractor = medicalnet(path)
    batch = make_phantom((32, 32, 16), subject=0, seed=0).image[None] / 2048 - 1
    with torch.inference_mode():
        expected = net.eval()(torch.from_numpy(normalise(batch))[:, None]).double().numpy()
    np.testing.assert_allclose(extractor([batch]), expected, rtol=1e-5)
    assert len(extractor.weights_sha256) == 64


def test_patches_stream_through_one_batch_at_a_time() -> None:
    """11,750 patches of 128 x 128 x 64 would be 49 GB: no batch may be kept once its features are there."""
    alive: list[weakref.ref[NDArray[np.float32]]] = []

    def batches() -> Iterator[NDArray[np.float32]]:
        for index in range(6):
            batch = np.full((2, 16, 16, 16), index / 6, np.float32)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            gc.collect()
            assert sum(reference() is not None for reference in alive) <= 1

    assert random_resnet10()(batches()).shape == (12, 256)


def test_the_hub_gives_a_file_or_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = ModuleType("huggingface_hub")
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    hub.hf_hub_download = download  # type: ignore[attr-defined]
    assert local_weights("hub") == tmp_path / "resnet_10_23dataset.pth"
    assert asked == [("TencentMedicalNet/MedicalNet-Resnet10", "resnet_10_23dataset.pth")]
    assert local_weights("a.pth") == Path("a.pth")

    def offline(repository: str, name: str) -> str:
        raise ConnectionError("no route\nto host")

    hub.hf_hub_download = offline  # type: ignore[attr-defined]
    with pytest.raises(
        InputError, match=r"cannot be reached \(no route\); download resnet_10_23dataset.pth on another"
    ):
        local_weights("hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs huggingface_hub: pip install 'huggingface_hub>=0.30,<3'"):
        local_weights("hub")


@pytest.mark.parametrize("content", ["missing", "text", "other network"])
def test_a_file_that_is_not_medicalnet_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("hello")
    elif content == "other network":
        torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(
        InputError, match=r"weights\.pth: (cannot be read|not a file of (weights|torch.save)|does not fit MedicalNet)"
    ) as caught:
        medicalnet(path)
    assert "\n" not in str(caught.value)
