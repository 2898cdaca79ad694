"""A worker process: take keys, run stages, tell what happens. The other end is `benchmark.run.engines.local`."""

import ctypes
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import IO

from benchmark.artifacts.store import StageLockedError, Store
from benchmark.run.engine import Event
from benchmark.run.run_stage import Progress, run_stage, what_failed
from vesselgan.errors import InputError

__all__ = ["keep_freed_memory", "outcome_of", "serve"]

# Of glibc's malloc.h, and what they are set to: blocks below the first come from memory that the process keeps, of
# which it gives back what lies free beyond the second.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_LARGEST_KEPT, _MOST_KEPT = 32 << 20, 128 << 20


def serve(store: Store) -> None:
    """Be a worker: take keys from standard input until it closes."""
    # What libraries print must not mix with the events.
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    keys: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin, keys.put), daemon=True).start()

    def tell(event: Event) -> None:
        events.write(json.dumps(event.__dict__) + "\n")

    def run(key: str) -> None:
        tell(
            outcome_of(
                store,
                key,
                lambda done, total, what: tell(Event("progress", key, done, total, what)),
                lambda text: tell(Event("notice", key, text=text)),
            )
        )

    while True:
        run(keys.get())


def _receive(lines: IO[str], put: Callable[[str], None]) -> None:
    for line in lines:
        put(line.strip())
    os._exit(0)  # the parent is gone, so nobody waits for this worker's stage: leave its lock at once


def outcome_of(
    store: Store, key: str, progress: Progress | None = None, notice: Callable[[str], None] | None = None
) -> Event:
    """Run a stage in this process, and say what became of it."""
    keep_freed_memory()
    try:
        run_stage(store, key, progress, notice)
    except StageLockedError as error:
        return Event("locked", key, text=str(error))
    except InputError as error:
        return Event("bad_input", key, text=str(error))
    except Exception as error:
        return Event("failed", key, text=what_failed(error))
    return Event("done", key)


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; whether its C library can.

    By itself glibc gives back blocks of some 128 KiB and more, and each step of a training then waits for thousands of
    fresh pages, which the system fills with zeros.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False  # somebody has set it on purpose
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT))
