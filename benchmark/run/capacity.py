"""What fits where: parameters, operations, memory, hours and disk of a plan, for a device that need not be here.

Memory is counted on fake tensors, see `vesselgan.profiling.step_counter`. It says which tensors are alive; what a
driver, a library's workspaces and an allocator take on top is known of a calibrated device only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import Spec
from benchmark.plan import Plan
from benchmark.run.devices import ALIKE, Device, Fit
from benchmark.run.forecast import disk_bytes
from benchmark.run.memory import MOST_SIZES, counted, measured, of_one_process, stage_memory, trained, unet_cost
from benchmark.run.widest import Widest, in_full, widest_wgans
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES, WGAN, Family
from vesselgan.profiling.step_counter import StepCost
from vesselgan.settings import PrecisionName

__all__ = ["Capacity", "PlannedStep", "calibration_steps", "capacity_of"]


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


Named = tuple[str, Family[Any], Any]


def _generators(plan: Plan) -> list[Named]:
    """Every generator that is trained or measured, as one process computes it, with the label of its cells."""
    if plan.protocol.only == "costs":
        labels = {cell.cell.label for cell in plan.cells}
        configurations = [item for key in plan.keys_of(Role.MEASURE) for item in measured(plan.specs[key]).items()]
        return [(label, *one) for label, one in configurations if label in labels]
    owners = dict.fromkeys((cell.stages[Role.GAN], cell.cell.label) for cell in plan.cells if cell.cell.has_generator)
    of_cells = [(label, *trained(plan, plan.specs[key])) for key, label in owners]
    return [(label, family, of_one_process(config)) for label, family, config in of_cells]


def _generator_step(
    plan: Plan,
    device: Device,
    family: Family[Any],
    sized: Any,
    formats: tuple[PrecisionName, ...],
    generators: Sequence[Named],
) -> PlannedStep:
    cost = counted(family, replace(sized, precision=formats[0]), device.kind)
    cells = [
        (label, config)
        for label, other, config in generators
        if config.precision in formats and in_full(other, config) == (family, sized)
    ]
    precision = cells[0][1].precision if cells else formats[0]
    # Trainings of several cells may be of several lengths: the longest is told.
    steps = max((config.steps for _, config in cells), default=None) if plan.protocol.only != "costs" else None
    seconds = device.seconds(family, precision, cost.flops) if steps else None
    needed = device.needed(cost, precision)
    return PlannedStep(
        network="generator" if family.name == WGAN.name else family.title,
        norm=getattr(sized, "norm", None),
        filters=(sized.filters,) if hasattr(sized, "filters") else (),
        batch=sized.batch,
        formats=formats,
        labels=tuple(dict.fromkeys(label for label, _ in cells)),
        trainings=len(cells) if steps else 0,
        steps=steps,
        hours=seconds * steps / 3600 if seconds is not None and steps else None,
        cost=cost,
        needed_bytes=needed,
        fits=device.fits(needed),
    )


def _unet_step(plan: Plan, device: Device, unets: Sequence[Spec]) -> PlannedStep:
    settings = plan.profile.unet
    precision: PrecisionName = getattr(plan.profile.precision, settings.precision)
    cost = unet_cost(unets[0], plan.profile.patch, device.kind)
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


def _together(plan: Plan) -> int | None:
    keys = plan.keys_of(Role.MEASURE)
    return stage_memory(plan, keys[0]) if keys else None
