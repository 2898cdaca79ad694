"""The local engine: a few warm worker processes that take keys.

A worker is `python -m benchmark stage --serve`: keys come in on standard input, events go out on standard output as
JSON lines. A crash, a hang or a memory leak in a stage therefore ends one worker, not the run: one that gives no sign
of life is ended, and its stage starts once more.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from benchmark.artifacts.store import Store, environment_for
from benchmark.plan import Resources
from benchmark.run.engine import Engine, Event, register
from benchmark.run.pulse import Pulse

__all__ = ["LocalEngine"]

LOOK_S = 5.0
SILENT_S, HUNG_S = 60.0, 300.0  # without a sign of life: told, and ended
SIGNS = "no processor time used, nothing read or written"


@register("local")
class LocalEngine(Engine):
    """Run stages in `workers` processes of this machine, each started on first use."""

    def __init__(self, store: Store, workers: int) -> None:
        self._store = store
        self._workers = workers
        self._idle: list[_Worker] = []
        self._busy: dict[str, _Worker] = {}
        self._events: queue.Queue[tuple[_Worker, Event | None]] = queue.Queue()
        self._looked_at = time.monotonic()
        self._hung: set[str] = set()  # stages that have had a second chance

    def free(self, resources: Resources) -> bool:
        """Whether a worker is left; all of them share this machine, so an exclusive stage waits until it is idle."""
        if resources.exclusive or any(worker.exclusive for worker in self._busy.values()):
            return not self._busy
        return len(self._busy) < self._workers

    def submit(self, key: str, resources: Resources) -> None:
        """Hand a planned stage to a worker."""
        for dead in [worker for worker in self._idle if not worker.alive]:
            self._idle.remove(dead)
            dead.kill()
        variables = environment_for(self._store.spec(key))
        fitting = [worker for worker in self._idle if worker.variables == variables]
        worker = fitting[-1] if fitting else _Worker(self._store, self._events, variables)
        if fitting:
            self._idle.remove(worker)
        self._busy[key] = worker
        worker.take(key, exclusive=resources.exclusive)

    def next_event(self) -> Event:
        """Wait for the next event. A worker that died, or hung twice, makes a `failed` one that says how."""
        while True:
            if notice := self._look():
                return notice
            try:
                worker, event = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            worker.pulse.beat()
            if event is None:
                if not worker.key:
                    continue  # it died idle: nothing is lost, and `submit` passes over it
                event = Event("failed", worker.key, text=f"its process died ({worker.cause_of_death()})")
                worker.kill()
            elif event.kind not in ("progress", "notice"):
                self._idle.append(worker)
            if event.kind not in ("progress", "notice"):
                del self._busy[event.key]
                worker.key = ""
            return event

    def _look(self) -> Event | None:
        """Now and then, whether every busy worker lives; what the user has to know of one that does not."""
        paused = time.monotonic() - self._looked_at
        if paused < LOOK_S:
            return None
        self._looked_at += paused
        for key, worker in list(self._busy.items()):
            if paused > SILENT_S:  # this process was stopped itself, and its workers perhaps, too
                worker.pulse.beat()
            silent = worker.pulse.silent_s()
            if silent >= HUNG_S:
                return self._end_hung(key, worker)
            if silent >= SILENT_S and not worker.pulse.told:
                worker.pulse.told = True
                what = f"no sign of life for {SILENT_S:g} s ({SIGNS}); after {HUNG_S:g} s its process is ended"
                return Event("notice", key, text=what)
        return None

    def _end_hung(self, key: str, worker: "_Worker") -> Event:
        del self._busy[key]
        exclusive, worker.key = worker.exclusive, ""
        worker.kill()
        if key in self._hung:
            return Event("failed", key, text=f"its process hung twice, each time for {HUNG_S:g} s ({SIGNS})")
        self._hung.add(key)
        self.submit(key, Resources(exclusive=exclusive))
        return Event("notice", key, text=f"its process hung for {HUNG_S:g} s and was ended; the stage starts once more")

    def close(self) -> None:
        """End all workers at once; an unfinished stage is taken up by the next run."""
        for worker in [*self._idle, *self._busy.values()]:
            worker.kill()


class _Worker:
    """One process and the thread that reads its events."""

    def __init__(
        self, store: Store, events: "queue.Queue[tuple[_Worker, Event | None]]", variables: Mapping[str, str]
    ) -> None:
        self.key, self.exclusive = "", False
        self.variables = variables  # beside the parent's; some stages need a process that started with them
        command = [sys.executable, "-m", "benchmark", "stage", "--serve", "--runs", str(store.root)]
        # A process group of its own: Ctrl-C is for the parent, which decides what becomes of its workers.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, **variables},
        )
        self.pulse = Pulse(self._process.pid)
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def take(self, key: str, *, exclusive: bool) -> None:
        self.key, self.exclusive = key, exclusive
        self.pulse.beat()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it just died: the listening thread tells
            self._process.stdin.write(key + "\n")
            self._process.stdin.flush()

    def cause_of_death(self) -> str:
        code = self._process.wait()
        return f"signal {signal.Signals(-code).name}, perhaps out of memory" if code < 0 else f"exit status {code}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _listen(self, events: "queue.Queue[tuple[_Worker, Event | None]]") -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    events.put((self, Event(**json.loads(line))))
        finally:
            events.put((self, None))
