"""Where a number comes from: machine, versions, commit."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NotRequired

import psutil
from typing_extensions import TypedDict

from vesselgan.errors import InputError
from vesselgan.processor import usable_instructions

__all__ = [
    "Environment",
    "Machine",
    "Node",
    "choose_device",
    "environment",
    "gpu_names",
    "library_versions",
    "machine",
    "this_node",
    "torch_minor",
    "usable_cores",
]

PACKAGES = (
    *("torch", "numpy", "scipy", "pandas", "nibabel", "scikit-image", "safetensors", "opacus", "mlflow"),
    "vesselgan-benchmark",
)


class Machine(TypedDict):
    """What timings depend on."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    gpu: NotRequired[str]
    gpu_memory_gib: NotRequired[float]


class Commit(TypedDict):
    """What the running code was taken from; None where it does not run from a checkout."""

    commit: str | None
    dirty: bool | None


class Environment(Commit):
    """Where numbers come from."""

    machine: Machine
    device: str
    instructions: NotRequired[list[str]]  # that the products in 16-bit formats use; earlier runs do not say
    python: str
    versions: dict[str, str]


def torch_minor() -> str:
    """The part of torch's version that may change bytes, for example `2.13`; read without importing torch."""
    return ".".join(metadata.version("torch").split(".")[:2])


def usable_cores() -> int:
    """Those that this process may run on; where the system does not tell (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu`, `cuda`, or `cuda:1`: then no other GPU is seen, by workers neither.

    Raises InputError for another name, and where CUDA is asked for and absent.
    """
    if numbered := re.fullmatch(r"cuda:(\d+)", name):
        seen = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
        index = int(numbered[1])
        if seen and index >= len(seen):
            raise InputError(f"--device {name}: CUDA_VISIBLE_DEVICES lets {len(seen)} GPUs be seen, counted from 0")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[index] if seen else str(index)
    elif name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {name!r}: give auto, cpu, cuda, or one of several GPUs, such as cuda:1")
    if name == "cpu" or (name == "auto" and metadata.version("torch").endswith("+cpu")):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name != "auto":
        raise InputError(
            f"--device {name}: torch finds no such CUDA device here; use --device cpu, or install the CUDA build"
        )
    return "cpu"


def gpu_names(count: int) -> list[str]:
    """The first GPUs of this machine as CUDA_VISIBLE_DEVICES has them, which are to be of one model. Raises InputError.

    A stage is timed and checked on one of them, and what was found is taken to hold for the others.
    """
    import torch

    seen = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    found = torch.cuda.device_count()
    if count > found:
        raise InputError(f"--gpus {count}: torch finds {found} of them here; give as many as there are")
    if len(models := {torch.cuda.get_device_name(index) for index in range(count)}) > 1:
        raise InputError(
            f"--gpus {count}: they differ ({', '.join(sorted(models))}); choose those of one model with "
            "CUDA_VISIBLE_DEVICES"
        )
    return (seen or [str(index) for index in range(found)])[:count]


def machine(device: str) -> Machine:
    """The machine that this runs on."""
    facts: Machine = {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    return facts


def library_versions(device: str) -> dict[str, str]:
    """What computes products: on a CPU PyTorch, whose wheel fixes oneDNN and MKL; on CUDA also cuDNN and the driver."""
    versions = {"PyTorch": metadata.version("torch")}
    if device == "cuda":
        import torch

        versions["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        versions["CUDA"] = str(torch.version.cuda)
    return versions


@dataclass(frozen=True)
class Node:
    """A machine that computes stages, as far as their bytes and timings depend on it: this one, or an engine's."""

    device: str  # `cpu` or `cuda`
    torch: str  # as `torch_minor` tells it
    machine: Machine
    libraries: Mapping[str, str]
    instructions: Sequence[str]
    others: Sequence["Node"] = ()  # of other kinds, which an engine has beside it

    def like(self, other: "Node") -> bool:
        """Whether it computes as the other does: so that kernels that are right there are right here.

        How much memory a machine has differs a little between equal ones, and changes no kernel.
        """
        return self._kind == other._kind

    @property
    def _kind(self) -> object:
        facts = {name: value for name, value in self.machine.items() if "memory" not in name}
        return facts, self.device, self.torch, dict(self.libraries), list(self.instructions)


def this_node(device: str) -> Node:
    """The machine that this process runs on, with its `cpu` or `cuda`."""
    return Node(device, torch_minor(), machine(device), library_versions(device), usable_instructions())


def environment(device: str) -> Environment:
    """Machine, device, versions of what computes, and the commit with its dirty flag (None outside a checkout)."""
    return {
        "machine": machine(device),
        "device": device,
        "instructions": usable_instructions(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        **_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> Commit:
    """The commit that the running code was taken from, if it runs from a checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        top = _output([*git, "rev-parse", "--show-toplevel"])
        # An installed copy may stand inside somebody else's checkout (a virtual environment in a project).
        if Path(top) != here.parent.resolve():
            return {"commit": None, "dirty": None}
        return {"commit": _output([*git, "rev-parse", "HEAD"]), "dirty": bool(_output([*git, "status", "--porcelain"]))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
