"""Whether a worker still works: a process that hangs uses no processor time, and reads and writes nothing."""

import time
from contextlib import suppress
from typing import Any

import psutil

__all__ = ["Pulse"]

LEAST_CPU_S, LEAST_SHARE = 0.05, 0.01  # a process that waits for ever wakes up now and then


class Pulse:
    """When a process, or one that it started, last gave a sign of life. What it says of itself is one, see `beat`.

    A thread that beats inside of the process would go on where the work has stopped, and would stop where a library
    computes for minutes without letting others run; so the process is looked at from outside.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.told = False  # that it has been silent for long
        self.beat()

    def beat(self) -> None:
        """It gave a sign of life just now."""
        self._at = time.monotonic()
        self._cpu_s, self._bytes = self._used()
        self.told = False

    def silent_s(self) -> float:
        """For how long it gave none."""
        silent = time.monotonic() - self._at
        cpu_s, moved = self._used()
        if cpu_s - self._cpu_s >= LEAST_CPU_S + LEAST_SHARE * silent or moved != self._bytes:
            self.beat()
            return 0.0
        return silent

    def _used(self) -> tuple[float, int]:
        """Processor seconds, and bytes read and written where the system counts them."""
        cpu_s, moved = 0.0, 0
        with suppress(psutil.Error):  # of a process that has ended others tell
            process = psutil.Process(self._pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    times = each.cpu_times()
                    cpu_s += times.user + times.system
                    counters: Any = each.io_counters() if hasattr(each, "io_counters") else None
                    moved += counters.read_bytes + counters.write_bytes if counters else 0
        return cpu_s, moved
