"""Patches per second out of the volume store, against one file per patch, interleaved, the page cache warm for all."""

import gzip
import math
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from vesselgan.data import LoadedSubject, VolumeStore, cut, open_store, write_store

Batch = NDArray[np.float32]
Reader = Callable[[NDArray[np.intp]], Batch]

ROUNDS = 7
BATCH = 4
PAPER_SHAPE = (312, 384, 127)


def make_store(folder: Path, shape: tuple[int, ...], patch: tuple[int, ...], patches: int) -> VolumeStore:
    """Two subjects of tissue with noise, in whole scanner units, and sparse vessels."""

    def subjects() -> list[LoadedSubject]:
        made = []
        for number, key in enumerate("ab"):
            rng = np.random.default_rng(number)
            image = np.rint(rng.normal(110, 13, shape).astype(np.float32)).clip(0, 4095)
            label = rng.random(shape, np.float32) > 0.99
            made.append(LoadedSubject(key, image, label, None, np.eye(4), (0.5, 0.5, 0.7)))
        return made

    splits = {"train": ["a", "b"]}
    rng = np.random.default_rng(0)
    write_store(folder, subjects(), splits=splits, patch_size=patch, grid=(1, 1, 2), vessel=patches // 2 - 2, rng=rng)
    return open_store(folder)


def write_patches(folder: Path, store: VolumeStore, *, compress: bool) -> Path:
    """One file per patch, as the paper's code keeps them: float64, images as scanned."""
    folder.mkdir()
    for index, (number, *corner) in enumerate(store.patch_table.tolist()):
        key = store.subjects[number].key
        for kind, volume in (("image", store.image(key)), ("label", store.label(key))):
            patch = cut(volume, corner, store.patch_size).astype(np.float64)
            if compress:
                with gzip.open(folder / f"{index}.{kind}.npy.gz", "wb") as file:
                    np.save(file, patch)
            else:
                np.save(folder / f"{index}.{kind}.npy", patch)
    return folder


def plain_pair(image: NDArray[np.float64], label: NDArray[np.float64]) -> Batch:
    low, high = image.min(), image.max()
    return np.stack([(image - low) / (high - low) * 2 - 1, label]).astype(np.float32)


def read_npy(folder: Path) -> Reader:
    def read(indices: NDArray[np.intp]) -> Batch:
        pairs = [[np.load(folder / f"{index}.{kind}.npy") for kind in ("image", "label")] for index in indices]
        return np.stack([plain_pair(*pair) for pair in pairs])

    return read


def write_ready(folder: Path, pairs: Iterable[Batch]) -> Path:
    """The least that one file per patch can cost: the pair as the training takes it, which fixes every option."""
    folder.mkdir()
    for index, pair in enumerate(pairs):
        np.save(folder / f"{index}.npy", pair)
    return folder


def read_ready(folder: Path) -> Reader:
    return lambda indices: np.stack([np.load(folder / f"{index}.npy") for index in indices])


def read_gzip(folder: Path) -> Reader:
    def load(path: Path) -> NDArray[np.float64]:
        with gzip.open(path) as file:
            patch: NDArray[np.float64] = np.load(file)
            return patch

    def read(indices: NDArray[np.intp]) -> Batch:
        pairs = [[load(folder / f"{index}.{kind}.npy.gz") for kind in ("image", "label")] for index in indices]
        return np.stack([plain_pair(*pair) for pair in pairs])

    return read


def readers(folder: Path, shape: tuple[int, ...], patch: tuple[int, ...], patches: int) -> dict[str, Reader]:
    store = make_store(folder / "store", shape, patch, patches)
    return {
        "store": lambda indices: store.cut_channels(indices, "patch"),
        "npy": read_npy(write_patches(folder / "npy", store, compress=False)),
        "gzip": read_gzip(write_patches(folder / "gzip", store, compress=True)),
        "ready": read_ready(
            write_ready(folder / "ready", (store.cut_channels([index], "patch")[0] for index in range(patches)))
        ),
    }


def test_all_readers_give_the_same_values(tmp_path: Path) -> None:
    every = readers(tmp_path, (40, 36, 20), (32, 32, 16), 12)
    indices = np.array([9, 0, 11, 2])
    given = every["store"](indices)
    assert given.shape == (4, 2, 32, 32, 16)
    for name in ("npy", "gzip", "ready"):
        np.testing.assert_allclose(every[name](indices), given, atol=1e-6)


@pytest.mark.benchmark(group="patches, store against one file per patch")
@pytest.mark.parametrize("patch", [(128, 128, 64), (32, 32, 16)], ids=lambda patch: "x".join(map(str, patch)))
def test_patches_per_second_of_the_store_and_its_ratio_to_one_file_per_patch(
    benchmark: BenchmarkFixture, tmp_path: Path, patch: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    shape = PAPER_SHAPE if patch[0] == 128 else (96, 96, 48)
    count = 16 if patch[0] == 128 else 160
    every = readers(tmp_path, shape, patch, count)
    seconds: dict[str, list[float]] = {name: [] for name in every}
    rng = np.random.default_rng(1)

    def one_round() -> None:
        order = rng.permutation(count)
        for name, read in every.items():
            start = time.perf_counter()
            for first in range(0, count, BATCH):
                read(order[first : first + BATCH])
            seconds[name].append(time.perf_counter() - start)

    one_round()
    for values in seconds.values():
        values.clear()
    benchmark.pedantic(one_round, rounds=ROUNDS, iterations=1, warmup_rounds=0)
    speed = {name: count / statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: [slow / quick for slow, quick in zip(seconds[name], seconds["store"], strict=True)]
        for name in ("npy", "gzip", "ready")
    }
    megabytes = math.prod(patch) * 8 / 1e6
    lines = [f"{'x'.join(map(str, patch))}: patches/s " + ", ".join(f"{n} {v:.1f}" for n, v in speed.items())]
    lines += [f"  {n}: {statistics.median(r):.1f}x ({min(r):.1f}-{max(r):.1f})" for n, r in ratios.items()]
    lines.append(f"  the store writes {speed['store'] * megabytes / 1000:.2f} GB/s of pairs")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    benchmark.extra_info.update(patches_per_s=speed, ratios=ratios)
    assert statistics.median(ratios["npy"]) >= 5
    assert statistics.median(ratios["gzip"]) >= 20
