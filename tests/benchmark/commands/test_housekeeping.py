"""`runs`, `gc` and `logs`, and how much a run says."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run
from typer.testing import CliRunner

from benchmark.artifacts.store import Spec, Store
from benchmark.commands import app
from benchmark.results.run_list import list_runs
from vesselgan.errors import InputError

OLD = time.time() - 10 * 3600


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two runs that share a stage, each with one of its own, and a stage that no run needs."""
    make_run(tmp_path, {"SN_f16_s0": {"data": {"subjects": {}}, "gan": {"steps": 9}}, "SN_f16_s1": {"gan": "it broke"}})
    other = tmp_path / "runs/s-q"
    shutil.copytree(tmp_path / "runs/r-p", other)
    plan = json.loads((other / "run.json").read_text()) | {"cells": ["SN_f16_s0"], "protocol": "s", "profile": "q"}
    (other / "run.json").write_text(json.dumps(plan))
    record = json.loads((other / "cells/SN_f16_s0.json").read_text())
    store = Store(tmp_path / "runs")
    base = Spec("prepare", 1, {"base": 1})
    mine = Spec("train_gan", 1, {"mine": 1}, inputs={"data": base.key})
    left = Spec("train_gan", 1, {"left": 1})
    for spec in (base, mine, left):
        store.plan(spec)
        (store.folder(spec.key) / "weights.bin").write_bytes(bytes(5000))
        store.finish(spec.key, {}, {"seconds": 1.0})
    record["stages"]["gan"] = mine.key
    (other / "cells/SN_f16_s0.json").write_text(json.dumps(record))
    for path in (tmp_path / "runs/stages").rglob("*"):
        os.utime(path, (OLD, OLD))
    return tmp_path


def stages(out: Path) -> set[str]:
    return {path.name for path in (out / "runs/stages").iterdir()}


def left_over(out: Path) -> str:
    return Spec("train_gan", 1, {"left": 1}).key


def test_runs_are_listed_with_what_each_takes_and_would_free(out: Path) -> None:
    first, second = list_runs(out)
    assert (first.name, first.status, first.cells, first.done, first.failed) == ("r-p", "failed", 2, 1, 1)
    assert (second.name, second.protocol, second.profile, second.status) == ("s-q", "s", "q", "done")
    shared = json.loads((out / "runs/r-p/cells/SN_f16_s0.json").read_text())["stages"]["data"]
    size = sum(path.stat().st_size for path in (out / "runs/stages" / shared).iterdir())
    assert second.bytes_used - second.bytes_alone == size, "its own stage and what that needs are its alone"
    assert second.bytes_alone > 10_000
    result = invoke("runs", "--out", out)
    assert result.exit_code == 0
    assert "1 of 2, 1 failed" in result.output
    assert [run["name"] for run in json.loads(invoke("runs", "--out", out, "--json").output)] == ["r-p", "s-q"]


def test_a_damaged_run_is_listed_and_nothing_is_removed_then(out: Path) -> None:
    (out / "runs/s-q/run.json").write_text("{")
    result = invoke("runs", "--out", out)
    assert "damaged" in result.output
    assert "run.json: is no JSON" in result.output
    before = stages(out)
    assert isinstance(invoke("gc", "--yes", "--out", out).exception, InputError)
    assert stages(out) == before


def test_gc_removes_what_no_run_needs_and_nothing_else(out: Path) -> None:
    before = stages(out)
    asked = invoke("gc", "--out", out)
    assert isinstance(asked.exception, InputError), "nobody is there to be asked"
    assert "1 stage" in str(asked.exception)
    assert stages(out) == before
    result = invoke("gc", "--yes", "--out", out)
    assert result.exit_code == 0, result.output
    assert before - stages(out) == {left_over(out)}
    assert "1 removed, 5." in result.output
    assert "nothing to remove" in invoke("gc", "--yes", "--out", out).output


def test_gc_leaves_what_is_young_or_worked_on(out: Path) -> None:
    key = left_over(out)
    os.utime(out / "runs/stages" / key / "spec.json")
    young = invoke("gc", "--yes", "--out", out)
    assert "1 more, younger than 1 h" in young.output
    with Store(out / "runs").lock(key):
        busy = invoke("gc", "--yes", "--older-than", 0, "--out", out)
    assert "kept, since another process works on it" in busy.output
    assert key in stages(out)
    assert invoke("gc", "--yes", "--older-than", 0, "--out", out).exit_code == 0
    assert key not in stages(out)


def test_logs_are_those_of_the_cell_and_say_why_it_failed(out: Path) -> None:
    key = json.loads((out / "runs/r-p/cells/SN_f16_s1.json").read_text())["stages"]["gan"]
    (out / "runs/stages" / key / "log.txt").write_text("2026-01-01 begins\n")
    result = invoke("logs", "SN_f16_s1", "--out", out)
    assert result.exit_code == 0
    assert f"gan {key}: failed" in result.output
    assert "2026-01-01 begins" in result.output
    assert "it broke" in result.output
    assert "in several runs (r-p, s-q)" in str(invoke("logs", "SN_f16_s0", "--out", out).exception)
    named = invoke("logs", "SN_f16_s0", "--run", "s-q", "--stage", "gan", "--out", out)
    assert "data" not in named.output
    assert "there: SN_f16_s0, SN_f16_s1" in str(invoke("logs", "SN", "--out", out).exception)
    assert "has data, gan" in str(invoke("logs", "SN_f16_s0", "--run", "s-q", "--stage", "x", "--out", out).exception)
    assert "no log" in invoke("logs", "--run", "r-p", "--out", out).output


@pytest.fixture(scope="module")
def folder(finished_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(finished_smoke, tmp_path_factory.mktemp("says") / "out"))


def again(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished run once more, of which one short stage is left to do."""
    key = json.loads((folder / "runs/paper-smoke/cells/threshold.json").read_text())["stages"]["evaluate"]
    Store(folder / "runs").undo(key)
    command = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke", "-k", "threshold", *more]
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env=variables | environment, check=False
    )


@pytest.mark.slow
def test_a_run_says_as_much_as_it_is_asked_to_in_colours_or_not_and_its_log_everything(folder: Path) -> None:
    log = folder / "runs/paper-smoke/log.txt"
    log.unlink()
    quiet = again(folder, "--quiet", FORCE_COLOR="1")
    coloured = again(folder, "--verbose", FORCE_COLOR="1")
    plain = again(folder, "--verbose", FORCE_COLOR="1", NO_COLOR="1")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert "\x1b[32m" in coloured.stdout
    assert "\x1b[3" not in plain.stdout
    for line in ("begins evaluate_untrained-", "done evaluate_untrained-", "[1/1 "):
        assert line in re.sub(r"\x1b\[[\d;]*m", "", coloured.stdout)
        assert log.read_text().count(line) == 3, "in whichever voice"
    assert "DSC all" in log.read_text()
    assert "\x1b" not in log.read_text()


def test_quiet_and_verbose_at_once_are_refused() -> None:
    result = invoke("run", "paper", "--profile", "smoke", "--quiet", "--verbose")
    assert str(result.exception) == "--quiet and --verbose: give one of them"


def test_a_run_goes_on_when_the_reader_of_its_lines_has_gone(folder: Path) -> None:
    key = json.loads((folder / "runs/paper-smoke/cells/threshold.json").read_text())["stages"]["evaluate"]
    Store(folder / "runs").undo(key)
    command = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke", "-k", "threshold"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert Store(folder / "runs").done(key)
    assert (process.returncode, errors) == (0, b"")
