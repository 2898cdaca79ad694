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
from collections.abc import Mapping, Sequence
from typing import Self

from benchmark.artifacts.store import Store, environment_for
from benchmark.environment import gpu_names
from benchmark.plan import Resources
from benchmark.run.engine import Engine, Event, Site, register
from benchmark.run.pulse import Pulse

__all__ = ["LocalEngine"]

GPU = "CUDA_VISIBLE_DEVICES"
LOOK_S = 5.0
SILENT_S, HUNG_S = 60.0, 300.0  # without a sign of life: told, and ended
SIGNS = "no processor time used, nothing read or written"


@register("local")
class LocalEngine(Engine):
    """Run stages in `workers` processes of this machine, each started on first use.

    `gpus` are those that are shared out, a stage each; without, stages see what this process sees.
    """

    takes = frozenset({"gpus"})

    def __init__(self, store: Store, workers: int, gpus: Sequence[str] = ()) -> None:
        self._gpus = list(gpus)
        self._store = store
        self._workers = workers
        self._idle: list[_Worker] = []
        self._busy: dict[str, _Worker] = {}
        self._events: queue.Queue[tuple[_Worker, Event | None]] = queue.Queue()
        self._looked_at = time.monotonic()
        self._hung: set[str] = set()  # stages that have had a second chance

    @classmethod
    def open(cls, store: Store, workers: int, site: Site) -> Self:
        """With the GPUs that are asked for. Raises InputError."""
        return cls(store, workers, gpu_names(site.gpus) if site.gpus else ())

    def free(self, resources: Resources) -> bool:
        """Whether a worker is left; all of them share this machine, so an exclusive stage waits until it is idle."""
        if resources.exclusive or any(worker.resources.exclusive for worker in self._busy.values()):
            return not self._busy
        if self._gpus and len(self._free_gpus()) < resources.gpus:
            return False
        return len(self._busy) < self._workers

    def _free_gpus(self) -> list[str]:
        taken = {gpu for worker in self._busy.values() for gpu in worker.variables.get(GPU, "").split(",")}
        return [gpu for gpu in self._gpus if gpu not in taken]

    def submit(self, key: str, resources: Resources) -> None:
        """Hand a planned stage to a worker."""
        for dead in [worker for worker in self._idle if not worker.alive]:
            self._idle.remove(dead)
            dead.kill()
        variables = environment_for(self._store.spec(key))
        if self._gpus and resources.gpus:
            variables[GPU] = ",".join(self._free_gpus()[: resources.gpus])
        fitting = [worker for worker in self._idle if worker.variables == variables]
        worker = fitting[-1] if fitting else _Worker(self._store, self._events, variables)
        if fitting:
            self._idle.remove(worker)
        self._busy[key] = worker
        worker.take(key, resources)

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
        worker.key = ""
        worker.kill()
        if key in self._hung:
            return Event("failed", key, text=f"its process hung twice, each time for {HUNG_S:g} s ({SIGNS})")
        self._hung.add(key)
        self.submit(key, worker.resources)
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
        self.key, self.resources = "", Resources()
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

    def take(self, key: str, resources: Resources) -> None:
        self.key, self.resources = key, resources
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
