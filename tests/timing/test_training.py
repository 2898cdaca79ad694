"""Time and memory of one WGAN step, the fast one against the paper's plain one, interleaved in one run."""

import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import pytest
import torch
from paths import HELPERS
from pytest_benchmark.fixture import BenchmarkFixture

from vesselgan.networks import place
from vesselgan.profiling.roofline import Machine, measure_machine, roofline
from vesselgan.profiling.timing import peak_tensor_bytes
from vesselgan.training import UNetConfig, UNetTrainer, WGANConfig, WGANTrainer
from vesselgan.training.losses import soft_dice_loss

ROUNDS = 7
BATCH = 4
SIZE = (64, 64, 32)
GROUP = "64x64x32, 128 filters, batch 4, SN"

# Speed of an emulated format says nothing; it is measured all the same, and the report says which it was.
PRECISIONS = ("fp32", "bf16")


class Timed:
    """A trainer that has warmed up, and the milliseconds of every step since."""

    def __init__(
        self,
        *,
        precision: Any,
        plain: bool = False,
        channels_last: bool = False,
        size: tuple[int, int, int] = SIZE,
        batch: int = BATCH,
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = WGANConfig(
            patch_size=size, filters=128, batch=batch, steps=99, seed=0, precision=precision, plain=plain
        )
        self.trainer = WGANTrainer(config, device)
        if channels_last:
            self.trainer._layout = torch.channels_last_3d
            for network in (self.trainer.generator, self.trainer.critic):
                place(network, device, torch.channels_last_3d)
        self.real = torch.rand(batch, 2, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.step_time_ms: list[float] = []
        for _ in range(2):
            self.step()
        self.step_time_ms.clear()

    def step(self) -> dict[str, torch.Tensor]:
        start = time.perf_counter()
        log = self.trainer.step(self.real)
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        self.step_time_ms.append((time.perf_counter() - start) * 1000)
        return log


def ratio(slow: list[float], quick: list[float]) -> dict[str, float]:
    ratios = [one / other for one, other in zip(slow, quick, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


@pytest.mark.benchmark(group=f"wgan step, {GROUP}")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_step_time_of_the_fast_step_and_its_ratio_to_the_plain_one(benchmark: BenchmarkFixture, precision: str) -> None:
    fast = Timed(precision=precision)
    others = {
        "plain": Timed(precision=precision, plain=True),
        "plain channels_last_3d": Timed(precision=precision, plain=True, channels_last=True),
    }
    if precision != "fp32":
        others["plain fp32"] = Timed(precision="fp32", plain=True)

    def warm(timed: Timed) -> None:
        timed.step()  # after another trainer's step, memory and caches are not what they are in a training
        timed.step_time_ms.pop()

    def step_others() -> None:
        for other in others.values():
            warm(other)
            other.step()
        warm(fast)

    benchmark.pedantic(fast.step, setup=step_others, rounds=ROUNDS, iterations=1, warmup_rounds=0)
    assert fast.trainer.steps_done == others["plain"].trainer.steps_done == 2 * ROUNDS + 2
    ratios = {name: ratio(other.step_time_ms, fast.step_time_ms) for name, other in others.items()}
    benchmark.extra_info.update(
        step_time_ms=statistics.median(fast.step_time_ms),
        ratios=ratios,
        native=fast.trainer.precision.native,
        device=str(fast.trainer.device),
        threads=torch.get_num_threads(),
    )
    assert ratios["plain"]["median"] > 1  # how much more depends on what else the machine is doing


GROWTH = """
import torch
from process_memory import mib
from vesselgan.training import WGANConfig, WGANTrainer

real = torch.rand({batch}, 2, *{size}) * 2 - 1
before = mib("VmRSS")
config = WGANConfig(patch_size={size}, filters=128, steps=99, seed=0, precision={precision!r}, plain={plain})
trainer = WGANTrainer(config, "cpu")
for _ in range(3):
    trainer.step(real)
print(mib("VmHWM") - before)
"""


@pytest.mark.benchmark(group=f"wgan memory, {GROUP}")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_peak_memory_of_the_fast_step_and_its_share_of_the_plain_fp32_one(
    benchmark: BenchmarkFixture, precision: str
) -> None:
    def tensor_mib(precision: str, plain: bool) -> float:
        timed = Timed(precision=precision, plain=plain)
        with peak_tensor_bytes(timed.trainer, timed.real) as peak:
            timed.step()
        return peak() / 2**20

    def growth_mib(precision: str, plain: bool) -> float:
        code = GROWTH.format(batch=BATCH, size=SIZE, precision=precision, plain=plain)
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, cwd=HELPERS, check=True, capture_output=True, text=True).stdout)

    fast, plain = tensor_mib(precision, False), tensor_mib("fp32", True)
    benchmark.extra_info.update(tensor_mib=fast, plain_fp32_tensor_mib=plain, share=fast / plain)
    if sys.platform == "linux" and not torch.cuda.is_available():
        growth, plain_growth = growth_mib(precision, False), growth_mib("fp32", True)
        benchmark.extra_info.update(
            process_mib=growth, plain_fp32_process_mib=plain_growth, process_share=growth / plain_growth
        )
    benchmark.pedantic(lambda: None, rounds=1)
    assert fast / plain <= (1 / 2 if precision == "fp32" else 1 / 3)


@pytest.mark.benchmark(group="wgan scaling, 128 filters, SN")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_scaling_with_batch_and_patch_is_printed_with_its_share_of_the_machines_peak(
    benchmark: BenchmarkFixture, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("the peak is measured on a CPU")
    sizes = [(SIZE, batch) for batch in (1, 2, 4, 8, 16)]
    sizes += [(size, BATCH) for size in ((32, 32, 16), (32, 32, 32), (64, 64, 64), (96, 96, 48))]
    # What is computed, folding's structural zeros and the last block's recomputation included.
    lines = [f"{precision}: patch, batch, ms a step, patches/s, GFLOP done, GFLOP/s, share of a matrix product's"]
    for size, batch in sizes:
        machine = machine_of(precision)
        timed = Timed(precision=precision, size=size, batch=batch)
        for _ in range(3):
            timed.step()
        best = min(timed.step_time_ms)
        gflop = sum(operator.gflop for operator in roofline(timed.step, machine))
        share = gflop / best * 1e12 / machine.flops_per_s
        lines.append(
            f"{'x'.join(map(str, size)):>9} {batch:>3} {best:8.1f} {1000 * batch / best:7.1f} {gflop:7.2f} "
            f"{1000 * gflop / best:6.0f} {share:5.0%}"
        )
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    benchmark.extra_info["table"] = lines
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.mark.benchmark(group=f"wgan roofline, {GROUP}")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_operators_of_a_step_are_printed_against_what_the_machine_allows(
    benchmark: BenchmarkFixture, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("operators are timed on a CPU")
    machine = machine_of(precision)
    timed = Timed(precision=precision)
    operators = roofline(timed.step, machine)
    total, limit = (sum(getattr(operator, name) for operator in operators) for name in ("ms", "limit_ms"))
    lines = [
        f"{precision}: {total:.0f} ms in operators, limit {limit:.0f} ms at {machine.flops_per_s / 1e9:.0f} GFLOP/s "
        f"and {machine.bytes_per_s / 1e9:.0f} GB/s",
        "     ms  limit  GFLOP calls operator, shapes",
    ]
    lines += [
        f"{each.ms:7.1f} {each.limit_ms:6.1f} {each.gflop:6.2f} {each.calls:5d} {each.name} {each.shapes}"
        for each in operators[:25]
    ]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    benchmark.extra_info["table"] = lines
    benchmark.pedantic(lambda: None, rounds=1)
    assert 0 < limit < total


def machine_of(precision: str) -> Machine:
    return measure_machine(torch.bfloat16 if precision == "bf16" else torch.float32)


@pytest.mark.benchmark(group="unet step, 64x64x32, 32-256 filters, batch 2")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_step_time_of_the_unet_against_monais_of_the_same_size_trained_plainly(
    benchmark: BenchmarkFixture, precision: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own
        from monai.networks import nets
    images = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    labels = (images > 0.95).float()
    ours = UNetTrainer(UNetConfig(batch=2, max_steps=99, validate_every=99, seed=0, precision=precision), "cpu")
    peers = {
        # The same levels, widths and convolutions. (`UNet` itself convolves nothing at full resolution.)
        "DynUNet": nets.DynUNet(3, 1, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(32, 64, 128, 256)),
        # The same number of weights, in one more and narrower level: three quarters of the arithmetic.
        "BasicUNet": nets.BasicUNet(3, 1, 1, features=(32, 32, 64, 128, 256, 32)),
    }
    optimisers = {name: torch.optim.Adam(net.parameters(), lr=1e-4) for name, net in peers.items()}
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}

    def step_ours() -> None:
        start = time.perf_counter()
        ours.step(images, labels)
        times["ours"].append((time.perf_counter() - start) * 1000)

    def step_peers() -> None:
        for name, net in peers.items():
            start = time.perf_counter()
            optimisers[name].zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = soft_dice_loss(net(images), labels)
            torch.autograd.backward(loss)
            optimisers[name].step()
            times[name].append((time.perf_counter() - start) * 1000)

    step_ours()
    step_peers()
    for values in times.values():
        values.clear()
    benchmark.pedantic(step_ours, setup=step_peers, rounds=5, iterations=1, warmup_rounds=0)
    benchmark.extra_info.update(
        ratios={name: ratio(times[name], times["ours"]) for name in peers},
        parameters={name: sum(map(torch.Tensor.numel, net.parameters())) for name, net in peers.items()},
    )
    assert statistics.median(times["ours"]) < statistics.median(times["DynUNet"])
