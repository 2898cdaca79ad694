"""The command line as a person meets it: bad input in one line with exit status 2, and the cheap commands."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from run_folders import make_run
from typer.testing import CliRunner

from benchmark.commands import app
from vesselgan.data import save_volume

SMOKE = ("run", "paper", "--profile", "smoke")


def benchmark(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_a_command_starts_without_the_libraries_that_few_of_them_need(tmp_path: Path) -> None:
    """Each of these takes a tenth of a second or more."""
    slow = ("torch", "mlflow", "matplotlib", "pandas", "skimage", "scipy.ndimage", "scipy.stats", "scipy.interpolate")
    code = f"import sys, benchmark.cli; print(*sorted(set({slow}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == [], result.stderr


def refused(*arguments: object, cwd: Path) -> str:
    """The lines of a refusal, after the checks that hold for each of them."""
    result = benchmark(*arguments, cwd=cwd)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def damaged(scans: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    folder = tmp_path / "scans"
    for path in scans.rglob("*.nii.gz"):
        target = folder / path.relative_to(scans)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_the_cells_of_a_protocol_are_listed(tmp_path: Path) -> None:
    result = benchmark("ls", "paper", cwd=tmp_path)
    assert result.returncode == 0
    assert "c-SN-MP_f128_s1" in result.stdout
    assert "claim: mixed precision lowers FID at equal width: fid @ SN-MP is less than fid @ SN" in result.stdout
    assert list(tmp_path.iterdir()) == [], "listing writes nothing"


def test_a_dry_run_lists_stages_and_writes_nothing(tmp_path: Path) -> None:
    result = benchmark(*SMOKE, "--dry-run", "-k", "SN-MP and not c-", cwd=tmp_path)
    assert result.returncode == 0
    assert "train_gan-" in result.stdout
    assert "GP_f16_s0" not in result.stdout
    assert "predicted:" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    assert "papre: no such protocol file" in refused("run", "papre", cwd=tmp_path)


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    assert "no profile 'huge'; it has paper, laptop, workstation, gpu, smoke" in refused(
        "run", "paper", "--profile", "huge", cwd=tmp_path
    )


def test_the_paper_profile_without_data_says_what_is_missing(tmp_path: Path) -> None:
    line = refused("run", "paper", "--profile", "paper", cwd=tmp_path)
    assert "needs real data" in line
    assert "--data DIR" in line
    assert list(tmp_path.iterdir()) == []


def test_the_paper_profile_without_weights_says_where_to_get_them(scans: Path, tmp_path: Path) -> None:
    line = refused("run", "paper", "--profile", "paper", "--data", scans, cwd=tmp_path)
    assert "resnet_10_23dataset.pth" in line
    assert "--weights FILE" in line


def test_every_mistake_in_a_protocol_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("protocol: p\ntitel: x\nprofiles:\n  a: {filtrs: 3}\nmatrix: {variant: [SN]}\n")
    result = benchmark("run", "p.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: p.yaml:1:1: title: is required",
        "error: p.yaml:2:1: titel: unknown key, did you mean 'title'?",
        "error: p.yaml:4:7: profiles.a.filtrs: unknown key, did you mean 'filters'?",
    ]


def test_a_missing_data_folder_is_refused(tmp_path: Path) -> None:
    assert "nowhere: no such data folder" in refused(*SMOKE, "--data", "nowhere", cwd=tmp_path)


def test_a_folder_without_a_known_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "imagesTr" in refused(*SMOKE, "--data", "empty", cwd=tmp_path)


def test_an_image_without_label_is_refused(damaged: Path, tmp_path: Path) -> None:
    (damaged / "labelsTr/case_001.nii.gz").unlink()
    line = refused(*SMOKE, "--data", damaged, cwd=tmp_path)
    assert "case_001_0000.nii.gz: no label" in line


def test_a_label_of_another_shape_is_refused(damaged: Path, tmp_path: Path) -> None:
    save_volume(damaged / "labelsTr/case_002.nii.gz", np.eye(48)[:, :, None] * np.ones(9), np.eye(4))
    line = refused(*SMOKE, "--data", damaged, cwd=tmp_path)
    assert "case_002.nii.gz: shape (48, 48, 9)" in line
    assert not (tmp_path / "runs/paper-smoke").exists(), "nothing of a run that cannot be"
    assert not (tmp_path / "reports").exists()


def test_a_file_that_is_no_nifti_is_refused(damaged: Path, tmp_path: Path) -> None:
    (damaged / "imagesTr/case_003_0000.nii.gz").write_text("hello")
    assert "case_003_0000.nii.gz" in refused(*SMOKE, "--data", damaged, cwd=tmp_path)


def test_too_few_subjects_for_the_split_are_refused(damaged: Path, tmp_path: Path) -> None:
    for case in ("case_002", "case_003"):
        (damaged / f"labelsTr/{case}.nii.gz").unlink()
        (damaged / f"imagesTr/{case}_0000.nii.gz").unlink()
    assert "2 subjects, too few" in refused(*SMOKE, "--data", damaged, cwd=tmp_path)


def test_all_bad_files_are_told_at_once_and_an_earlier_report_stays(damaged: Path, tmp_path: Path) -> None:
    report = tmp_path / "reports/paper-smoke/index.html"
    report.parent.mkdir(parents=True)
    report.write_text("of good data")
    for case in ("case_000", "case_001"):
        (damaged / f"imagesTr/{case}_0000.nii.gz").write_text("hello")
    result = benchmark(*SMOKE, "--data", damaged, cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 2
    assert report.read_text() == "of good data"


def test_weights_choose_medicalnet_whatever_the_profile_says(tmp_path: Path) -> None:
    assert "none.pth: is no file" in refused(*SMOKE, "--weights", "none.pth", cwd=tmp_path)


@pytest.fixture
def earlier_run(tmp_path: Path) -> Path:
    """What a run on the phantom leaves of itself."""
    path = tmp_path / "runs/paper-smoke/run.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"cells": [], "data": {"description": "embedded phantom", "phantom": true, "sha256": "00"}}')
    return path


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_file_that_is_no_weights_is_refused_and_an_earlier_run_stays(
    more: tuple[str, ...], earlier_run: Path, tmp_path: Path
) -> None:
    before = earlier_run.read_bytes()
    (tmp_path / "notes.md").write_text("# no weights")
    assert "notes.md" in refused(*SMOKE, "--weights", "notes.md", *more, cwd=tmp_path)
    assert earlier_run.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.md", "runs"]


def test_a_run_on_other_data_does_not_replace_an_earlier_one(earlier_run: Path, scans: Path, tmp_path: Path) -> None:
    before = earlier_run.read_bytes()
    line = refused(*SMOKE, "--data", scans, cwd=tmp_path)
    assert "holds a run on embedded phantom (content 00); this one is on scans" in line
    assert "--out DIR" in line
    assert earlier_run.read_bytes() == before
    assert benchmark(*SMOKE, "--dry-run", "-k", "real", cwd=tmp_path).returncode == 0, "the phantom is the protocol's"


def test_a_named_pipe_among_the_scans_is_refused_and_not_waited_for(damaged: Path, tmp_path: Path) -> None:
    path = damaged / "imagesTr/case_000_0000.nii.gz"
    path.unlink()
    os.mkfifo(path)
    assert "case_000_0000.nii.gz" in refused(*SMOKE, "--data", damaged, cwd=tmp_path)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert "runs" in refused(*SMOKE, cwd=tmp_path)


def test_a_batch_larger_than_the_patches_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "protocols/paper.yaml").read_text()
    (tmp_path / "p.yaml").write_text(text.replace("    batch: 4\n    steps: 12", "    batch: 4000\n    steps: 12"))
    line = refused("run", "p.yaml", "--profile", "smoke", cwd=tmp_path)
    assert "batch 4000 of 64 training patches" in line


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, {})
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert "is taken" in refused("ui", "--port", server.getsockname()[1], cwd=tmp_path)


def test_a_stage_that_was_never_planned_is_refused(tmp_path: Path) -> None:
    assert "no stage there" in refused("stage", "train_gan-123", cwd=tmp_path)


def test_reports_and_ui_of_a_run_that_is_not_there_are_refused(tmp_path: Path) -> None:
    assert "no run there" in refused("report", "paper-laptop", cwd=tmp_path)
    assert "no run there to show" in refused("ui", cwd=tmp_path)


def test_ui_without_a_name_opens_all_of_several_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "what? 50% [x]"
    monkeypatch.chdir(tmp_path)  # and back at the end: the command goes elsewhere
    for name in ("a", "b"):
        path = out / f"runs/{name}/run.json"
        path.parent.mkdir(parents=True)
        path.write_text('{"cells": []}')
    started: list[list[str]] = []
    monkeypatch.setattr("benchmark.commands.report.os.execv", lambda _, command: started.append(command))
    result = CliRunner().invoke(app, ["ui", "--out", str(out), "--port", "5999"])
    assert "all runs: http://127.0.0.1:5999/#/experiments" in result.output
    assert started[0][-6:] == ["--backend-store-uri", "sqlite:///mlflow.db", "--host", "127.0.0.1", "--port", "5999"]
    assert Path.cwd() == out / "runs", "so that no address has signs that mean something"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


MISPAIRED = "import vesselgan.data.listing as l; l._files = lambda folder: iter(sorted(folder.rglob('*.gz'), key={})); "
START = "from benchmark.cli import main; main()"


def on_a_file_system(order: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command on a file system that lists in this order, which no test can ask of the real one."""
    command = [sys.executable, "-c", MISPAIRED.format(order) + START, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


STRANGERS = "lambda path: int(path.name[5:8]) * (-1 if path.parent.name == 'labelsTr' else 1)"  # labels last to first


@pytest.fixture
def tiny_paper(tmp_path: Path) -> Path:
    """The protocol of the paper, whose profile `paper` is as small as `smoke`; its recipe is kept."""
    text = (ROOT / "protocols/paper.yaml").read_text()
    of_smoke = text.partition("  smoke:\n")[2].partition("\nmatrix:")[0].replace("    recipe: corrected\n", "")
    start = text.partition("    requires: {data: true}\n    recipe: paper_code\n")
    assert all(start)
    rest = start[2].partition("  laptop:\n")
    path = tmp_path / "tiny.yaml"
    path.write_text("".join([*start[:2], of_smoke.partition("\n")[2], "\n", *rest[1:]]))
    return path


def paired_labels(plan: str) -> list[str]:
    return [line.split()[2] for line in plan.splitlines() if " prepare-" in line]


def test_no_profile_pairs_scans_by_listing_unless_that_is_asked_for_by_name(
    scans: Path, tiny_paper: Path, tmp_path: Path
) -> None:
    """On whatever file system, the data of the paper's recipe are those of the corrected one."""
    arguments = ("run", tiny_paper, "--data", scans, "--dry-run", "-k", "real")
    found = {}
    for profile in ("paper", "smoke"):
        result = on_a_file_system(STRANGERS, *arguments, "--profile", profile, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        found[profile] = paired_labels(result.stdout)
    assert found["paper"] == found["smoke"] != []


def test_pairing_by_listing_is_refused_unless_the_pairs_come_out_right_or_the_user_insists(
    scans: Path, tmp_path: Path
) -> None:
    arguments = ("run", "deviations", "--profile", "smoke", "--data", scans, "--dry-run")
    wrong = on_a_file_system(STRANGERS, *arguments, "-k", "D6 and real", cwd=tmp_path)
    assert wrong.returncode == 2
    (line,) = wrong.stderr.splitlines()
    assert "gives 4 of 4 images here the label of another subject" in line
    assert "-k 'not D6'" in line
    assert "--pair-by-listing" in line
    assert on_a_file_system("None", *arguments, "-k", "D6 and real", cwd=tmp_path).returncode == 0
    insisted = on_a_file_system(STRANGERS, *arguments, "-k", "D6 and real", "--pair-by-listing", cwd=tmp_path)
    assert insisted.returncode == 0
    assert on_a_file_system(STRANGERS, *arguments, "-k", "not D6 and real", cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_real_scans_run_through_and_lack_intracranial_values(scans: Path, tmp_path: Path) -> None:
    result = benchmark(*SMOKE, "--data", scans, "-k", "real", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "reports/paper-smoke/results.json").read_text())
    assert "4 subjects given with --data" in results["data"]["description"]
    done = [cell for cell in results["cells"] if cell["status"] == "done"]
    assert [cell["label"] for cell in done] == ["real"]
    for cell in done:
        assert cell["metrics"]["dsc/all"]["value"] is not None
        assert cell["metrics"]["dsc/intracranial"]["value"] is None
        assert "brain mask" in cell["metrics"]["dsc/intracranial"]["reason"]
    page = (tmp_path / "reports/paper-smoke/index.html").read_text()
    assert "<code>GP_f16_s0</code> left out: no command asked for it (-k)" in page
    assert "still to come" not in page
    # The command of the page, in a shell and somewhere else, makes the same stages.
    (tmp_path / "again").mkdir()
    (tmp_path / "again/paper.yaml").write_text(results["reproduce"]["protocol"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    again = subprocess.run(
        ["sh", "-c", f"{results['reproduce']['command']} --dry-run --json"],
        cwd=tmp_path / "again",
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    planned = {
        cell["id"]: {role: stage["key"] for role, stage in cell["stages"].items()}
        for cell in json.loads(again.stdout)["cells"]
    }
    assert planned == {cell["id"]: cell["stages"] for cell in done}
