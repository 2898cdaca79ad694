"""Step time and memory of every configuration, interleaved, alone on the machine."""

from collections.abc import Mapping
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import torch

from benchmark.artifacts.generators import step_config
from benchmark.artifacts.options import MeasureOptions, StepOptions
from benchmark.artifacts.values import MeasureValues
from benchmark.stages.context import Context
from vesselgan.profiling.machine_load import OtherLoad, why_not_steady
from vesselgan.profiling.step_counter import MEMORY_DEFINITION, Trainer
from vesselgan.profiling.timing import peak_tensor_bytes, seconds_per_step

__all__ = ["measure"]

ATTEMPTS = 3


def measure(context: Context[MeasureOptions]) -> MeasureValues:
    """Time `steps` full training steps of each configuration in turn, `rounds` times, and count its peak memory.

    In each round the order turns by one place, so that none always follows the same neighbour; a value is the mean of
    one round's steps. Comparisons are made round by round, since the machine's speed drifts. Where the machine is busy
    with something else, all rounds are made again, a few times at most; what then remains is marked `busy`.
    """
    options = context.options
    # Each alone: on a GPU the others' weights would count.
    memory = {name: _memory(context, configuration) for name, configuration in options["configurations"].items()}
    made = {name: _trainer(context, configuration) for name, configuration in options["configurations"].items()}
    trainers = {name: trainer for name, (trainer, _) in made.items()}
    batches = {name: pairs for name, (_, pairs) in made.items()}
    for name in trainers:
        seconds_per_step(trainers[name], batches[name], options["warmup"])
    threads, timed = context.runtime["threads"], _Rounds({}, {}, 0.0)
    for attempt in range(ATTEMPTS):
        timed = _rounds(context, trainers, batches, threads, attempt)
        if not any(timed.busy.values()):
            break
    return {
        "configurations": {
            name: {
                "step_time_ms": timed.times_ms[name],
                "steps_timed": options["rounds"] * options["steps"],
                "emulated": not trainers[name].precision.native,
                "busy": timed.busy[name],
                **memory[name],
            }
            for name in trainers
        },
        "memory_definition": MEMORY_DEFINITION if context.device == "cpu" else "torch.cuda.max_memory_allocated",
        "threads": threads,
        "others_cores": round(timed.others_cores, 3),
    }


class Memory(TypedDict):
    """Of a step, at its peak."""

    peak_memory_mib: float
    peak_reserved_mib: NotRequired[float]


class _Rounds(NamedTuple):
    """Times of the configurations' rounds, why some say nothing, and the cores that others used meanwhile."""

    times_ms: Mapping[str, list[float]]
    busy: Mapping[str, str | None]
    others_cores: float


def _rounds(
    context: Context[MeasureOptions],
    trainers: Mapping[str, Trainer],
    batches: Mapping[str, torch.Tensor],
    threads: int,
    attempt: int,
) -> _Rounds:
    options, names = context.options, list(trainers)
    what = "cost rounds" + f", the machine is busy, attempt {attempt + 1}" * (attempt > 0)
    others = OtherLoad()
    times_ms: dict[str, list[float]] = {name: [] for name in names}
    for index in range(options["rounds"]):
        context.progress(index, options["rounds"], what)
        for name in names[index % len(names) :] + names[: index % len(names)]:
            times_ms[name].append(1000 * seconds_per_step(trainers[name], batches[name], options["steps"]))
    context.progress(options["rounds"], options["rounds"], what)
    cores = others.cores()
    return _Rounds(times_ms, {name: why_not_steady(times, cores, threads) for name, times in times_ms.items()}, cores)


def _trainer(context: Context[MeasureOptions], configuration: StepOptions) -> tuple[Trainer, torch.Tensor]:
    """What makes the steps of a configuration, and pairs of noise to make them on."""
    family, config = step_config(configuration, context.options)
    trainer = family.trainer(config, context.device)
    pairs = np.random.default_rng(0).uniform(-1, 1, (config.batch, 2, *config.patch_size)).astype(np.float32)
    return trainer, torch.from_numpy(pairs).to(trainer.device)


def _memory(context: Context[MeasureOptions], configuration: StepOptions) -> Memory:
    trainer, real = _trainer(context, configuration)
    trainer.step(real)  # makes gradients and the optimisers' state
    with peak_tensor_bytes(trainer, real) as peak:
        trainer.step(real)
    memory: Memory = {"peak_memory_mib": peak() / 2**20}
    if context.device == "cuda":
        memory["peak_reserved_mib"] = torch.cuda.max_memory_reserved() / 2**20
    return memory
