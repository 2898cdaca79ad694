"""Names of files that mean something to a program, or nothing in UTF-8: never a traceback, never a changed name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_trees import SHAPE, image_of, label_of, nifti

from benchmark.report.mlflow_mirror import open_client

NAMES = [
    "[x] y [bold]",
    os.fsdecode(b"caf\xe9"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("[text]", "a?b#c", "100%", "$HOME")),
]


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, timeout=120)


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_evaluated_and_told_by_their_names(name: str, tmp_path: Path) -> None:
    for role in ("truth", name):
        for case in ("one", f"{name} two"):
            nifti(tmp_path / role / f"{case}.nii.gz", label_of(1))
    result = command("evaluate", "--truth", "truth", "--prediction", name, "--name", "r", "--out", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert b"report: " + os.fsencode(f"{name}/reports/r/index.html") in result.stdout
    results = json.loads((tmp_path / name / "reports/r/results.json").read_text())
    assert results["prediction"] == name
    assert {row["subject"] for row in results["subjects"]} == {"one", f"{name} two"}


def test_closing_brackets_in_the_name_of_a_folder_are_no_markup(tmp_path: Path) -> None:
    for role in ("truth", "prediction"):
        nifti(tmp_path / f"[/x]/{role}/a.nii.gz", label_of(1))
    where = tmp_path / "[/x]"
    result = command("evaluate", "--truth", where / "truth", "--prediction", where / "prediction", cwd=where)
    assert result.returncode == 0, result.stderr
    refused = command("evaluate", "--truth", where / "no[/x]", "--prediction", where / "prediction", cwd=where)
    assert refused.returncode == 2
    assert b"no[/x]: no such folder" in refused.stderr
    assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["[red]", os.fsdecode(b"caf\xe9")])
def test_a_dataset_is_checked_whatever_its_subjects_are_called(name: str, tmp_path: Path) -> None:
    for number in range(2):
        nifti(tmp_path / f"{name}/imagesTr/{name}{number}_0000.nii.gz", image_of(number))
        nifti(tmp_path / f"{name}/labelsTr/{name}{number}.nii.gz", label_of(number))
    result = command("check-data", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert os.fsencode(f"{name}1") in result.stdout


@pytest.mark.parametrize("name", ["what? 50% [x]", "a#b", "plain"])
def test_a_question_mark_in_the_folder_of_runs_ends_no_address(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    (out / "runs").mkdir(parents=True)
    open_client(out).create_experiment("one", (out / "artifacts").as_uri())
    assert (out / "runs/mlflow.db").is_file()
    assert open_client(out).get_experiment_by_name("one") is not None
    assert [path.name for path in tmp_path.iterdir()] == [name]


OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"  # a terminal's title, its screen, a colour, and writing turned round


@pytest.mark.parametrize(
    "folder", [pytest.param("plain", marks=pytest.mark.slow), OBEYED], ids=["subjects", "all names"]
)
def test_a_terminal_obeys_no_name(folder: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("truth", "prediction"):
        for number in range(2):
            mask = rng.random(SHAPE) > 0.7
            nifti(tmp_path / folder / part / f"{OBEYED}{number}.nii.gz", mask)
    (tmp_path / folder / "imagesTr").mkdir()
    nifti(tmp_path / folder / f"imagesTr/{OBEYED}_0000.nii.gz", image_of(0))
    truth, prediction = tmp_path / folder / "truth", tmp_path / folder / "prediction"
    for arguments in (
        ("evaluate", "--truth", truth, "--prediction", prediction),
        ("evaluate", "--truth", truth, "--prediction", tmp_path / folder / "nothing"),
        ("check-data", tmp_path / folder),
    ):
        done = command(*arguments, cwd=tmp_path)
        printed = (done.stdout + done.stderr).decode()
        assert printed
        assert not set(printed) & (set(OBEYED) - set("0;owned]2J[31m")), repr(printed)


def test_a_page_shows_names_and_runs_none(tmp_path: Path) -> None:
    name = "<script>alert(1)<!--"
    for part in ("truth", "prediction"):
        nifti(tmp_path / part / f"{name}.nii.gz", label_of(0))
    done = command("evaluate", "--truth", "truth", "--prediction", "prediction", "--name", "named", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reports/named/index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "..", "."])
def test_no_name_leads_out_of_the_folder_of_reports(name: str, tmp_path: Path) -> None:
    for part in ("truth", "prediction"):
        nifti(tmp_path / "in" / part / "a.nii.gz", label_of(0))
    (tmp_path / "in").mkdir(exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    folders = ("--truth", "truth", "--prediction", "prediction")
    done = command("evaluate", *folders, "--name", name, cwd=tmp_path / "in")
    assert done.returncode == 2
    assert b"give a name without /" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
