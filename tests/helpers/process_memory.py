"""What a process of a test's own has in memory: for scripts that are run in this folder."""

from pathlib import Path

__all__ = ["mib"]


def mib(field: str) -> float:
    """`VmRSS`, now, or `VmHWM`, the peak, of this process alone; getrusage() remembers its parent's peak as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024
