"""Where nothing more can be written: one line, the documented exit status, and nothing half written is believed."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import write_run_folder
from vesselgan.files import write_text

RUN = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke", "-k", "real"]
SPEC = Spec(
    "prepare",
    STAGE_VERSIONS["prepare"],
    {
        "source": {"phantom": {"shape": [32, 32, 16], "spacing_mm": None, "seed": 0, "subjects": 3}},
        "split": {"train": ["phantom-000"], "validation": ["phantom-001"], "test": ["phantom-002"]},
        "patch": [16, 16, 16],
        "patches": {"grid": [1, 1, 1], "vessel": 1},
        "seed": 0,
    },
)


def made(folder: Path) -> dict[str, Any]:
    """The hashes of all files of finished stages; those of numerics checks hold timings."""
    results = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/stages/*/result.json")}
    return {key: result["files"] for key, result in results.items() if not key.startswith("verify-")}


@pytest.mark.slow
def test_a_run_without_space_says_so_and_the_same_command_goes_on_with_it(tmp_path: Path) -> None:
    """No file may grow beyond a size, which for whoever writes is a full disk: at once, and later and later."""
    statuses = []
    for most_bytes in (100, 5_000, 60_000, 400_000):

        def limited(most: int = most_bytes) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        done = subprocess.run(RUN, cwd=tmp_path, capture_output=True, text=True, timeout=300, preexec_fn=limited)
        assert "Traceback" not in done.stdout + done.stderr
        lines = done.stderr.splitlines()
        told = ("File too large", "the MLflow mirror was not written")
        assert all(line.startswith(("error: ", "warning: ")) and any(one in line for one in told) for line in lines)
        assert done.returncode != 2 or len(lines) == 1
        statuses.append(done.returncode)
    assert statuses[0] == 2
    assert set(statuses) <= {0, 1, 2}
    done = subprocess.run(RUN, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (tmp_path / "again").mkdir()
    subprocess.run(RUN, cwd=tmp_path / "again", check=True, capture_output=True, timeout=300)
    assert made(tmp_path) == made(tmp_path / "again")


class Disk:
    """Fails every write from a given one on, as a full disk, a read-only one or one of somebody else's does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.left, self.number = 10**9, number
        whole = Path.write_bytes

        def write(path: Path, content: bytes) -> int:
            self.left -= 1
            if self.left < 0:
                whole(path, content[: len(content) // 2])
                raise OSError(self.number, os.strerror(self.number))
            return whole(path, content)

        monkeypatch.setattr(Path, "write_bytes", write)


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS, errno.EACCES], ids=["full", "read-only", "not ours"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch, request.param)


def planned(seeds: list[int]) -> Plan:
    protocol = load_protocol(ROOT / "protocols/paper.yaml")
    profile = protocol.profiles["smoke"]
    matrix = protocol.matrix.model_copy(update={"variant": ["SN"], "seed": seeds})
    profile = profile.model_copy(update={"matrix": matrix})
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")


def test_a_run_folder_lists_no_cell_that_is_not_there_wherever_its_writing_ends(disk: Disk, tmp_path: Path) -> None:
    folder, store = tmp_path / "runs/paper-smoke", Store(tmp_path / "runs")
    write_run_folder(planned([0, 1]), store, tmp_path, "")
    before = json.loads((folder / "run.json").read_text())["cells"]
    plan = planned([1, 2])
    writes = 0
    while True:
        disk.left = writes
        try:
            write_run_folder(plan, store, tmp_path, "other")
        except OSError as error:
            failure = error
        else:
            break
        assert failure.errno == disk.number
        assert Path(str(failure.filename)).is_relative_to(folder.parent)
        listed = json.loads((folder / "run.json").read_text())["cells"]
        assert listed == before
        for cell in listed:
            assert json.loads((folder / f"cells/{cell}.json").read_text())["cell"]["id"] == cell
        assert not list(folder.rglob(".*")), "no half of a file is left"
        writes += 1
    assert writes > 5
    assert {path.stem for path in (folder / "cells").glob("*.json")} == {cell.cell.id for cell in plan.cells}


def test_a_stage_whose_result_cannot_be_written_is_not_done_and_is_made_again(disk: Disk, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.plan(SPEC)
    writes = 0
    while True:
        disk.left = writes
        try:
            run_stage(store, SPEC.key)
        except OSError as error:
            failure = error
        else:
            break
        assert failure.errno == disk.number
        assert failure.filename
        assert not store.done(SPEC.key)
        assert store.error(SPEC.key) is None, "which could not be written either"
        writes += 1
    assert writes
    assert store.done(SPEC.key)
    assert store.discard_damaged(SPEC.key) is None


def test_an_error_that_came_before_the_disk_was_full_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    broken = Spec("prepare", STAGE_VERSIONS["prepare"], {"split": {}})
    store.plan(broken)
    Disk(monkeypatch, errno.ENOSPC).left = 0
    with pytest.raises(KeyError, match="patch"):
        run_stage(store, broken.key)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EDQUOT])
def test_where_nothing_can_be_renamed_the_old_file_stays_and_the_error_names_it(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "run.json", "old")

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number), str(path), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as failure:
        write_text(tmp_path / "run.json", "new")
    assert failure.value.filename == str(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
