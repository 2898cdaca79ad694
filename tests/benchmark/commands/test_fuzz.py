"""Mutated files of every kind: success, or one clean line; no traceback, nothing over 5 s or 1 GiB."""

import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mutation
import numpy as np
import pytest
import torch
from data_trees import AFFINE, image_of, label_of, nifti
from mutation import bounded, mutated_bytes, mutated_text
from paper_checkpoints import one_number, paper_generator
from paths import ROOT

from benchmark.cli import main
from benchmark.datasets.layouts import packaged_layouts
from vesselgan.data import load_mask, load_volume, save_volume
from vesselgan.errors import InputError
from vesselgan.networks.importing import import_gan
from vesselgan.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

CONTROL = {chr(code) for code in range(32)} - {"\n", "\t"}
Command = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command in this process: its exit status, after its lines were looked at."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        try:
            with bounded():
                main()
        except SystemExit as left:
            status = int(left.code or 0)
        text = capsys.readouterr().err
        assert "Traceback" not in text
        assert not CONTROL & set(text), text
        lines = [line for line in text.splitlines() if not line.startswith("warning: ")]
        assert status in (0, 2), (status, lines)
        assert bool(lines) == (status == 2)
        assert all(line.startswith("error: ") for line in lines), lines
        return status

    return run


def refused(read: Callable[[], object]) -> bool:
    """Whether it was told in one line that a file is bad."""
    told = None
    try:
        with bounded():
            read()
    except InputError as error:
        told = str(error)
    assert told != ""
    return told is not None


def rng_of(case: int) -> random.Random:
    return random.Random(case)


def test_the_bounds_of_these_tests_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "MOST_BYTES", 2**26)
    monkeypatch.setattr(mutation, "MOST_S", 0.5)
    with pytest.raises(MemoryError, match=r"took 1\d\d MiB"), bounded():
        np.ones(2**24)
    with bounded():
        np.ones(2**21)
    with pytest.raises(TimeoutError), bounded():
        time.sleep(2)


def test_500_protocols(command: Command, tmp_path: Path) -> None:
    path, good = tmp_path / "mutated.yaml", [file.read_text() for file in (ROOT / "protocols").glob("*.yaml")]
    statuses = []
    for case in range(500):
        rng = rng_of(case)
        text = mutated_text(rng.choice(good), rng)
        path.write_text(text, encoding="utf-8") if case % 5 else path.write_bytes(mutated_bytes(text.encode(), rng))
        statuses.append(command("ls", path))
        if statuses[-1] == 0 and case % 3 == 0:
            command("run", path, "--profile", "smoke", "--explain", "--out", tmp_path / "out")
    assert 50 < statuses.count(2) < 490


def test_100_layouts(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        nifti(data / f"imagesTr/c{number}_0000.nii.gz", image_of(number))
        nifti(data / f"labelsTr/c{number}.nii.gz", label_of(number))
    good = [file.read_text() for file in packaged_layouts().values()]
    statuses = []
    for case in range(100):
        rng = rng_of(case)
        (tmp_path / "mutated.yaml").write_text(mutated_text(rng.choice(good), rng))
        statuses.append(command("check-data", data, "--layout", tmp_path / "mutated.yaml"))
    assert statuses.count(2) > 20


@pytest.mark.parametrize("read", [load_volume, load_mask])
def test_200_headers_and_bodies_of_nifti_files(read: Callable[[Path], object], tmp_path: Path) -> None:
    save_volume(tmp_path / "good.nii.gz", label_of(0), AFFINE)
    nifti(tmp_path / "good.nii", label_of(0))
    bad = 0
    for case in range(200):
        rng = rng_of(case)
        good = tmp_path / ("good.nii", "good.nii.gz")[case % 2]
        content = good.read_bytes()
        if case % 4 == 0:  # the header alone
            content = mutated_bytes(content[:352], rng)[:352].ljust(352, b"\0") + content[352:]
        else:
            content = mutated_bytes(content, rng)
        path = tmp_path / f"mutated{''.join(good.suffixes)}"
        path.write_bytes(content)
        bad += refused(lambda path=path: read(path))  # type: ignore[misc]
    assert bad > 50


def test_200_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ours.pt", {"config": "a", "steps_done": 3, "weights": {"w": torch.randn(50, 50)}})
    weights = one_number(paper_generator(8, (16, 16, 8)))
    torch.save({"Generator_state_dict": weights}, tmp_path / "papers.pt")
    torch.save({"Generator_state_dict": weights}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    bad, path = 0, tmp_path / "mutated.pt"
    for case in range(200):
        rng = rng_of(case)
        name = ("ours", "papers", "old", "ours")[case % 4]
        path.write_bytes(mutated_bytes((tmp_path / f"{name}.pt").read_bytes(), rng))
        if name == "ours":
            bad += refused(lambda: load_checkpoint(path))
        else:
            bad += refused(lambda: import_gan(path, (16, 16, 8)))
    assert bad > 100


@pytest.fixture(scope="module")
def run_files(finished_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mutated") / "out"
    shutil.copytree(finished_smoke / "runs", out / "runs")
    return out


def test_200_files_of_runs_and_stages(command: Command, run_files: Path) -> None:
    run = run_files / "runs/paper-smoke"
    stages = {key for path in run.glob("cells/*.json") for key in json.loads(path.read_text())["stages"].values()}
    files = [
        *(path for path in sorted(run.rglob("*")) if path.is_file()),
        *(path for key in sorted(stages) for path in sorted((run_files / "runs/stages" / key).rglob("*"))),
    ]
    # Logs and locks are read by nobody; volumes are many.
    kinds = (".json", ".csv", ".jsonl", ".npz", ".yaml")
    files = [path for path in files if path.suffix in kinds or path.name in ("patches.npy", "ranges.npy")]
    statuses = []
    for case in range(200):
        rng = rng_of(case)
        path = rng.choice(files)
        before = path.read_bytes()
        path.write_bytes(mutated_bytes(before, rng))
        try:
            told = "report" if case % 8 == 0 else "claims"
            statuses.append(command(told, "paper-smoke", "--out", run_files))
        finally:
            path.write_bytes(before)
    assert statuses.count(2) > 20


def test_numbers_are_as_they_were_after_all_that(command: Command, run_files: Path, finished_smoke: Path) -> None:
    assert command("report", "paper-smoke", "--out", run_files) == 0
    results = [
        json.loads((out / "reports/paper-smoke/results.json").read_text()) for out in (run_files, finished_smoke)
    ]
    assert results[0]["subjects"] == results[1]["subjects"]
    assert np.isfinite([cell["seconds"] for cell in results[0]["cells"]]).all()
