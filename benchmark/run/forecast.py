"""What a run will take, before it starts: hours, memory and disk, from counted operations and a timed step."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

from benchmark.artifacts.options import MeasureOptions
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import Spec
from benchmark.plan import Plan
from benchmark.run.memory import MOST_SIZES, counted, measured, of_one_process, stage_memory, trained
from vesselgan.families import Family
from vesselgan.profiling.step_counter import StepCost, watched_step
from vesselgan.profiling.timing import seconds_per_step
from vesselgan.training import PrecisionName, choose_precision

__all__ = [
    "Prediction",
    "disk_bytes",
    "hours_text",
    "predict",
    "probed",
    "size_text",
]

PROBE_STEPS, PROBE_SECONDS = 3, 2.5


@dataclass(frozen=True)
class Prediction:
    """Rough figures of what is left to do of a plan: a factor of two either way is to be expected."""

    trainings: int
    hours_by_label: Mapping[str, float]  # of one training
    hours: float | None  # of all trainings, one after the other; of the measurement where nothing else is planned
    memory_gib: float | None  # of the largest step's tensors; of all configurations together where they are measured
    disk_gib: float
    emulated: tuple[str, ...]  # number formats that the device has no instructions for
    measured: int = 0  # configurations, where nothing else is planned
    stages: int = 0  # that are left to do
    sizes: int = 0  # of generators, where they are too many to be counted: then there are neither hours nor memory

    def lines(self) -> list[str]:
        """For the terminal."""
        if not self.stages:
            return ["predicted: nothing is left to do"]
        if self.hours is None or self.memory_gib is None:
            return [
                f"predicted: {self.sizes} generators of different sizes are not counted, which would take minutes; "
                "choose some cells with -k"
            ]
        disk = f", {size_text(self.disk_gib)} of disk" if self.disk_gib else ""
        if self.measured:
            what = (
                f"to measure {self.measured} configurations, {size_text(self.memory_gib)} of tensors in memory together"
            )
            rest = "this is an estimate from counted operations and a timed step here; nothing is trained"
        elif self.trainings:
            each = ", ".join(f"{label} {hours_text(hours)}" for label, hours in self.hours_by_label.items())
            what = f"of training generators (each: {each}), {size_text(self.memory_gib)} of tensors at the peak"
            rest = (
                "these are estimates from counted operations and a timed step here; U-Nets and evaluation come on top"
            )
        else:
            return [f"predicted: no generator is left to train{disk}; what is left are other stages, not estimated"]
        lines = [f"predicted: {hours_text(self.hours)} {what}{disk}", rest]
        if self.emulated:
            lines.append(
                f"{' and '.join(self.emulated)} is emulated on this device, at many times the time of fp32: use a GPU, "
                "or a profile whose 'precision' the device has"
            )
        return lines

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)


def predict(plan: Plan, keys: Collection[str]) -> Prediction:
    """Of the stages `keys` count a step of each generator on fake tensors; scale by the speed of a small real step."""
    torch.set_num_threads(plan.profile.threads)
    specs = {key: plan.specs[key] for key in plan.specs if key in keys}
    trainings = {spec.key: trained(plan, spec) for spec in _filling(plan, specs, Role.GAN)}
    measurements = _filling(plan, specs, Role.MEASURE) if plan.protocol.only == "costs" else []
    timed = [config for spec in measurements for config in measured(spec).values()]
    sizes = len({(family, family.sized(config)) for family, config in timed or trainings.values()})
    if sizes > MOST_SIZES:
        return Prediction(len(trainings), {}, None, None, 0.0, (), stages=len(specs), sizes=sizes)
    if measurements:
        return _of_measurement(plan, measurements[0])
    hours_by_label: dict[str, float] = {}
    owners: dict[str, str] = {}
    for cell in plan.cells:
        if Role.GAN in cell.stages:
            owners.setdefault(cell.stages[Role.GAN], cell.cell.label)
    total_hours, peak = 0.0, 0
    for key, (family, config) in trainings.items():
        cost = counted(family, family.sized(of_one_process(config)), plan.device)
        hours = config.steps * _seconds(cost, *probed(family, config.precision, plan.device)) / 3600
        hours_by_label[owners[key]] = hours
        total_hours += hours
        peak = max(peak, stage_memory(plan, key) or 0)
    emulated = _emulated((config.precision for _, config in trainings.values()), plan.device)
    disk = disk_bytes(plan, specs) / 2**30
    return Prediction(
        len(trainings), hours_by_label, total_hours, peak / 2**30, disk, emulated=emulated, stages=len(specs)
    )


def _filling(plan: Plan, specs: Mapping[str, Spec], role: Role) -> list[Spec]:
    """Those of the specs that fill a role in some cell."""
    return [specs[key] for key in plan.keys_of(role) if key in specs]


def _of_measurement(plan: Plan, spec: Spec) -> Prediction:
    """All configurations are in memory together, and take turns."""
    options = spec.options_as(MeasureOptions)
    steps = options["warmup"] + options["rounds"] * options["steps"]
    seconds = 0.0
    configurations = list(measured(spec).values())
    for family, config in configurations:
        cost = counted(family, family.sized(config), plan.device)
        seconds += steps * _seconds(cost, *probed(family, config.precision, plan.device))
    emulated = _emulated((config.precision for _, config in configurations), plan.device)
    gib = (stage_memory(plan, spec.key) or 0) / 2**30
    return Prediction(0, {}, seconds / 3600, gib, 0.0, emulated=emulated, measured=len(configurations), stages=1)


@cache
def probed(family: Family[Any], precision: PrecisionName, device: str) -> tuple[int, float]:
    """Operations and seconds of a small step, timed on this device."""
    config = family.probe(precision)
    trainer = family.trainer(config, device)
    real = torch.zeros(config.batch, 2, *config.patch_size)
    # Counted as it is computed: on fake tensors it would take longer than all of the steps. It is the slow first one.
    flops = watched_step(trainer, trainer.step, real).flops
    seconds: list[float] = []
    while len(seconds) < PROBE_STEPS and (len(seconds) < 2 or sum(seconds) < PROBE_SECONDS):
        seconds.append(seconds_per_step(trainer, real, 1))
    return flops, min(seconds)  # a busy machine only ever adds


def _seconds(cost: StepCost, probed_flops: int, probed_seconds: float) -> float:
    """Of a step, at the speed of the small one; of a family without products all steps count as equally long."""
    return probed_seconds * cost.flops / probed_flops if probed_flops else probed_seconds


def _emulated(formats: Iterable[PrecisionName], device: str) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(formats) if not choose_precision(name, device).native)


def disk_bytes(plan: Plan, specs: Mapping[str, Spec]) -> float:
    """What these stages write: synthetic pairs (three bytes a voxel) are nearly all of it, beside the volumes."""
    profile = plan.profile
    made = {cell.stages[Role.PAIRS] for cell in plan.cells if cell.cell.has_generator and Role.PAIRS in cell.stages}
    sets = len(made & specs.keys())
    subjects = sum(len(keys) for keys in plan.source.split.values())
    stores = len(_filling(plan, specs, Role.DATA))
    volumes = stores * subjects * math.prod(profile.phantom.shape) * 6
    return sets * profile.pairs * math.prod(profile.patch) * 3 + volumes


def hours_text(hours: float) -> str:
    """For people."""
    minutes = hours * 60
    if hours >= 72:
        return f"{hours / 24:.0f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 1 else "under a minute"


def size_text(gib: float) -> str:
    """For people."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"
