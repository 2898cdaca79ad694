"""Was the machine busy with something else while this process was timed?"""

import time
from collections.abc import Sequence

import numpy as np
import psutil

__all__ = ["STEADY", "OtherLoad", "why_not_steady"]

# Log SD of a configuration's rounds that a quiet machine stays below: 0.03 to 0.12 were seen on two quiet cores.
STEADY = 0.25
# Share of this process's cores that others may take from it.
_TOLERATED = 0.15


class OtherLoad:
    """Cores that other programs, and a host of virtual machines, took since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._machine, self._own = _busy_seconds()

    def cores(self) -> float:
        """Mean number of cores in use by others, 0 to all of the machine's."""
        machine, own = _busy_seconds()
        others = (machine - self._machine) - (own - self._own)
        return max(0.0, others / (time.perf_counter() - self._started))


def why_not_steady(rounds: Sequence[float], others_cores: float, threads: int) -> str | None:
    """Why these times of one configuration say nothing about it, or None where they do.

    Others matter where they and this process's threads together need more cores than there are. `rounds` are times in
    any unit.
    """
    cores = psutil.cpu_count() or 1
    if others_cores > max(0, cores - threads) + _TOLERATED * threads:
        return f"other programs used {others_cores:.1f} of {cores} cores"
    spread = float(np.std(np.log(rounds), ddof=1)) if len(rounds) > 1 else 0.0
    return f"its rounds vary by a factor of {np.exp(spread):.2f}" if spread > STEADY else None


def _busy_seconds() -> tuple[float, float]:
    """Core seconds that the machine, and this process with its ended children, have worked."""
    times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    # Waiting for a disk is idling, and time of guests is part of user time. Time that a host gave to others is not.
    idle = sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return sum(times) - idle, own.user + own.system + own.children_user + own.children_system
