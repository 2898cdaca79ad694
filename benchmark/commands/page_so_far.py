"""The page of a run that goes on, written again as its cells finish."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PageSoFar"]

FIRST_AFTER_S = 60.0  # a shorter run has its page at the end
COST = 0.02  # of the run's time, at most


class PageSoFar:
    """Writes the page when it is due. What goes wrong is told once, and costs the run nothing else."""

    def __init__(self, out: Path, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._name, self._clock = out, name, clock
        self._due = clock() + FIRST_AFTER_S
        self._gave_up = False

    def cell_finished(self) -> Path | None:
        """Write the page, unless it is too early or has failed before; returns its path where it was written."""
        started = self._clock()
        if self._gave_up or started < self._due:
            return None
        from benchmark.report.publish import publish_so_far

        try:
            page = publish_so_far(self._out, self._name)
        except Exception as error:  # a full disk, for example: the run itself goes on
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"warning: the page is not written before the end of the run ({reason})", file=sys.stderr)
            self._gave_up = True
            return None
        ended = self._clock()
        self._due = ended + max(FIRST_AFTER_S, (ended - started) / COST)
        return page
