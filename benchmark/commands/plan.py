"""`plan`: what a protocol takes of a device that need not be here, and what of it fits."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from benchmark.commands.experiment import load
from benchmark.commands.options import (
    Data,
    Expression,
    Layout,
    ProfileName,
    ProtocolName,
    command,
    console,
)
from benchmark.environment import choose_device, this_node
from benchmark.plan import Plan
from benchmark.protocol.cells import select
from benchmark.words import plural
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.run.capacity import Capacity, PlannedStep
    from benchmark.run.devices import Device
    from vesselgan.settings import PrecisionName

__all__ = ["PlanOptions", "plan"]

UNITS = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "": 2**30}
FORMATS = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class PlanOptions:
    """What `plan` is asked for."""

    protocol: ProtocolName
    profile: ProfileName = None
    data: Data = None
    layout: Layout = "auto"
    expression: Expression = None
    gpu_memory: Annotated[
        str | None, typer.Option("--gpu-memory", metavar="SIZE", help="Of the device: 16GiB. Says what fits")
    ] = None
    device_tflops: Annotated[
        str | None,
        typer.Option(
            "--device-tflops",
            metavar="X",
            help="TFLOP/s that training steps reach on it, not the data sheet's: 10, or fp32=10,fp16=40. Gives hours",
        ),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="FILE", help="What --calibrate measured there", dir_okay=False),
    ] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="FILE",
            help="First make a few steps of each generator on this machine's device, and keep what they took",
            dir_okay=False,
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else")] = False


@command
def plan(asked: PlanOptions) -> None:
    """Say what a protocol takes: weights, operations, memory by number format, hours, disk, and which cells fit."""
    memory, speeds = _bytes(asked.gpu_memory), _speeds(asked.device_tflops)
    if asked.calibrate and asked.calibration:
        raise InputError("--calibrate measures anew and --calibration reads what was measured: give one of them")
    loaded = load(asked.protocol, asked.profile)
    if asked.data is None and loaded.profile.needs_data:  # a plan reads no voxel
        experiment = loaded.on_as_many(asked.layout)
    else:
        experiment = loaded.on(asked.data, asked.layout, scored=False)
    chosen = {cell.id for cell in select(experiment.cells, asked.expression)}

    from benchmark.run.calibration import calibrate, load_calibration, save_calibration
    from benchmark.run.capacity import calibration_steps, capacity_of
    from benchmark.run.devices import Device

    here = choose_device("auto")
    calibration = load_calibration(asked.calibration) if asked.calibration else None
    elsewhere = memory is not None or speeds is not None or any(cell.precision == "tf32" for cell in experiment.cells)
    kind = here if asked.calibrate else calibration.kind if calibration else "cuda" if elsewhere else here
    planned = experiment.plan(replace(this_node("cpu"), device=kind))
    planned.cells = [cell for cell in planned.cells if cell.cell.id in chosen]
    if asked.calibrate:
        calibration = calibrate(calibration_steps(planned), kind)
        save_calibration(calibration, asked.calibrate)
    device = Device(kind, kind == here, memory, speeds, calibration)
    capacity = capacity_of(planned, device)
    if asked.as_json:
        print(
            json.dumps(
                {**capacity.as_json(), "device": kind, "data": experiment.source.description}, indent=1, allow_nan=False
            )
        )
        return
    _show(planned, capacity, device, asked)


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GiB|GB|MiB|)", text.strip())
    if not found or float(found[1]) <= 0:
        raise InputError(f"--gpu-memory {text!r}: give a size such as 16GiB, 16GB or 512MiB")
    return round(float(found[1]) * UNITS[found[2]])


def _speeds(text: str | None) -> "dict[PrecisionName, float] | None":
    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")] if "=" in text else [[name, text] for name in FORMATS]
    try:
        speeds = {name: 1e12 * float(value) for name, value in pairs}
    except ValueError:
        speeds = {}
    if not speeds or set(speeds) - set(FORMATS) or not all(0 < speed < float("inf") for speed in speeds.values()):
        raise InputError(f"--device-tflops {text!r}: give a positive number, or one per format: fp32=10,fp16=40")
    return speeds  # type: ignore[return-value]  # its names are those of formats


def _show(planned: Plan, capacity: "Capacity", device: "Device", asked: PlanOptions) -> None:
    from benchmark.run.forecast import hours_text, size_text

    def tell(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    shape = "x".join(map(str, capacity.patch))
    tell(
        f"{capacity.name}: patches of {shape}, {capacity.training_patches} to learn from; {planned.source.description}"
    )
    table = Table(box=None, title="one training step; bytes of tensors at its peak, in MiB", title_justify="left")
    columns = ["network", "critic", "filters", "batch", "format", "weights (M)", "TFLOP"]
    columns += [
        "parameters",
        "gradients",
        "optimiser",
        "activations",
        "peak",
        "trained for",
        "times",
        "steps",
        "h each",
    ]
    for column in columns + ["fits"] * (device.memory_bytes is not None):
        table.add_column(
            column, justify="left" if column in ("network", "critic", "format", "trained for") else "right"
        )
    for step in capacity.steps:
        table.add_row(*_row(step), *([step.fits] if step.fits else []))
    console.print(table)
    tell("gradients come and go within a step: the column has those that are alive at its peak")
    for widest in capacity.widest:
        formats = "/".join(widest.formats)
        size = asked.gpu_memory
        if widest.filters is None or widest.needed_bytes is None or widest.parameters is None:
            tell(f"widest WGAN ({widest.norm}) in {size}: none in {formats}")
            continue
        tell(
            f"widest WGAN ({widest.norm}) in {size}: {widest.filters} filters in {formats}, "
            f"{widest.parameters / 1e6:.0f} M weights, {size_text(widest.needed_bytes / 2**30)}"
        )
    if device.memory_bytes is not None:
        told = {
            fit: [cell for cell, other in capacity.fitting.items() if other == fit] for fit in ("yes", "tight", "no")
        }
        tell(
            "; ".join(f"fit{'s' * (len(cells) == 1)} {fit}: {', '.join(cells)}" for fit, cells in told.items() if cells)
        )
    if capacity.measured_together_bytes is not None:
        together = size_text(capacity.measured_together_bytes / 2**30)
        tell(f"all configurations are in memory together to be timed in turn: {together}")
    else:
        hours = "unknown" if capacity.hours is None else hours_text(capacity.hours)
        tell(f"all trainings one after the other: {hours}; disk: {size_text(capacity.disk_bytes / 2**30)}")
    for line in _caveats(device):
        tell(line)


def _row(step: "PlannedStep") -> list[str]:
    from benchmark.run.forecast import hours_text

    memory = step.cost.memory
    parts = (memory.parameters, memory.gradients, memory.optimiser, memory.activations, memory.total)
    return [
        step.network,
        step.norm or "-",
        "-".join(map(str, step.filters)),
        str(step.batch),
        "/".join(step.formats),
        f"{step.cost.parameters / 1e6:.3g}",
        f"{step.cost.flops / 1e12:.3g}",
        *(_mib(part) for part in parts),
        ", ".join(step.labels) or "-",
        str(step.trainings) if step.trainings else "-",
        "-" if step.steps is None else str(step.steps),
        "-" if step.hours is None else hours_text(step.hours),
    ]


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.0f}" if nbytes >= 10 * 2**20 else f"{nbytes / 2**20:.2f}"


def _caveats(device: "Device") -> list[str]:
    lines = []
    if device.calibration is None:
        lines.append(
            "memory is that of tensors alone; what a driver, a library's workspaces and an allocator take on top is in "
            "no number until --calibrate has measured it on the device"
            + (" (tight: over 85 % of its memory)" if device.memory_bytes else "")
        )
    else:
        kept = device.calibration
        measured = sum(one.allocated_bytes is not None for one in kept.steps)
        lines.append(f"calibrated by {plural(measured, 'step')} on {kept.device}, {kept.date}")
    if device.flops_per_s is not None:
        lines.append("hours are counted operations at the speed of --device-tflops; U-Nets may stop early")
    elif device.calibration is not None:
        lines.append("hours are counted operations at the speed that was measured; U-Nets may stop early")
    elif device.is_here:
        lines.append("hours are counted operations at the speed of a small step here, without formats that it emulates")
    else:
        lines.append("for hours give --device-tflops, or --calibration with what --calibrate measured on the device")
    return lines
