"""A worker process: take keys, run stages, tell what happens. The other end is `benchmark.run.local_engine`."""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import IO

from benchmark.artifacts.store import StageLockedError, Store
from benchmark.run.engine import Event
from benchmark.run.run_stage import run_stage
from vesselgan.errors import InputError

__all__ = ["serve"]


def serve(store: Store) -> None:
    """Be a worker: take keys from standard input until it closes."""
    # What libraries print must not mix with the events.
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    keys: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_receive, args=(sys.stdin, keys.put), daemon=True).start()
    while True:
        key = keys.get()
        events.write(json.dumps(_outcome(store, key, events).__dict__) + "\n")


def _receive(lines: IO[str], put: Callable[[str], None]) -> None:
    for line in lines:
        put(line.strip())
    os._exit(0)  # the parent is gone, so nobody waits for this worker's stage: leave its lock at once


def _outcome(store: Store, key: str, events: IO[str]) -> Event:
    def progress(done: int, total: int, what: str) -> None:
        events.write(json.dumps(Event("progress", key, done, total, what).__dict__) + "\n")

    try:
        run_stage(store, key, progress)
    except StageLockedError as error:
        return Event("locked", key, text=str(error))
    except InputError as error:
        return Event("bad_input", key, text=str(error))
    except Exception as error:
        return Event("failed", key, text=f"{type(error).__name__}: {error}")
    return Event("done", key)
