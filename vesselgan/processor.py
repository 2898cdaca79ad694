"""What the processor can compute by itself: read from its own flags, never from how fast something happened to run."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

__all__ = [
    "INSTRUCTION_LIMIT",
    "instruction_limit",
    "narrower_instruction_sets",
    "narrowest",
    "native_instructions",
    "processor_flags",
    "usable_instructions",
]

# oneDNN, which computes PyTorch's products on a CPU, obeys this from the start of a process.
INSTRUCTION_LIMIT = "ONEDNN_MAX_CPU_ISA"
_LIMITS = (INSTRUCTION_LIMIT, "DNNL_MAX_CPU_ISA")  # its own name first, as it reads them

# Flags of Linux (x86, ARM) and macOS that mean products in the format, widest first.
_NATIVE: Mapping[str, tuple[str, ...]] = {
    "bf16": ("amx_bf16", "avx512_bf16", "bf16", "FEAT_BF16"),
    "fp16": ("amx_fp16", "avx512_fp16", "asimdhp", "FEAT_FP16"),
}
# oneDNN's names for instruction sets with the flags that they bring, widest first; each has those below it.
_SETS: Mapping[str, tuple[str, ...]] = {
    "AVX512_CORE_AMX_FP16": ("amx_fp16",),
    "AVX512_CORE_AMX": ("amx_bf16", "amx_tile"),
    "AVX512_CORE_FP16": ("avx512_fp16",),
    "AVX512_CORE_BF16": ("avx512_bf16",),
    "AVX512_CORE_VNNI": ("avx512_vnni",),
    "AVX512_CORE": ("avx512bw",),
    "AVX2": ("avx2",),
}
_ALIASES = {
    "AVX10_1_512_AMX_FP16": "AVX512_CORE_AMX_FP16",
    "AVX10_1_512_AMX": "AVX512_CORE_AMX",
    "AVX10_1_512": "AVX512_CORE_FP16",
}


@cache
def processor_flags() -> frozenset[str]:
    """Flags of the processor as the system names them; empty where it tells none."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    if platform.system() == "Darwin":
        listed = subprocess.run(["/usr/sbin/sysctl", "hw.optional.arm"], capture_output=True, text=True, check=False)
        pairs = (line.partition(": ") for line in listed.stdout.splitlines())
        return frozenset(name.rpartition(".")[2] for name, _, value in pairs if value.strip() == "1")
    return frozenset()


def instruction_limit() -> str | None:
    """oneDNN's limit that the environment of this process sets, by the name of _SETS where it is one; None if none."""
    value = next((os.environ[name].upper() for name in _LIMITS if os.environ.get(name)), None)
    return None if value in (None, "ALL", "DEFAULT") else _ALIASES.get(value, value)


def usable_instructions(limit: str | None = None) -> list[str]:
    """Flags that matter to products in 16-bit formats, as far as the processor has them and the limit allows them.

    ``limit`` is one of oneDNN's sets; by default it is the environment's.
    """
    sets = _usable_sets(limit or instruction_limit())
    flags = [*(flag for name in sets for flag in _SETS[name]), "bf16", "asimdhp", "FEAT_BF16", "FEAT_FP16"]
    return [flag for flag in flags if flag in processor_flags()]


def native_instructions(name: str, limit: str | None = None) -> str | None:
    """The flag by which this processor multiplies in a format, or None where that is emulated (``bf16``, ``fp16``).

    ``fp32`` is always native. ``limit`` as for `usable_instructions`.
    """
    if name not in _NATIVE:
        return "fp32"
    usable = usable_instructions(limit)
    return next((flag for flag in _NATIVE[name] if flag in usable), None)


def narrower_instruction_sets() -> list[str]:
    """oneDNN's names of the sets below the widest that this process may use, widest first."""
    return _usable_sets(instruction_limit())[1:]


def narrowest(sets: Iterable[str]) -> str:
    """The narrowest of these of oneDNN's sets."""
    return max(sets, key=list(_SETS).index)


def _usable_sets(limit: str | None) -> list[str]:
    names = list(_SETS)
    allowed = names if limit is None else names[names.index(limit) :] if limit in names else []
    return [name for name in allowed if processor_flags() & set(_SETS[name])]
