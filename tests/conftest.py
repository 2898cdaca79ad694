"""Options of the suite: `--benchmark` runs only timings, `--slow` adds statistical and long checks; shared files."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from browser import started_chromium
from playwright.sync_api import Browser

from vesselgan.data import phantom_subjects, save_volume
from vesselgan.networks import ResNet10
from vesselgan.profiling.machine_load import OtherLoad, why_not_steady

# A shell ignores SIGINT on behalf of what it starts in the background, and children inherit that: tests send them some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the speed and memory benchmarks, and only these")
    parser.addoption("--slow", action="store_true", help="also run statistical and long checks")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--benchmark") and not config.getoption("benchmark_autosave", None):
        # For `--benchmark-compare`, the next time on this machine.
        config.option.benchmark_autosave = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Judge whether the machine was busy with something else while a timing was made; the saved JSON says so."""
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    others = OtherLoad() if benchmark is not None else None
    yield
    if others is not None and benchmark.stats is not None:
        cores = others.cores()
        busy = why_not_steady(benchmark.stats.stats.data, cores, torch.get_num_threads())
        benchmark.extra_info.update(others_cores=round(cores, 2), busy=busy)
        if busy:
            item.add_report_section("call", "busy machine", busy)
            BUSY.append(f"{item.name}: {busy}")


BUSY: list[str] = []  # timings of this session that say nothing


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if BUSY:
        terminalreporter.section("timings on a busy machine, which support no claim")
        for line in BUSY:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    benchmarks, slow = config.getoption("--benchmark"), config.getoption("--slow")
    cuda = "cuda" in config.getoption("-m")

    def wanted(item: pytest.Item) -> bool:
        is_benchmark, is_cuda, is_slow = (
            item.get_closest_marker(name) is not None for name in ("benchmark", "cuda", "slow")
        )
        return is_benchmark == bool(benchmarks) and is_cuda == cuda and (slow or not is_slow)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms in the nnU-Net raw layout, without brain masks."""
    folder = tmp_path_factory.mktemp("scans")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index, subject in enumerate(phantom_subjects(4, (48, 48, 32), seed=1)):
        image, label = f"imagesTr/case_{index:03d}_0000.nii.gz", f"labelsTr/case_{index:03d}.nii.gz"
        save_volume(folder / image, subject.image, subject.affine)
        save_volume(folder / label, subject.label.astype(np.uint8), subject.affine)
    return folder


@pytest.fixture(scope="session")
def medicalnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as MedicalNet's, with weights of no meaning."""
    path = tmp_path_factory.mktemp("weights") / "resnet_10_23dataset.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in ResNet10().state_dict().items()}}, path)
    return path


@pytest.fixture(scope="session")
def finished_smoke(shared_folder: Path) -> Path:
    """A folder with the smoke run of `paper`; whoever changes it takes a copy."""
    return made_once(shared_folder / "smoke", lambda folder: smoke_run(folder, "paper"))


@pytest.fixture(scope="session")
def smoke_runs(shared_folder: Path, finished_smoke: Path) -> Path:
    """A folder with smoke runs of all protocols, of which the larger ones have only some of their cells."""

    def make(folder: Path) -> None:
        shutil.copytree(finished_smoke, folder, dirs_exist_ok=True)
        smoke_run(folder, "precision")
        smoke_run(folder, "generators")
        smoke_run(folder, "utility", "-k", "s0 and not n2 and not n3 and not real+ and not n1+")  # sharing a training
        smoke_run(folder, "deviations", "-k", "real_corrected_s0")  # any other would measure the costs of all

    return made_once(shared_folder / "all", make)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser, started once."""
    with started_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session share, where pytest-xdist runs several."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent / "shared" if hasattr(request.config, "workerinput") else own / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by whichever process comes first; the others wait."""
    with filelock.FileLock(f"{folder}.lock"):
        if not Path(f"{folder}.done").exists():
            folder.mkdir()
            make(folder)
            Path(f"{folder}.done").touch()
    return folder


def smoke_run(folder: Path, protocol: str, *more: str) -> None:
    command = [sys.executable, "-m", "benchmark", "run", protocol, "--profile", "smoke", *more]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
