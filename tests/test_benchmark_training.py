"""Time of one WGAN step, the fast one against the paper's plain one, interleaved in one run."""

import statistics
import time
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from vesselgan.training import StepLog, WGANConfig, WGANTrainer

ROUNDS = 5
BATCH = 4
SIZE = (64, 64, 32)

# Speed of an emulated format says nothing; it is measured all the same, and the report says which it was.
PRECISIONS = ("fp32", "bf16")


class TimedTrainer:
    """A trainer that has warmed up, and the milliseconds of every step since."""

    def __init__(self, device: str, *, plain: bool, precision: Any) -> None:
        config = WGANConfig(
            patch_size=SIZE,
            filters=128,
            norm="spectral",
            batch=BATCH,
            steps=99,
            seed=0,
            precision=precision,
            plain=plain,
        )
        self.trainer = WGANTrainer(config, device)
        self.real = torch.rand(BATCH, 2, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.step_time_ms: list[float] = []
        for _ in range(2):
            self.step()
        self.step_time_ms.clear()

    def step(self) -> StepLog:
        start = time.perf_counter()
        log = self.trainer.step(self.real)
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        self.step_time_ms.append((time.perf_counter() - start) * 1000)
        return log


@pytest.mark.benchmark(group="wgan step, 64x64x32, 128 filters, batch 4, SN")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_step_time_of_the_fast_step_and_its_ratio_to_the_plain_one(benchmark: BenchmarkFixture, precision: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fast, plain = (TimedTrainer(device, plain=plain, precision=precision) for plain in (False, True))
    benchmark.pedantic(fast.step, setup=lambda: void(plain.step()), rounds=ROUNDS, iterations=1, warmup_rounds=0)
    assert len(fast.step_time_ms) == len(plain.step_time_ms) == ROUNDS
    assert fast.trainer.steps_done == plain.trainer.steps_done == ROUNDS + 2
    ratios = [slow / quick for slow, quick in zip(plain.step_time_ms, fast.step_time_ms, strict=True)]
    benchmark.extra_info.update(
        step_time_ms=statistics.median(fast.step_time_ms),
        plain_step_time_ms=statistics.median(plain.step_time_ms),
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        native=fast.trainer.precision.native,
        device=device,
        threads=torch.get_num_threads(),
    )
    assert statistics.median(ratios) > 1  # how much more depends on what else the machine is doing


def void(_: object) -> None:
    """The plain step as a setup hook: pytest-benchmark takes what a hook returns for arguments."""
