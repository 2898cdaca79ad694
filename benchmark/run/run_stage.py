"""Run one planned stage in this process: lock, log, result or error. Everything else calls this."""

import contextlib
import logging
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.artifacts.options import OwnMetrics
from benchmark.artifacts.store import Spec, Store, environment_for
from benchmark.environment import environment, machine
from benchmark.metrics.asking import refuse_unfit
from benchmark.stages import STAGES, Context
from vesselgan.errors import InputError
from vesselgan.files import full_disk

__all__ = ["Progress", "run_stage", "what_failed"]

Progress = Callable[[int, int, str], None]
LOG_EVERY_S = 10.0
NO_MEMORY = ("can't allocate memory", "out of memory")  # in what torch raises


def run_stage(
    store: Store, key: str, progress: Progress | None = None, notice: Callable[[str], None] | None = None
) -> None:
    """Compute the stage `key` unless it is done. `notice` gets what its log warns of, a line each.

    Raises InputError for bad input (the stage's own or a spec that does not fit this version), StageLockedError while
    another process holds the stage, and what the stage raised, whose message and traceback are in `error.json`.
    """
    spec = store.spec(key)
    stage = STAGES.get(spec.stage)
    if stage is None or stage.version != spec.version:
        now = f"version {stage.version}" if stage else "unknown"
        raise InputError(f"{key}: planned by version {spec.version} of its stage, which is {now} here; plan it again")
    refuse_unfit(spec.options_as(OwnMetrics).get("metrics", {}))
    missing = [need for need in sorted(spec.needs) if not store.done(need)]
    if missing:
        raise InputError(f"{key}: needs {', '.join(missing)} first; run 'stage' on it, or 'run' the protocol")
    if lacking := environment_for(spec).items() - os.environ.items():
        settings = " ".join(f"{name}={value}" for name, value in sorted(lacking))
        raise InputError(f"{key}: computes with {settings}, which a process must start with; put it before the command")
    planned = spec.runtime.get("machine")
    if planned is not None and planned != machine(str(spec.runtime["device"])):
        raise InputError(
            f"{key}: is about another machine than this one ({planned.get('gpu', planned['cpu'])}, {planned['cores']} "
            "cores); run the protocol here, which plans the same for this machine"
        )
    with store.lock(key):
        if store.done(key):
            return
        for need in sorted(spec.needs):
            if damaged := store.discard_damaged(need):
                message = f"{damaged}: changed since its stage wrote it; run the protocol again to make it anew"
                store.fail(key, message, "")
                raise InputError(message)
        store.clear(key)
        folder = store.folder(key)
        context = Context(
            options=spec.options,
            inputs={role: store.folder(need) for role, need in spec.inputs.items()},
            runtime=spec.runtime,
            where=spec.where,
            folder=folder,
            progress=progress or (lambda done, total, what: None),
        )
        started = time.monotonic()
        try:
            with _output_to(folder / "log.txt", notice), _round_wrong_kernels(store, spec):
                log = _Log(key, context.progress)
                context = replace(context, progress=log.progress)
                try:
                    context.set_threads()
                    values = stage.run(context)
                except BaseException as error:
                    log.say(f"stopped by {type(error).__name__}: {error}")
                    raise
                facts = {
                    "seconds": round(time.monotonic() - started, 3),
                    "peak_rss_mib": round(_peak_rss_mib(), 1),  # of this process, which may have run other stages
                    "environment": environment(str(spec.runtime.get("device", "cpu"))),
                }
                log.say(f"done after {facts['seconds']} s, with {facts['peak_rss_mib']} MiB at the most")
            store.finish(key, values, facts)
        except Exception as raised:
            told = full_disk(raised) or raised
            if isinstance(told, OSError) and told.errno and not told.filename:  # a full disk names no file
                told.filename = str(folder)
            message = str(told) if isinstance(told, InputError) else what_failed(told)
            with contextlib.suppress(OSError):  # a full disk keeps no error either, and what came first is told
                store.fail(key, message, traceback.format_exc())
            if told is not raised:
                raise told from None
            raise


def what_failed(error: Exception) -> str:
    """An error in one line, and what helps where memory ran out."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in NO_MEMORY):
        return f"out of memory ({text or type(error).__name__}): give it fewer --workers, or smaller batches or patches"
    return f"{type(error).__name__}: {text}"


class _Log:
    """What a stage does, in its `log.txt`; progress at most every few seconds, so that a log stays short."""

    def __init__(self, key: str, tell: Progress) -> None:
        self._tell = tell
        self._next = 0.0
        self.say(f"{key} starts (process {os.getpid()} on {socket.gethostname()})")

    def say(self, what: str) -> None:
        with contextlib.suppress(OSError):  # a log is no reason to fail
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {what}", flush=True)

    def progress(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now >= self._next or done >= total:
            self._next = now + LOG_EVERY_S
            self.say(f"{what}: {done} of {total}")
        self._tell(done, total, what)


@contextlib.contextmanager
def _round_wrong_kernels(store: Store, spec: Spec) -> Iterator[None]:
    """Compute as the numerics checks of this stage found right on this machine; where all is right, as ever."""
    remedy = spec.runtime.get("remedy", {})
    if "operations" not in remedy:
        yield
        return
    from benchmark.stages.verify import ways_of
    from vesselgan.numerics import remedied

    ways = {operation: way for check in spec.checks for operation, way in ways_of(store.folder(check)).items()}
    with remedied(ways, str(spec.runtime["device"])):
        yield


@contextlib.contextmanager
def _output_to(path: Path, notice: Callable[[str], None] | None) -> Iterator[None]:
    """Send standard output, standard error and log records, C libraries' included, to a file; our warnings also on."""
    with path.open("a", encoding="utf-8") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(1), os.dup(2)]
        handler = logging.StreamHandler(log)
        logging.getLogger().addHandler(handler)
        told = _Notices(notice or (lambda text: None))
        logging.getLogger("vesselgan").addHandler(told)
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        finally:
            logging.getLogger().removeHandler(handler)
            logging.getLogger("vesselgan").removeHandler(told)
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


class _Notices(logging.Handler):
    """Passes warnings on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Of one record its text."""
        self._tell(record.getMessage())


def _peak_rss_mib() -> float:
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)
