"""The paper's own training step, timed in every number format and several ways of computing it, taking turns.

    python tests/cuda/paper_step.py --out steps.jsonl --device cuda --seconds 100

Each configuration (width, critic norm, format) is a line of JSON, written at once; a table is printed at the end. What
does not fit into memory is a result, too. The order is that of importance, for the seconds may not do for all.
"""

import argparse
import gc
import json
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vesselgan.errors import InputError
from vesselgan.networks import place
from vesselgan.networks.last_block import pieces_as_on
from vesselgan.profiling.step_counter import predict_step
from vesselgan.profiling.timing import peak_tensor_bytes
from vesselgan.training import WGANConfig, WGANTrainer, choose_precision

WARM_UP = 2
WAYS = ("ours", "plain", "plain channels_last_3d", "ours, generator compiled")


def main() -> None:
    """Measure until the seconds are over."""
    asked = parser().parse_args()
    ends = time.monotonic() + asked.seconds
    lines = []
    for config in configurations(asked):
        if time.monotonic() > ends:
            break
        lines.append(measured(config, asked.device, asked.rounds))
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        print(told(lines[-1]), flush=True)
    print(f"{len(lines)} configurations of {len(list(configurations(asked)))}")


def parser() -> argparse.ArgumentParser:
    """What can be asked for; the defaults are the paper's."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--device", default="cuda")
    options.add_argument("--seconds", type=float, default=100)
    options.add_argument("--patch", type=lambda text: tuple(map(int, text.split(","))), default=(128, 128, 64))
    options.add_argument("--filters", type=lambda text: tuple(map(int, text.split(","))), default=(512, 1024, 256))
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--rounds", type=int, default=7)
    return options


def configurations(asked: argparse.Namespace) -> Iterator[WGANConfig]:
    """Those that the device computes, spectral norm and the paper's widths first."""
    common = {"patch_size": asked.patch, "batch": asked.batch, "steps": 999, "seed": 0}
    for filters in asked.filters:
        for norm in ("spectral", "instance"):
            for precision in ("fp32", "fp16", "bf16", "tf32"):
                try:
                    choose_precision(precision, asked.device)
                except InputError:
                    continue
                yield WGANConfig(**common, filters=filters, norm=norm, precision=precision)


def measured(config: WGANConfig, device: str, rounds: int) -> dict[str, Any]:
    """All ways of computing this step, in turn."""
    with pieces_as_on(device):
        predicted = predict_step(config)
    line: dict[str, Any] = {
        "filters": config.filters,
        "norm": config.norm,
        "precision": config.precision,
        "patch": config.patch_size,
        "batch": config.batch,
        "predicted_bytes": predicted.peak_bytes,
        "flops": predicted.flops,
        "ways": {},
    }
    real = torch.rand(config.batch, 2, *config.patch_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real = real.to(device)
    trainers: dict[str, WGANTrainer] = {}
    for way in WAYS:
        if "compiled" in way and (config.norm != "spectral" or config.precision not in ("fp32", "bf16")):
            continue
        try:
            trainers[way], line["ways"][way] = started(way, config, device, real)
        except Exception as error:  # out of memory, or torch.compile's: both are results
            line["ways"][way] = {
                "failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            }
        _free(device)
    times: dict[str, list[float]] = {way: [] for way in trainers}
    for _ in range(rounds):
        for way, trainer in trainers.items():
            trainer.step(real)  # after another's step, memory and caches are not what they are in a training
            times[way].append(_step_ms(trainer, real, device))
    for way, trainer in trainers.items():
        found = line["ways"][way]
        found["step_time_ms"] = statistics.median(times[way])
        found["lowest_ms"], found["highest_ms"] = min(times[way]), max(times[way])
        found["speedup_of_ours"] = (
            statistics.median(other / own for other, own in zip(times[way], times["ours"], strict=True))
            if "ours" in times
            else None
        )
        if device == "cuda":
            with sampled() as samples:
                for _ in range(max(3, int(1000 / found["step_time_ms"]))):
                    trainer.step(real)
                torch.cuda.synchronize()
            found |= samples
            if samples.get("power_w"):
                found["energy_j"] = samples["power_w"] * found["step_time_ms"] / 1000
    trainers.clear()
    _free(device)
    return line


def started(way: str, config: WGANConfig, device: str, real: torch.Tensor) -> tuple[WGANTrainer, dict[str, Any]]:
    """A trainer that has warmed up, its memory, and the course of its loss scale."""
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    trainer = WGANTrainer(replace(config, plain=way.startswith("plain")), device)
    if way == "plain channels_last_3d":
        trainer._layout = torch.channels_last_3d
        for network in trainer.networks:
            place(network, device, torch.channels_last_3d)
    if "compiled" in way:
        trainer.generator.compile()  # a critic's double backward is nothing that torch.compile takes
    begun = time.perf_counter()
    logs = [trainer.step(real) for _ in range(WARM_UP)]
    found: dict[str, Any] = {"warm_up_s": time.perf_counter() - begun}
    with peak_tensor_bytes(trainer, real) as peak:
        logs.append(trainer.step(real))
    found["peak_bytes"] = peak() - before  # without those of the trainers before it
    if device == "cuda":
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()  # with theirs
    found["loss_scales"] = [float(log["loss_scale"]) for log in logs]
    found["losses"] = [float(logs[-1][name]) for name in ("critic_loss", "generator_loss")]
    return trainer, found


@contextmanager
def sampled() -> Iterator[dict[str, float]]:
    """Mean utilisation and power while the block runs, as nvidia-smi tells them; empty where it tells nothing."""
    found: dict[str, float] = {}
    readings: list[list[float]] = []
    over = threading.Event()
    command = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw", "--format=csv,noheader,nounits", "--id=0"]

    def sample() -> None:
        while not over.is_set():
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
            try:
                readings.append([float(part) for part in answer.split(",")])
            except ValueError:  # a card that does not tell its power
                return

    thread = threading.Thread(target=sample)
    if shutil.which(command[0]):
        thread.start()
    yield found
    over.set()
    if thread.ident is not None:
        thread.join()
    if readings:
        found["utilisation_percent"], found["power_w"] = (
            statistics.mean(column) for column in zip(*readings, strict=True)
        )


def told(line: dict[str, Any]) -> str:
    """For people."""
    head = f"{line['norm']} {line['filters']} {line['precision']}: predicted {line['predicted_bytes'] / 2**20:.0f} MiB"
    rows = []
    for way, found in line["ways"].items():
        if "failed" in found:
            rows.append(f"  {way}: {found['failed']}")
            continue
        rows.append(
            f"  {way}: {found['step_time_ms']:.1f} ms ({found['lowest_ms']:.1f} to {found['highest_ms']:.1f}), "
            f"{found['peak_bytes'] / 2**20:.0f} MiB"
        )
    return "\n".join([head, *rows])


def _step_ms(trainer: WGANTrainer, real: torch.Tensor, device: str) -> float:
    if device != "cuda":
        begun = time.perf_counter()
        trainer.step(real)
        return 1000 * (time.perf_counter() - begun)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    trainer.step(real)
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after))


def _free(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
