"""The README and the pages under docs/ are true: every command on them runs, in the smoke profile, or is marked."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_checkpoints import one_number, paper_generator
from paths import ROOT
from typer.testing import CliRunner

from benchmark.commands import app
from vesselgan.data import open_store, save_volume

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = "python -m benchmark "
MARK = "# not run"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[str]:
    """Those that are not marked, without their comments; what installs this package stands before an &&."""
    for line in "".join(blocks(page, "sh")).splitlines():
        if line.strip() and MARK not in line:
            yield line.partition("  #")[0].strip().removeprefix("pip install . && ")


def small(command: str) -> list[str]:
    """The same command with the smoke profile's names and sizes; what would train anew makes the baseline only."""
    words = re.findall(r'"[^"]*"|\S+', command.removeprefix(PROGRAM))
    words = [word.strip('"').replace("-laptop", "-smoke").replace("SN_f64", "SN_f16") for word in words]
    words = ["20" if before == "--count" else word for before, word in zip(["", *words], words, strict=False)]
    if words[0] in ("run", "plan"):
        if "--profile" in words:
            words[words.index("--profile") + 1] = "smoke"
        else:
            words += ["--profile", "smoke"]
        if "--data" in words or "--seeds" in words:
            words += ["-k", "real"]
        elif words[1] in ("utility", "deviations") and "-k" not in words:
            words += ["-k", "real_s0" if words[1] == "utility" else "real_corrected_s0"]
    if words[0] == "import":
        words += ["--patch", "32,32,16"]
    return words


@pytest.fixture(scope="module")
def folder(smoke_runs: Path, scans: Path, medicalnet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader may stand: finished runs, and the files that the pages name."""
    home = tmp_path_factory.mktemp("reader") / "here"
    shutil.copytree(smoke_runs, home)
    shutil.copytree(scans, home / "my-scans")
    (home / medicalnet_file.name).symlink_to(medicalnet_file)
    shutil.copy(scans / "imagesTr/case_000_0000.nii.gz", home / "scan.nii.gz")
    torch.save({"Generator_state_dict": one_number(paper_generator(16, (32, 32, 16)))}, home / "epoch_99.pth")
    rng = np.random.default_rng(0)
    for name in ("real-patches", "my-patches"):
        (home / name).mkdir()
        images, labels = rng.random((2, 32, 32, 32, 16), dtype=np.float32)
        np.savez(home / name / "patches.npz", images=images, labels=labels > 0.9)
    for name in ("truth", "my-masks", "brains"):
        save_volume(home / name / "case.nii.gz", rng.random((12, 12, 12)) > 0.5, np.eye(4))
    return home


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_page_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for command in commands(page):
        assert command.startswith(PROGRAM), f"{command}: mark it with {MARK}, or have it run here"
        result = CliRunner().invoke(app, small(command))
        assert result.exit_code == 0, (command, result.output, result.exception)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_outside_of_the_blocks_that_are_run(page: Path) -> None:
    text = re.sub(r"^```sh\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert PROGRAM not in text


def test_the_calls_of_the_library_run(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(ROOT / "docs/library.md", "python")
    exec(compile(code, "library.md", "exec"), {})
    printed = [float(line) for line in capsys.readouterr().out.split()]
    assert len(printed) == 3
    assert 0 <= printed[0] <= 1


def test_the_first_screen_of_the_readme_is_what_two_commands_one_picture_and_how_to_read() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Two commands", "How to read the result", "More"]
    assert text.count("![") == 1
    assert len(text.splitlines()) < 80
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text


def test_the_patches_of_a_run_are_those_that_its_scores_compare_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["patches", "paper-smoke", "--out", str(tmp_path / "test")])
    assert result.exit_code == 0, result.output
    # Commands of other pages have run here too, on other data.
    cell = json.loads((folder / "runs/paper-smoke/cells/real_s0.json").read_text())
    store = open_store(folder / "runs/stages" / cell["stages"]["data"] / "store")
    images, labels = store.cut_pairs(store.patches("test"), "volume")
    written = [np.load(tmp_path / "test" / key / "patches.npz") for key in store.keys("test")]
    np.testing.assert_array_equal(np.concatenate([file["images"] for file in written]), images)
    np.testing.assert_array_equal(np.concatenate([file["labels"] for file in written]), labels)
    again = CliRunner().invoke(app, ["patches", "paper-smoke", "--out", str(tmp_path / "test")])
    assert "holds files already" in str(again.exception)
