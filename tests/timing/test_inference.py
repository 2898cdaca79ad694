"""Time and memory of tiled segmentation, interleaved with MONAI's."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from paths import HELPERS
from tiled_inference import FP32, Image, VoxelWise, by_monai, monai_inferer, noise, unet

from vesselgan.inference import segment_volume
from vesselgan.training import choose_precision

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
from tiled_inference import FP32, VoxelWise, by_monai, noise
from vesselgan.inference import segment_volume
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
        output = subprocess.run(run, cwd=HELPERS, capture_output=True, text=True, check=True)
        volumes[name] = float(output.stdout)
    with capsys.disabled():
        print(f"\nmemory beside the image: ours {volumes['ours']:.2f} volumes, MONAI {volumes['theirs']:.2f}")
    assert volumes["ours"] < 1.5
    assert volumes["ours"] < volumes["theirs"]
