"""The command that makes a run again: what was given, as it was given."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from run_folders import make_run

from benchmark.artifacts.reading import read_json
from benchmark.results.format import Reproduction
from benchmark.results.reproduction import Asked, keep_asked, reproduction_of, without_home
from benchmark.results.run_folder import load_run

CELLS = ["SN_f16_s0", "SN_f16_s1", "GP_f16_s0"]
RUN = "python -m benchmark run r.yaml --profile p"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_run(tmp_path, {cell: {} for cell in CELLS})
    return tmp_path / "runs/r-p"


def told(folder: Path) -> Reproduction:
    return reproduction_of(load_run(folder.parent.parent, "r-p"))


def ask(
    folder: Path, expression: str | None, *cells: str, variables: dict[str, str] | None = None, **options: str
) -> None:
    given: dict[str, str | None] = {f"--{name}": value for name, value in options.items()}
    keep_asked(folder, given, variables or {}, {"expression": expression, "cells": list(cells)})


def test_all_that_was_given_is_in_the_command_as_it_was_given(folder: Path) -> None:
    ask(folder, "SN and not s1", CELLS[0], data="../my scans", layout="bids")
    (folder / "seeds.json").write_text(json.dumps({"asked": "+1", "before": [0], "all": [0, 1]}))
    assert told(folder)["command"] == (
        f"{RUN} --data '../my scans' --layout bids --seeds 0,1 --device cpu -k 'SN and not s1'"
    )
    assert told(folder)["left_out"] == CELLS[1:]


def test_each_command_that_added_cells_has_its_line_until_one_asks_for_all(folder: Path) -> None:
    ask(folder, "s0", CELLS[0], CELLS[2], data="scans")
    ask(folder, "GP", CELLS[2], data="scans")
    assert told(folder)["command"] == f"{RUN} --data scans --device cpu -k s0", "nothing new"
    ask(folder, "s1", CELLS[1], data="elsewhere")
    lines = told(folder)["command"].splitlines()
    assert lines == [f"{RUN} --data elsewhere --device cpu -k {k}" for k in ("s0", "s1")], "the same data have moved"
    assert told(folder)["left_out"] == []
    ask(folder, None, *CELLS, data="elsewhere")
    assert told(folder)["command"] == f"{RUN} --data elsewhere --device cpu"
    ask(folder, "s0", CELLS[0], CELLS[2], data="elsewhere", spacing="1,1,1")
    assert told(folder)["command"] == f"{RUN} --data elsewhere --spacing 1,1,1 --device cpu -k s0"
    assert told(folder)["left_out"] == [CELLS[1]], "it is of another spacing"


def test_metrics_of_ones_own_are_named_before_the_command(folder: Path) -> None:
    ask(folder, None, *CELLS, variables={"VESSELGAN_METRICS": "my metrics.py"})
    assert told(folder)["command"] == f"VESSELGAN_METRICS='my metrics.py' {RUN} --device cpu"


def test_nobody_reads_the_name_of_a_home_folder_and_a_shell_finds_it_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "ada"
    monkeypatch.setenv("HOME", str(home))
    assert without_home("scans/of ada") == "scans/of ada"
    assert without_home(f"{home}s/scans") == f"{home}s/scans", "another person's"
    ask(folder, None, *CELLS, data=without_home(home / "my scans"))
    command = told(folder)["command"]
    assert "--data ~/'my scans'" in command
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert str(home / "my scans") in shown.stdout.splitlines()


def test_an_earlier_run_says_what_it_did_not_record(folder: Path) -> None:
    plan = json.loads((folder / "run.json").read_text())
    plan |= {"data": {"description": "d", "phantom": False}, "settings": {"score": {"weights": "/far/away.pth"}}}
    (folder / "run.json").write_text(json.dumps(plan))
    assert shlex.split(told(folder)["command"])[7:] == ["--data", "DIR", "--weights", "FILE", "--device", "cpu"]
    assert told(folder)["left_out"] == []


def test_a_damaged_record_is_written_anew_by_the_next_run(folder: Path) -> None:
    (folder / "asked.json").write_text("{")
    ask(folder, "s1", CELLS[1])
    assert read_json(folder / "asked.json", Asked)["chosen"] == [{"expression": "s1", "cells": [CELLS[1]]}]
