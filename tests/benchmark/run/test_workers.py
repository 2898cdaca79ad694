"""The local engine with real worker processes."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.environment import gpu_names
from benchmark.plan import Resources
from benchmark.run.engine import Event, Site
from benchmark.run.engines.local import LocalEngine
from benchmark.run.run_stage import what_failed
from vesselgan.errors import InputError
from vesselgan.processor import INSTRUCTION_LIMIT


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(Store(tmp_path), workers=1)
    yield engine
    engine.close()


def planned(store: Store, seed: int, patch: int = 16) -> str:
    """A `prepare` stage on three tiny phantoms."""
    options = {
        "source": {"phantom": {"shape": [32, 32, 16], "spacing_mm": None, "seed": seed, "subjects": 3}},
        "split": {"train": ["phantom-000"], "validation": ["phantom-001"], "test": ["phantom-002"]},
        "patch": [patch] * 3,
        "patches": {"grid": [1, 1, 1], "vessel": 1},
        "seed": 0,
    }
    spec = Spec("prepare", STAGE_VERSIONS["prepare"], options)
    store.plan(spec)
    return spec.key


def outcome(engine: LocalEngine) -> Event:
    while (event := engine.next_event()).kind == "progress":
        pass
    return event


def workers() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if "--serve" in process.cmdline()]


def test_a_stage_with_narrower_instructions_gets_a_process_that_started_with_them(
    engine: LocalEngine, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    plain = planned(store, 0)
    spec = replace(store.spec(plain), runtime={"remedy": {"instructions": "AVX2"}})
    store.plan(spec)
    for key in (plain, spec.key):
        engine.submit(key, Resources())
        assert outcome(engine).kind == "done"
    assert [worker.environ().get(INSTRUCTION_LIMIT) for worker in workers()] == [
        os.environ.get(INSTRUCTION_LIMIT),
        "AVX2",
    ]


def test_a_warm_worker_takes_one_stage_after_another(engine: LocalEngine, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(2):
        key = planned(store, seed)
        engine.submit(key, Resources())
        assert outcome(engine) == Event("done", key)
        assert store.done(key)
    assert len(workers()) == 1


def test_a_stage_that_must_be_alone_has_this_machine_for_itself(tmp_path: Path) -> None:
    store, alone, beside = Store(tmp_path), Resources(exclusive=True), Resources()
    engine = LocalEngine(store, workers=2)
    try:
        assert engine.free(alone)
        engine.submit(planned(store, 0), beside)
        assert engine.free(beside)
        assert not engine.free(alone)
        outcome(engine)
        engine.submit(planned(store, 1), alone)
        assert not engine.free(beside)
        outcome(engine)
        assert engine.free(beside)
    finally:
        engine.close()


def test_an_idle_worker_that_died_is_replaced(engine: LocalEngine, tmp_path: Path) -> None:
    store = Store(tmp_path)
    engine.submit(planned(store, 0), Resources())
    assert outcome(engine).kind == "done"
    (worker,) = workers()
    worker.kill()
    worker.wait()
    key = planned(store, 1)
    engine.submit(key, Resources())
    assert outcome(engine) == Event("done", key)


def test_a_stage_that_raises_is_told_and_the_worker_lives(engine: LocalEngine, tmp_path: Path) -> None:
    store = Store(tmp_path)
    broken = Spec("prepare", STAGE_VERSIONS["prepare"], {"split": {}})
    store.plan(broken)
    engine.submit(broken.key, Resources())
    event = outcome(engine)
    assert event.kind == "failed"
    assert "KeyError" in event.text
    assert "Traceback" in store.error(broken.key)["traceback"]
    engine.submit(planned(store, 0), Resources())
    assert outcome(engine).kind == "done"
    assert len(workers()) == 1


def test_workers_are_out_of_reach_of_ctrl_c_and_end_with_the_engine(tmp_path: Path) -> None:
    engine = LocalEngine(Store(tmp_path), workers=1)
    engine.submit(planned(Store(tmp_path), 0), Resources())
    outcome(engine)
    (worker,) = workers()
    assert os.getpgid(worker.pid) != os.getpgid(0)
    engine.close()
    assert not worker.is_running()


def test_stages_that_need_a_gpu_get_one_each_of_those_that_are_shared_out(tmp_path: Path) -> None:
    store, on_gpu, without = Store(tmp_path), Resources(gpus=1), Resources()
    engine = LocalEngine(store, workers=3, gpus=["3", "GPU-abc"])
    try:
        keys = [planned(store, seed) for seed in range(4)]
        for key in keys[:2]:
            assert engine.free(on_gpu)
            engine.submit(key, on_gpu)
        assert not engine.free(on_gpu), "both are taken"
        assert engine.free(without), "a worker without one is left"
        engine.submit(keys[2], without)
        seen = {worker.environ().get("CUDA_VISIBLE_DEVICES") for worker in workers()}
        assert {"3", "GPU-abc"} < seen
        for _ in range(3):
            assert outcome(engine).kind == "done"
        engine.submit(keys[3], on_gpu)
        assert outcome(engine).kind == "done"
        assert len(workers()) == 3, "a warm one of its GPU takes it"
    finally:
        engine.close()


def test_a_machine_is_asked_for_no_more_gpus_than_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--gpus 9: torch finds \d+ of them here; give as many as there are"):
        LocalEngine.open(Store(tmp_path), 1, Site(gpus=9))


@pytest.mark.parametrize(("visible", "found"), [("", ["0", "1"]), ("5,7,8", ["5", "7"])])
def test_gpus_are_named_as_the_parent_sees_them(
    visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted list of devices: this machine may have none."""
    models = ["A", "A", "B"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(models))
    monkeypatch.setattr("torch.cuda.get_device_name", models.__getitem__)
    assert gpu_names(2) == found
    with pytest.raises(InputError, match=r"--gpus 3: they differ \(A, B\); choose those of one model"):
        gpu_names(3)


def test_a_stage_without_enough_memory_fails_with_the_reason_and_others_go_on(
    engine: LocalEngine, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    options = dict(store.spec(planned(store, 0)).options)
    options["source"] = {"phantom": {**options["source"]["phantom"], "shape": [60_000, 60_000, 60_000]}}
    huge = Spec("prepare", STAGE_VERSIONS["prepare"], options)
    store.plan(huge)
    engine.submit(huge.key, Resources())
    event = outcome(engine)
    assert event.kind == "failed"
    assert event.text.startswith("out of memory (Unable to allocate ")
    assert event.text.endswith("): give it fewer --workers, or smaller batches or patches")
    assert store.error(huge.key)["message"] == event.text
    engine.submit(planned(store, 0), Resources())
    assert outcome(engine).kind == "done"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_memory_that_ran_out_is_told_as_that_whoever_raised(error: Exception) -> None:
    assert what_failed(error).startswith("out of memory (")
    assert what_failed(ValueError("a\n b")) == "ValueError: a b"


def test_a_worker_keeps_the_memory_of_freed_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = """
import resource
import torch
from benchmark.run.worker import keep_freed_memory
kept = keep_freed_memory()
def use():
    held = [torch.ones(1 << 20) for _ in range(4)]  # 4 MiB each
    del held
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run() -> tuple[int, int]:
        done = subprocess.run([sys.executable, "-c", faults], capture_output=True, text=True, check=True)
        kept, count = map(int, done.stdout.split())
        return kept, count

    kept, fresh_pages = run()
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library, which has its own ways")
    assert kept
    # By itself glibc mostly asks for all 80,000 anew; how many depends on what happens to lie above them.
    assert fresh_pages < 20_000
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert run()[0] == 0, "what the user chose stays"
