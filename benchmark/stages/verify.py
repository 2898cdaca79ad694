"""Are the kernels right that a stage will call, on this machine, in this format? If not: what gets round them?"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

import torch

from benchmark.artifacts.generators import numerics_config
from benchmark.artifacts.options import ExtractorCheck, GeneratorCheck, Remedy, UNetCheck
from benchmark.artifacts.values import finite
from benchmark.environment import library_versions, machine
from benchmark.stages.context import Context
from vesselgan.numerics import (
    TOLERANCES,
    Finding,
    Operation,
    Remedied,
    check_operations,
    extractor_operations,
    find_remedies,
    remedied,
    unet_operations,
)
from vesselgan.processor import INSTRUCTION_LIMIT, narrower_instruction_sets, native_instructions
from vesselgan.training import UNetConfig, choose_precision

__all__ = ["AnyCheck", "NumericsError", "check", "operations_of", "verify", "ways_of"]

AnyCheck = GeneratorCheck | UNetCheck | ExtractorCheck
KNOWN_REPORTS = "pytorch/pytorch#169688 (oneDNN with AMX) and #163539 (cuDNN 9.10.2) report the like"


class NumericsError(RuntimeError):
    """The library computes an operation wrongly here, and so in every way that was tried."""


class Worst(TypedDict):
    """The operation of the largest error, as a share of the largest value; None where that was no number."""

    operation: str
    error: float | None
    tolerance: float


class Fault(TypedDict):
    """A wrong operation in one format, and what gets round it."""

    operation: str
    format: str
    error: float | None
    way: str | None


class Verified(TypedDict):
    """The values of the stage; `worst` by format."""

    network: str
    precision: str
    operations: int
    worst: dict[str, Worst]
    faults: list[Fault]
    remedy: Remedy | None
    speed_against_wider_format: float | None


class Check(NamedTuple):
    """What was found, and what gets round it: a way for each operation, or narrower instructions for the process."""

    findings: Sequence[Finding]
    remedies: Sequence[Remedied]
    instructions: str | None

    @property
    def ways(self) -> dict[Operation, str | None]:
        """The way of each operation that was checked; None is its own."""
        ways: dict[Operation, str | None] = {finding.operation: None for finding in self.findings}
        return ways | {remedy.finding.operation: remedy.way for remedy in self.remedies}


def verify(context: Context[AnyCheck]) -> Verified:
    """Check every operation of a network in a format; writes `operations.json`, a row and a way for each of them.

    Raises NumericsError where one is wrong and nothing gets round it.
    """
    operations, precision = operations_of(context.options, context.device), context.options["precision"]
    context.progress(0, 1, "numerics check")
    checked = check(operations, context.device, precision, threads=int(context.runtime["threads"]))
    rows = [_row(finding) | {"way": checked.ways[finding.operation]} for finding in checked.findings]
    (context.folder / "operations.json").write_text(json.dumps(rows, allow_nan=False))
    context.progress(1, 1, "numerics check")
    return {
        "network": context.options["network"],
        "precision": precision,
        "operations": len(checked.findings),
        "worst": _worst(checked.findings),
        "faults": [_fault(remedy, checked.instructions) for remedy in checked.remedies],
        "remedy": _remedy(checked),
        "speed_against_wider_format": _speed(checked.findings),
    }


def operations_of(options: AnyCheck, device: str) -> list[Operation]:
    """The operations of the network that a `verify` stage's options describe."""
    if options["network"] == "extractor":
        features = cast(ExtractorCheck, options)
        return extractor_operations(device, features["patch"], batches=features["batches"], stages=features["stages"])
    if options["network"] == "unet":
        unet = cast(UNetCheck, options)
        config = UNetConfig(
            batch=unet["batch"],
            max_steps=1,
            validate_every=1,
            seed=0,
            filters=tuple(unet["filters"]),
            precision=unet["precision"],
        )
        return unet_operations(config, device, unet["patch"], inference_batches=unet["inference_batches"])
    generator = cast(GeneratorCheck, options)
    family, configured = numerics_config(generator)
    return family.operations(configured, device, generator["synthesis_batch"])


