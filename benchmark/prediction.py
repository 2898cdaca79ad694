"""What a run will take, before it starts: hours, memory and disk, from counted operations and a timed step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.measure import seconds_per_step
from benchmark.memory import predict_step
from benchmark.plan import Plan, gan_steps
from benchmark.stages.context import dataclass_from
from benchmark.stages.gan import privacy_from
from vesselgan.recipe import resolve_recipe
from vesselgan.training import PrecisionName, WGANConfig, WGANTrainer

__all__ = ["Prediction", "predict"]

# Large enough to use the machine, small enough to take a moment on two cores.
PROBE_PATCH, PROBE_FILTERS, PROBE_BATCH = (64, 64, 32), 64, 2
PROBE_STEPS, PROBE_SECONDS = 3, 5.0


@dataclass(frozen=True)
class Prediction:
    """Rough figures of the WGAN trainings of a plan: a factor of two either way is to be expected."""

    hours_by_label: dict[str, float]  # of one training
    hours: float  # of all trainings, one after the other
    memory_gib: float  # the largest step's tensors
    disk_gib: float

    def lines(self) -> list[str]:
        """For the terminal."""
        each = ", ".join(f"{label} {_hours(hours)}" for label, hours in self.hours_by_label.items())
        return [
            f"predicted: {_hours(self.hours)} of WGAN training (each: {each}), "
            f"{_size(self.memory_gib)} of tensors at the peak, {_size(self.disk_gib)} of disk",
            "these are estimates from counted operations and a timed step here; U-Nets and evaluation come on top",
        ]


def predict(plan: Plan) -> Prediction:
    """Count a step of each WGAN of the plan on fake tensors, and scale by the speed of a small real step."""
    torch.set_num_threads(plan.profile.threads)
    speeds: dict[str, float] = {}
    hours_by_label: dict[str, float] = {}
    total_hours, peak = 0.0, 0
    for spec in plan.specs.values():
        if spec.stage != "train_gan":
            continue
        config = _config(spec.options)
        cost = predict_step(config)
        if config.precision not in speeds:
            speeds[config.precision] = _flops_per_second(config.precision, plan.device)
        steps = gan_steps(plan.profile, plan.source.training_patches(plan.profile), config.batch)
        hours = cost.flops * steps / speeds[config.precision] / 3600
        labels = [cell.cell.label for cell in plan.cells if cell.stages.get("gan") == spec.key]
        hours_by_label[labels[0]] = hours
        total_hours += hours
        peak = max(peak, cost.peak_bytes)
    return Prediction(hours_by_label, total_hours, peak / 2**30, _disk_bytes(plan) / 2**30)


def _config(options: Mapping[str, Any]) -> WGANConfig:
    wgan = {**options["wgan"], "steps": 1, "privacy": privacy_from(options["wgan"]["privacy"])}
    del wgan["epochs"], wgan["flips"]  # they decide nothing about the size of a step
    recipe = resolve_recipe("corrected", options["recipe"])
    config: WGANConfig = dataclass_from(WGANConfig, {**wgan, "recipe": recipe})
    return config


def _flops_per_second(precision: PrecisionName, device: str) -> float:
    config = WGANConfig(
        patch_size=PROBE_PATCH, steps=1, seed=0, filters=PROBE_FILTERS, batch=PROBE_BATCH, precision=precision
    )
    cost = predict_step(config)
    trainer = WGANTrainer(config, device)
    real = torch.zeros(config.batch, 2, *config.patch_size)
    seconds: list[float] = []
    while len(seconds) < PROBE_STEPS and sum(seconds) < PROBE_SECONDS:
        seconds.append(seconds_per_step(trainer, real, 1))
    return cost.flops / min(seconds)  # the first step is slower, and a busy machine only ever adds


def _disk_bytes(plan: Plan) -> float:
    """Synthetic pairs (three bytes a voxel) are nearly all of it, beside the volumes themselves."""
    profile = plan.profile
    sets = sum(spec.stage == "synthesise" for spec in plan.specs.values())
    subjects = sum(len(keys) for keys in plan.source.split.values())
    volumes = subjects * math.prod(profile.phantom.shape) * 6
    return sets * profile.pairs * math.prod(profile.patch) * 3 + volumes


def _hours(hours: float) -> str:
    minutes = hours * 60
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 1 else "under a minute"


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"
