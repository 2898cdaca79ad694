"""Workers that hang: told after a stated time, ended, and the stage starts once more."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.plan import Resources
from benchmark.run.engine import Event
from benchmark.run.engines import local
from benchmark.run.engines.local import LocalEngine
from benchmark.run.pulse import Pulse


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    for name, seconds in {"LOOK_S": 0.2, "SILENT_S": 1.0, "HUNG_S": 2.0}.items():
        monkeypatch.setattr(local, name, seconds)
    engine = LocalEngine(Store(tmp_path), workers=1)
    yield engine
    engine.close()


def planned(store: Store) -> str:
    """A stage of some seconds."""
    subjects = [f"phantom-{number:03d}" for number in range(6)]
    options = {
        "source": {"phantom": {"shape": [96, 96, 64], "spacing_mm": None, "seed": 0, "subjects": 6}},
        "split": {"train": subjects[:4], "validation": subjects[4:5], "test": subjects[5:]},
        "patch": [16] * 3,
        "patches": {"grid": [1, 1, 1], "vessel": 1},
        "seed": 0,
    }
    spec = Spec("prepare", STAGE_VERSIONS["prepare"], options)
    store.plan(spec)
    return spec.key


def stop_when_it_works(engine: LocalEngine) -> int:
    """Freeze the worker in the middle of its stage, as a debugger, or a disk that does not answer, may."""
    while engine.next_event().kind != "progress":
        pass
    (worker,) = [process for process in psutil.Process().children() if "--serve" in process.cmdline()]
    os.kill(worker.pid, signal.SIGSTOP)
    return worker.pid


def told(engine: LocalEngine) -> Event:
    while (event := engine.next_event()).kind == "progress":
        pass
    return event


def test_a_worker_that_hangs_is_told_ended_and_its_stage_is_done_by_another(
    engine: LocalEngine, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    key = planned(store)
    engine.submit(key, Resources())
    pid = stop_when_it_works(engine)
    silent = told(engine)
    assert (silent.kind, silent.key) == ("notice", key)
    assert silent.text.startswith(
        "no sign of life for 1 s (no processor time used, nothing read or written); after 2 s"
    )
    ended = told(engine)
    assert ended == Event("notice", key, text="its process hung for 2 s and was ended; the stage starts once more")
    assert not psutil.pid_exists(pid)
    assert told(engine) == Event("done", key)
    assert store.done(key)


@pytest.mark.slow
def test_a_stage_that_hangs_twice_has_failed_and_the_engine_takes_others(engine: LocalEngine, tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = planned(store)
    engine.submit(key, Resources())
    kinds = []
    for _ in range(2):
        stop_when_it_works(engine)
        kinds += [told(engine).kind, (last := told(engine)).kind]
    assert kinds == ["notice", "notice", "notice", "failed"]
    assert last.text.startswith("its process hung twice, each time for 2 s")
    assert engine.free(Resources())
    store.clear(key)
    engine.submit(key, Resources())
    assert told(engine) == Event("done", key)


def test_what_waits_for_ever_is_silent_and_what_computes_is_not() -> None:
    own = Pulse(os.getpid())
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        pass
    assert own.silent_s() == 0
    pid = os.fork()
    if pid == 0:
        threading.Event().wait(60)
        os._exit(0)
    try:
        pulse = Pulse(pid)
        time.sleep(0.6)
        assert pulse.silent_s() >= 0.5
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
