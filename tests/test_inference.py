"""Tiled segmentation: exact where it can be, covering every voxel, and equal to MONAI's."""

import importlib
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vesselgan.errors import InputError
from vesselgan.inference import segment_volume, tile_starts
from vesselgan.networks import UNet
from vesselgan.training import choose_precision

FP32 = choose_precision("fp32", "cpu")
Image = NDArray[np.float32]


class VoxelWise(nn.Module):
    """A network whose answer for a voxel depends on that voxel only, so tiling must not show."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images


def noise(shape: tuple[int, ...]) -> Image:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def unet(filters: tuple[int, ...] = (4, 8)) -> UNet:
    torch.manual_seed(0)
    net = UNet(filters=filters)
    with torch.no_grad():  # untrained networks say nearly the same everywhere
        for _ in range(30):
            net.train()(torch.randn(2, 1, 16, 16, 16))
        net.output.weight.mul_(4)
    return net.to(memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]


@pytest.mark.parametrize("shape", [(32, 32, 16), (45, 33, 17), (20, 40, 9), (16, 16, 16), (1, 3, 50)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_tiles_of_a_voxelwise_network_join_without_a_seam(shape: tuple[int, int, int], overlap: float) -> None:
    image = noise(shape)
    probability = segment_volume(VoxelWise(), image, (16, 16, 16), precision=FP32, overlap=overlap, batch=3)
    assert probability.shape == shape
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-2 * image)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(45, 33, 17), (7, 33, 17)])
def test_a_constant_answer_stays_constant_up_to_the_borders(shape: tuple[int, int, int]) -> None:
    constant = segment_volume(VoxelWise(), np.full(shape, 1.5, np.float32), (16, 8, 4), precision=FP32, overlap=0.6)
    np.testing.assert_allclose(constant, 1 / (1 + np.exp(-3.0)), rtol=1e-6)


@pytest.mark.parametrize(("axis", "size", "overlap"), [(16, 16, 0.5), (17, 16, 0.0), (100, 16, 0.25), (127, 64, 0.9)])
def test_tiles_cover_an_axis_and_overlap_enough(axis: int, size: int, overlap: float) -> None:
    starts = tile_starts(axis, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == axis - size
    assert all(0 <= after - before <= size * (1 - overlap) + 1 for before, after in pairwise(starts))
    assert len(starts) == len(set(starts))


def test_neither_input_nor_network_changes_and_progress_counts_every_tile() -> None:
    image, net = noise((20, 18, 16)), unet()
    before, calls = image.copy(), []
    segment_volume(net, image, (16, 16, 16), precision=FP32, batch=3, progress=lambda *at: calls.append(at))
    np.testing.assert_array_equal(image, before)
    assert calls == [(3, 4), (4, 4)]


@pytest.mark.parametrize("changes", [{"overlap": 1.0}, {"overlap": -0.1}, {"batch": 0}, {"image": noise((4, 4))}])
def test_nonsense_is_refused(changes: dict[str, Any]) -> None:
    arguments = {"image": noise((8, 8, 8)), "tile": (8, 8, 8), "precision": FP32} | changes
    with pytest.raises(InputError):
        segment_volume(VoxelWise(), **arguments)


# ------------------------------------------------------------------ beside MONAI


def monai_inferer() -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("monai.inferers").sliding_window_inference  # type: ignore[no-any-return]


def by_monai(net: nn.Module, image: Image, tile: tuple[int, ...], overlap: float, batch: int, kind: str) -> Image:
    """What MONAI makes of the same network, tiles, overlap, batch and number format."""
    precision, sliding_window = choose_precision(kind, "cpu"), monai_inferer()

    def predictor(tiles: torch.Tensor) -> torch.Tensor:
        with precision.autocast():
            return net(tiles).float().sigmoid()

    with torch.inference_mode():
        probability = sliding_window(
            torch.from_numpy(image)[None, None],
            tile,
            batch,
            predictor,
            overlap=overlap,
            mode="gaussian",
            padding_mode="replicate",
        )
    result: Image = probability[0, 0].numpy()
    return result


@pytest.mark.parametrize("shape", [(40, 33, 19), (16, 16, 8), (50, 20, 9), (9, 30, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
def test_the_result_is_that_of_monai(shape: tuple[int, int, int], overlap: float) -> None:
    image, net = noise(shape), unet()
    theirs = by_monai(net, image, (16, 16, 8), overlap, 3, "fp32")
    ours = segment_volume(net, image, (16, 16, 8), precision=FP32, overlap=overlap, batch=3)
    assert ours.std() > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


CASES = {
    "laptop, overlap 0.25": ((96, 96, 48), (32, 32, 16), 0.25, 8, (8, 16, 32), 4),
    "laptop, overlap 0.5": ((96, 96, 48), (32, 32, 16), 0.5, 8, (8, 16, 32), 2),
    "large, overlap 0.25": ((160, 160, 80), (64, 64, 32), 0.25, 4, (8, 16, 32), 1),
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Then the processor's time is the time that it takes, whatever else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.benchmark
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_as_fast_as_monai(case: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    shape, tile, overlap, batch, filters, rounds = CASES[case]
    image, net, precision = noise(shape), unet(filters), choose_precision(kind, "cpu")

    def ours() -> Image:
        return segment_volume(net, image, tile, precision=precision, overlap=overlap, batch=batch)

    def theirs() -> Image:
        return by_monai(net, image, tile, overlap, batch, kind)

    np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-5)  # also the warm-up
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(2 * rounds):
        order = (("ours", ours), ("theirs", theirs))
        for name, work in order if turn % 2 else order[::-1]:
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    ratios = np.divide(seconds["theirs"], seconds["ours"])
    best = {name: min(times) for name, times in seconds.items()}
    with capsys.disabled():
        print(
            f"\n{case}, {kind}, 1 thread: ours {best['ours']:.3f} s, MONAI {best['theirs']:.3f} s, "
            f"ratio of the fastest {best['theirs'] / best['ours']:.3f}, "
            f"of rounds {ratios.min():.3f} to {ratios.max():.3f}"
        )
    assert best["theirs"] / best["ours"] > 1


@pytest.mark.benchmark
@pytest.mark.usefixtures("one_thread")
def test_what_stands_around_the_network_takes_less_than_in_monai(capsys: pytest.CaptureFixture[str]) -> None:
    image, tile = noise((96, 96, 48)), (32, 32, 16)
    work: dict[str, Callable[[], Image]] = {
        "ours": lambda: segment_volume(VoxelWise(), image, tile, precision=FP32, overlap=0.5, batch=8),
        "theirs": lambda: by_monai(VoxelWise(), image, tile, 0.5, 8, "fp32"),
    }
    best = dict.fromkeys(work, float("inf"))
    for _ in range(20):
        for name in work:
            start = time.process_time()
            work[name]()
            best[name] = min(best[name], time.process_time() - start)
    with capsys.disabled():
        print(f"\naround the network: ours {1000 * best['ours']:.1f} ms, MONAI {1000 * best['theirs']:.1f} ms")
    assert best["ours"] < best["theirs"]


MEMORY = """
import sys
import numpy as np
from process_memory import mib
from test_inference import FP32, VoxelWise, by_monai, noise, segment_volume
by_monai(VoxelWise(), noise((40, 40, 40)), (32, 32, 16), 0.25, 4, "fp32")  # what imports take
image = np.random.default_rng(0).random((320, 320, 160), dtype=np.float32)
before = mib("VmHWM")
if sys.argv[1] == "ours":
    segment_volume(VoxelWise(), image, (64, 64, 32), precision=FP32, overlap=0.25, batch=4)
else:
    by_monai(VoxelWise(), image, (64, 64, 32), 0.25, 4, "fp32")
print((mib("VmHWM") - before) * 2**20 / image.nbytes)
"""


@pytest.mark.benchmark
def test_it_takes_less_memory_than_monai(capsys: pytest.CaptureFixture[str]) -> None:
    """Growth of the process's peak beyond the image, in volumes of float32 (MONAI: output and count map)."""
    monai_inferer()
    volumes = {}
    for name in ("ours", "theirs"):
        run = [sys.executable, "-W", "ignore", "-c", MEMORY, name]
        output = subprocess.run(run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        volumes[name] = float(output.stdout)
    with capsys.disabled():
        print(f"\nmemory beside the image: ours {volumes['ours']:.2f} volumes, MONAI {volumes['theirs']:.2f}")
    assert volumes["ours"] < 1.5
    assert volumes["ours"] < volumes["theirs"]
