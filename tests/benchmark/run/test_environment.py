"""Unusual surroundings: few file handles, no home, odd paths, wrong clocks, two runs at once."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_protocol import made

RUN = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke"]
ODD = "a b\u00fc \u8840? 50%#[x] [/y]"


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    os.umask(0o077)


@pytest.mark.slow
def test_few_handles_a_strict_mask_no_home_and_an_odd_path_change_nothing(finished_smoke: Path, tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "TMPDIR", "USER", "LOGNAME")}
    bare |= {"TMPDIR": str(tmp_path / "not there"), "HOME": str(tmp_path / "nor there")}
    done = subprocess.run(
        RUN, cwd=folder, env=bare, capture_output=True, text=True, check=False, timeout=400, preexec_fn=limited
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert made(folder) == made(finished_smoke)
    assert (folder / "reports/paper-smoke/index.html").is_file()
    assert (folder / "runs/mlflow.db").is_file()
    # Libraries may make a home for their settings.
    assert {path.name for path in tmp_path.iterdir()} - {"nor there"} == {ODD.partition("/")[0]}
    open_to_others = [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]
    assert not open_to_others


@pytest.mark.slow
def test_two_runs_in_one_folder_share_the_work(finished_smoke: Path, tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(RUN, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for run in runs:
        output, errors = run.communicate(timeout=500)
        assert run.returncode == 0, output + errors
        assert "Traceback" not in errors
    assert made(tmp_path) == made(finished_smoke)
    starts = [log.read_text().count(" starts (process") for log in tmp_path.glob("runs/stages/*/log.txt")]
    assert max(starts) == 1, "no stage was made twice"


@pytest.mark.parametrize("moment", [0, 4_000_000_000], ids=["1970", "2096"])
def test_files_of_another_time_are_what_they_were(finished_smoke: Path, tmp_path: Path, moment: int) -> None:
    """As after a clock that was wrong, or a copy: by no file's time is anything believed."""
    shutil.copytree(finished_smoke / "runs", tmp_path / "runs")
    for path in tmp_path.rglob("*"):
        os.utime(path, (moment, moment))
    command = [*RUN, "--dry-run", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100)
    states = {stage["state"] for cell in json.loads(done.stdout)["cells"] for stage in cell["stages"].values()}
    assert states == {"done"}