def check(operations: Sequence[Operation], device: str, precision: str, *, threads: int) -> Check:
    """Check operations and find what gets round the wrong ones, by measurement; it is checked again with that.

    Raises NumericsError where nothing does.
    """
    choose_precision(precision, device)  # on CUDA, this is where TF32 is chosen
    tf32 = precision == "tf32"
    findings = check_operations(operations, device, tf32=tf32)
    remedies = find_remedies(findings, device, tf32=tf32)
    if not remedies:
        return Check(findings, [], None)
    by_layer = Check(findings, remedies, None)
    seconds = {"": _seconds_by_layer(by_layer)} if _holds(by_layer, operations, device, tf32=tf32) else {}
    if device == "cpu":
        # A set without the format's own instructions emulates it, which only beats having nothing.
        native = [name for name in narrower_instruction_sets() if native_instructions(precision, name)]
        seconds |= _narrower_sets(native if seconds else narrower_instruction_sets(), operations, threads)
    if not seconds:
        raise NumericsError(_refusal(remedies, device, precision))
    fastest = min(seconds, key=lambda name: seconds[name])
    return Check(findings, remedies, fastest or None)


def ways_of(folder: Path) -> dict[Operation, str | None]:
    """The way of each operation that a finished `verify` folder names."""
    rows = json.loads((folder / "operations.json").read_text())
    return {Operation.from_plain(row["operation"]): row["way"] for row in rows}


def _holds(checked: Check, operations: Sequence[Operation], device: str, *, tf32: bool) -> bool:
    if any(remedy.way is None for remedy in checked.remedies):
        return False
    with remedied(checked.ways, device):
        return not any(finding.wrong for finding in check_operations(operations, device, tf32=tf32, seed=2))


def _seconds_by_layer(checked: Check) -> float:
    right = sum(finding.seconds for finding in checked.findings if not finding.wrong)
    return right + sum(remedy.seconds or 0.0 for remedy in checked.remedies)


def _narrower_sets(sets: Iterable[str], operations: Sequence[Operation], threads: int) -> dict[str, float]:
    """The first of these instruction sets with which all operations are right, and how long they then take."""
    asked = json.dumps({"operations": [operation.to_plain() for operation in operations], "threads": threads})
    for name in sets:
        done = subprocess.run(
            [sys.executable, "-m", "vesselgan.numerics"],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, INSTRUCTION_LIMIT: name},
        )
        if done.returncode == 0 and not (answer := json.loads(done.stdout))["wrong"]:
            return {name: answer["seconds"]}
    return {}


def _row(finding: Finding) -> dict[str, object]:
    return {
        "operation": finding.operation.to_plain(),
        "text": str(finding.operation),
        "format": finding.format,
        "error": finite(finding.error),
        "seconds": finding.seconds,
    }


def _worst(findings: Sequence[Finding]) -> dict[str, Worst]:
    """Per format, the operation of the largest error."""
    worst: dict[str, Worst] = {}
    for name in dict.fromkeys(finding.format for finding in findings):
        finding = max((one for one in findings if one.format == name), key=lambda one: one.error)
        worst[name] = {
            "operation": str(finding.operation),
            "error": finite(finding.error),
            "tolerance": TOLERANCES[name],
        }
    return worst


def _fault(remedy: Remedied, instructions: str | None) -> Fault:
    return {
        "operation": str(remedy.finding.operation),
        "format": remedy.finding.format,
        "error": finite(remedy.finding.error),
        "way": f"instructions {instructions}" if instructions else remedy.way,
    }


def _remedy(checked: Check) -> Remedy | None:
    """What goes into the keys of the stages that depend on this check."""
    if checked.instructions:
        return {"instructions": checked.instructions}
    ways = {f"{remedy.finding.operation}, {remedy.finding.format}": remedy.way for remedy in checked.remedies}
    return {"operations": ways} if ways else None


def _speed(findings: Sequence[Finding]) -> float | None:
    """Time in the wider format over time in the narrow one: beside the processor's flags, a sign of emulation."""
    narrow = [finding for finding in findings if finding.operation.dtype != torch.float32]
    if not narrow:
        return None
    return round(sum(one.reference_seconds for one in narrow) / sum(one.seconds for one in narrow), 3)


def _refusal(remedies: Sequence[Remedied], device: str, precision: str) -> str:
    first = remedies[0].finding
    where = machine(device)
    versions = ", ".join(f"{name} {version}" for name, version in library_versions(device).items())
    return (
        f"{precision} is wrong on {where.get('gpu', where['cpu'])} with {versions}: {first.operation} "
        f"({len(remedies)} such), and so in every other way of computing it that was tried; choose another precision "
        f"or version of PyTorch ({KNOWN_REPORTS})"
    )
