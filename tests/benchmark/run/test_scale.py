"""A thousand cells on a hundred nodes, whose stages take no time: what the driver and the folder of a run then cost."""

import heapq
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from paths import ROOT
from small_protocol import PROTOCOL

from benchmark.artifacts.store import Store
from benchmark.datasets.source import choose_source
from benchmark.plan import CellPlan, Plan, Resources, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.engine import Engine, Event
from benchmark.run.placement import Place, Placement
from benchmark.run.scheduler import execute, write_run_folder

NODES, CPUS = 100, 4
# Hours of a stage at the paper's sizes, roughly; all others a hundredth.
HOURS = {"train_gan": 10.0, "train_unet": 2.0, "evaluate": 0.2, "synthesise": 0.1, "score": 0.1}


# The smallest protocol, with two hundred subjects to be tested on.
WIDE = PROTOCOL.replace("test: 2}", "test: 200}").replace("[48, 48, 32]", "[32, 32, 16]")


class Simulated(Engine):
    """The placement of a cluster, with a clock that jumps to the next stage's end. It leaves files as stages do."""

    def __init__(self, store: Store, workers: int, plan: Plan) -> None:
        self.store, self.workers, self.plan = store, workers, plan
        self.placement = Placement(Place(f"{index:03d}", f"n{index:03d}", plan.node, CPUS) for index in range(NODES))
        self.running: list[tuple[float, str]] = []
        self.hours, self.busy_hours, self.most = 0.0, 0.0, 0
        self.files_s = 0.0

    def free(self, resources: Resources) -> bool:
        return len(self.running) < self.workers and self.placement.room(resources) is not None

    def submit(self, key: str, resources: Resources) -> None:
        place = self.placement.room(resources)
        assert place is not None
        self.placement.put(key, resources, place)
        length = HOURS.get(self.plan.specs[key].stage, 0.01) * (0.8 + 0.4 * (int(key[-4:], 16) % 100) / 100)
        heapq.heappush(self.running, (self.hours + length, key))
        self.busy_hours += length * place.cpus_for(resources)
        self.most = max(self.most, len(self.running))

    def next_event(self) -> Event:
        self.hours, key = heapq.heappop(self.running)
        self.placement.ended(key)
        began = time.monotonic()
        folder = self.store.folder(key)
        for name in ("log.txt", "values.json", "steps.jsonl"):
            (folder / name).write_text("{}\n" * 100)
        self.store.finish(key, {}, {"seconds": 1.0})
        self.files_s += time.monotonic() - began
        return Event("done", key)

    def close(self) -> None: ...


class Silent:
    def stage_started(self, key: str) -> None: ...
    def stage_event(self, event: Event) -> None: ...
    def cell_finished(self, cell: CellPlan, status: str) -> None: ...


class Timer:
    """Seconds since the last look."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        began, self._began = self._began, time.monotonic()
        return self._began - began


class Figures(NamedTuple):
    cells: int
    stages: int
    plan_s: float
    folder_s: float
    overhead_ms: float  # of the scheduler and the placement, a stage
    files_ms: float  # of what a worker writes and hashes, a stage
    driver_mib: float  # that came on top
    files: int
    listing_s: float
    resume_s: float
    busy: float  # share of the cluster's CPU hours


def large(seeds: int) -> Plan:
    protocol = load_protocol(ROOT / "protocols/paper.yaml")
    profile = protocol.profiles["smoke"]
    matrix = protocol.matrix.model_copy(update={"seed": list(range(seeds))})
    profile = profile.model_copy(update={"matrix": matrix})
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")


def simulate(seeds: int, out: Path) -> Figures:
    before, timer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Timer()
    plan = large(seeds)
    plan_s, store = timer(), Store(out / "runs")
    write_run_folder(plan, store, out, "")
    folder_s = timer()
    engine = Simulated(store, NODES * CPUS, plan)
    outcome = execute(plan, plan.cells, store, engine, Silent())
    run_s = timer()
    assert (outcome.exit_status, len(outcome.computed)) == (0, len(plan.specs))
    driver_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    timer()
    files = sum(1 for path in (out / "runs").rglob("*") if path.is_file())
    listing_s = timer()
    again = execute(plan, plan.cells, store, Simulated(store, 1, plan), Silent())
    resume_s = timer()
    assert len(again.reused) == len(plan.specs)
    stages = len(plan.specs)
    return Figures(
        len(plan.cells),
        stages,
        plan_s,
        folder_s,
        1000 * (run_s - engine.files_s) / stages,
        1000 * engine.files_s / stages,
        driver_mib,
        files,
        listing_s,
        resume_s,
        engine.busy_hours / (engine.hours * NODES * CPUS),
    )


def sizes() -> Iterator[object]:
    yield 8
    yield from (pytest.param(seeds, marks=pytest.mark.slow) for seeds in (80, 200, 800))


@pytest.mark.parametrize("seeds", list(sizes()))
def test_the_driver_keeps_up_with_a_large_cluster(seeds: int, tmp_path: Path) -> None:
    figures = simulate(seeds, tmp_path)
    print("\n" + ", ".join(f"{name} {value:.4g}" for name, value in figures._asdict().items()))
    assert figures.cells == 5 * seeds + 2
    assert figures.overhead_ms < 100, "of hours"
    assert figures.resume_s < 0.1 * figures.stages
    assert figures.driver_mib < 1000


@pytest.mark.slow
def test_two_hundred_test_subjects_make_no_run_slow_and_no_page_large(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(WIDE)
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmark", "run", "small.yaml", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    run_s = time.monotonic() - began
    assert done.returncode == 0
    assert all(line.startswith("warning ") for line in done.stderr.splitlines()), done.stderr
    began = time.monotonic()
    subprocess.run([*command[:3], "report", "small-tiny"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    report_s = time.monotonic() - began
    results = json.loads((tmp_path / "reports/small-tiny/results.json").read_text())
    assert {cell["metrics"]["dsc/all"]["n"] for cell in results["cells"]} == {200}
    size = (tmp_path / "reports/small-tiny/index.html").stat().st_size
    print(f"\nrun {run_s:.0f} s, report {report_s:.0f} s, page {size / 1e6:.1f} MB")
    assert report_s < 30
    assert size < 10_000_000
