"""What fits where: parameters, operations, memory, hours and disk of a plan, for a device that need not be here.

Memory is counted on fake tensors, see `vesselgan.profiling.step_counter`. It says which tensors are alive; what a
driver, a library's workspaces and an allocator take on top is known of a calibrated device only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from benchmark.artifacts.generators import step_config, trained_config
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import Spec
from benchmark.plan import Plan
from benchmark.run.devices import ALIKE, Device, Fit
from benchmark.run.forecast import MOST_SIZES, counted, disk_bytes
from benchmark.run.widest import Widest, in_full, widest_wgans
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES, WGAN, Family
from vesselgan.networks.last_block import pieces_as_on
from vesselgan.profiling.step_counter import StepCost, predict_unet_step
from vesselgan.settings import PrecisionName
from vesselgan.training import UNetConfig

__all__ = ["Capacity", "PlannedStep", "calibration_steps", "capacity_of", "stage_memory"]


@dataclass(frozen=True)
class PlannedStep:
    """The training step of one network in formats of equal size, and the trainings that are made of it."""

    network: str  # `generator` or `U-Net`
    norm: str | None  # of the critic, where there is one
    filters: tuple[int, ...]
    batch: int
    formats: tuple[PrecisionName, ...]
    labels: tuple[str, ...]  # of the cells that are trained so; none where it stands for comparison
    trainings: int
    steps: int | None  # of each training at the most
    hours: float | None  # of each
    cost: StepCost
    needed_bytes: int
    fits: Fit | None


@dataclass(frozen=True)
class Capacity:
    """A plan in numbers."""

    name: str
    patch: tuple[int, int, int]
    training_patches: int
    steps: Sequence[PlannedStep]
    widest: Sequence[Widest]
    fitting: Mapping[str, Fit | None]  # by cell that trains a generator
    disk_bytes: float
    measured_together_bytes: int | None  # where all configurations are in memory together (`only: costs`)

    @property
    def hours(self) -> float | None:
        """Of all trainings one after the other; None where the speed of one is unknown."""
        each = [step.hours if step.hours is None else step.hours * step.trainings for step in self.steps if step.labels]
        return None if None in each or not each else math.fsum(hours for hours in each if hours is not None)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        steps = [{**asdict(step), "peak_bytes": step.cost.peak_bytes} for step in self.steps]
        return {**asdict(self), "steps": steps, "hours": self.hours}


def capacity_of(plan: Plan, device: Device) -> Capacity:
    """Count the steps of a plan; of each generator in every format, so that formats can be compared.

    Raises InputError for more sizes of generators than are counted.
    """
    generators = _generators(plan)
    sizes = {in_full(family, config) for _, family, config in generators}
    if len(sizes) > MOST_SIZES // len(ALIKE):
        raise InputError(
            f"{plan.name}: {len(sizes)} generators of different sizes are not counted, which would take minutes; "
            "choose some cells with -k"
        )
    steps = [
        _generator_step(plan, device, family, config, formats, generators)
        for family, config in dict.fromkeys(in_full(family, config) for _, family, config in generators)
        for formats in ALIKE
    ]
    own = {label: step.fits for step in steps for label in step.labels}
    fitting = {cell.cell.id: own[cell.cell.label] for cell in plan.cells if cell.cell.has_generator}
    unets = [plan.specs[key] for key in plan.keys_of(Role.UNET)]
    return Capacity(
        name=plan.name,
        patch=plan.profile.patch,
        training_patches=plan.source.training_patches(plan.profile),
        steps=[*steps, *([_unet_step(plan, device, unets)] if unets else [])],
        widest=widest_wgans(device, [(family, config) for _, family, config in generators])
        if device.memory_bytes
        else (),
        fitting=fitting,
        disk_bytes=disk_bytes(plan, plan.specs),
        measured_together_bytes=_together(plan) if plan.protocol.only == "costs" else None,
    )


def calibration_steps(plan: Plan) -> list[tuple[str, Family[Any], Any]]:
    """The steps that `calibrate` makes: of each generator of another size, under the label of its first cell."""
    found: dict[tuple[Family[Any], Any], str] = {}
    for label, family, config in _generators(plan):
        found.setdefault(in_full(family, config), label)
    return [(label, family, config) for (family, config), label in found.items()]


def stage_memory(plan: Plan, key: str) -> int | None:
    """Bytes of tensors that a planned stage has on its device at the peak; None for stages without large networks.

    Exact for trainings and `measure`. Making pairs and segmenting take no more than a training step on as many patches,
    which is what is told of them. What a process and its libraries take comes on top.
    """
    spec, device = plan.specs[key], plan.device
    if spec.stage == "train_gan":
        family, config, _ = trained_config(spec.options, plan.source.training_patches(plan.profile))
        return counted(family, family.sized(config), device).peak_bytes
    if spec.stage == "synthesise":
        generator = plan.specs[spec.inputs["gan"]]
        family, config, _ = trained_config(generator.options, plan.source.training_patches(plan.profile))
        return counted(family, replace(family.sized(config), batch=spec.options["batch"]), device).peak_bytes
    if spec.stage == "train_unet":
        return _unet_cost(spec, plan.profile.patch, device, plan.profile.inference.batch).peak_bytes
    if spec.stage == "evaluate":
        unet = plan.specs[spec.inputs["unet"]]
        return _unet_cost(unet, plan.profile.patch, device, spec.options["inference"]["batch"]).peak_bytes
    if spec.stage == "measure":
        return _measured_together(spec, device)
    return None


Named = tuple[str, Family[Any], Any]


def _generators(plan: Plan) -> list[Named]:
    """Every generator that is trained or measured, with the label of its cells."""
    patches = plan.source.training_patches(plan.profile)
    if plan.protocol.only == "costs":
        labels = {cell.cell.label for cell in plan.cells}
        measured = [plan.specs[key] for key in plan.keys_of(Role.MEASURE)]
        return [
            (label, *step_config(configuration, spec.options))
            for spec in measured
            for label, configuration in spec.options["configurations"].items()
            if label in labels
        ]
    trained = dict.fromkeys((cell.stages[Role.GAN], cell.cell.label) for cell in plan.cells if cell.cell.has_generator)
    return [(label, *trained_config(plan.specs[key].options, patches)[:2]) for key, label in trained]


def _generator_step(
    plan: Plan,
    device: Device,
    family: Family[Any],
    sized: Any,
    formats: tuple[PrecisionName, ...],
    generators: Sequence[Named],
) -> PlannedStep:
    cost = counted(family, replace(sized, precision=formats[0]), device.kind)
    trained = [
        (label, config)
        for label, other, config in generators
        if config.precision in formats and in_full(other, config) == (family, sized)
    ]
    precision = trained[0][1].precision if trained else formats[0]
    # Trainings of several cells may be of several lengths: the longest is told.
    steps = max((config.steps for _, config in trained), default=None) if plan.protocol.only != "costs" else None
    seconds = device.seconds(family, precision, cost.flops) if steps else None
    needed = device.needed(cost, precision)
    return PlannedStep(
        network="generator" if family.name == WGAN.name else family.title,
        norm=getattr(sized, "norm", None),
        filters=(sized.filters,) if hasattr(sized, "filters") else (),
        batch=sized.batch,
        formats=formats,
        labels=tuple(dict.fromkeys(label for label, _ in trained)),
        trainings=len(trained) if steps else 0,
        steps=steps,
        hours=seconds * steps / 3600 if seconds is not None and steps else None,
        cost=cost,
        needed_bytes=needed,
        fits=device.fits(needed),
    )


def _unet_step(plan: Plan, device: Device, unets: Sequence[Spec]) -> PlannedStep:
    settings = plan.profile.unet
    precision: PrecisionName = getattr(plan.profile.precision, settings.precision)
    cost = _unet_cost(unets[0], plan.profile.patch, device.kind, 1)
    seconds = device.seconds(FAMILIES[WGAN.name], precision, cost.flops)
    needed = device.needed(cost, precision)
    return PlannedStep(
        network="U-Net",
        norm=None,
        filters=settings.filters,
        batch=settings.batch,
        formats=(precision,),
        labels=("all",),
        trainings=len(unets),
        steps=settings.steps,
        hours=None if seconds is None else seconds * settings.steps / 3600,
        cost=cost,
        needed_bytes=needed,
        fits=device.fits(needed),
    )


def _unet_cost(spec: Spec, patch: Sequence[int], device: str, least_batch: int) -> StepCost:
    unet = spec.options["unet"]
    return _counted_unet(
        tuple(unet["filters"]), unet["precision"], max(unet["batch"], least_batch), unet["ema"], tuple(patch), device
    )


@cache
def _counted_unet(
    filters: tuple[int, ...],
    precision: PrecisionName,
    batch: int,
    ema: float | None,
    patch: tuple[int, ...],
    device: str,
) -> StepCost:
    config = UNetConfig(
        batch=batch, max_steps=1, validate_every=1, seed=0, filters=filters, ema=ema, precision=precision
    )
    with pieces_as_on(device):
        return predict_unet_step(config, patch)


def _together(plan: Plan) -> int | None:
    keys = plan.keys_of(Role.MEASURE)
    return _measured_together(plan.specs[keys[0]], plan.device) if keys else None


def _measured_together(spec: Spec, device: str) -> int:
    """`measure` keeps the weights of all configurations, and makes a step of one of them."""
    configurations = (step_config(one, spec.options) for one in spec.options["configurations"].values())
    costs = [counted(family, family.sized(config), device) for family, config in configurations]
    return sum(cost.state_bytes for cost in costs) + max(cost.peak_bytes - cost.state_bytes for cost in costs)
