"""What a person is told who slipped: one line that names what is wrong and what to do, and nothing written."""

import errno
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_checkpoints import one_number, paper_generator
from run_folders import make_run
from typer.main import get_command
from typer.testing import CliRunner

from benchmark.cli import main
from benchmark.commands import app
from benchmark.commands.options import report_folder
from benchmark.commands.seeds import keep_seeds, seeds_of, wanted_seeds
from benchmark.environment import choose_device
from benchmark.trained.segmenter import images_of
from vesselgan import VARIANTS, Critic, Generator, UNet
from vesselgan.errors import InputError
from vesselgan.files import atomic_path, write_text

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """The line of a refusal by the command line, in an empty folder that stays as it is."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        assert left.value.code == 2, output
        assert sorted(tmp_path.rglob("*")) == before
        (line,) = output.err.splitlines()
        return line

    return run


def test_a_wrong_option_is_told_in_one_line(refused: Refused) -> None:
    assert "No such option: --profil" in refused("run", "paper", "--profil", "smoke")
    assert "python -m benchmark run --help lists what there is" in refused("run")
    assert "--count" in refused("synthesise", "x", "--count", "many", "--out", "y")
    assert "No such command 'rum'" in refused("rum")


def test_layouts_and_spacings_are_of_scans(refused: Refused) -> None:
    assert "--layout nnunet" in (line := refused("run", "paper", "--profile", "smoke", "--layout", "nnunet"))
    assert "--data DIR" in line


def test_check_data_advises_no_option_that_it_does_not_have(refused: Refused, tmp_path: Path) -> None:
    assert "--data" not in (line := refused("check-data", "nothing"))
    assert "nothing: no such data folder" in line
    (tmp_path / "file.nii").touch()
    assert "file.nii: is a file" in refused("check-data", "file.nii")


def test_a_file_in_the_place_of_a_folder_is_called_one(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file: is a file, not a folder" in refused("evaluate", "--truth", "file", "--prediction", "file")


def test_a_patch_of_another_size_than_the_checkpoints_is_told_with_its_option(refused: Refused, tmp_path: Path) -> None:
    torch.save({"Generator_state_dict": one_number(paper_generator(16, (32, 32, 16)))}, tmp_path / "g.pth")
    assert "--patch X,Y,Z" in refused("import", "g.pth", "--out", "out")


def test_of_an_expression_the_wrong_word_is_named(refused: Refused) -> None:
    smoke = ("run", "paper", "--profile", "smoke", "-k")
    assert "'SNN' is in no cell, did you mean 'SN'?" in refused(*smoke, "real or SNN")
    assert "is empty" in refused(*smoke, "")
    assert "is empty" in refused(*smoke, "  ")


@pytest.mark.parametrize("option", ["--count", "--batch", "--workers"])
def test_a_number_below_one_is_told_by_its_own_option(option: str, refused: Refused) -> None:
    numbers = {"--count": "5"} | {option: "-5"}
    line = refused("synthesise", "x", "--out", "y", *[word for pair in numbers.items() for word in pair])
    assert line == f"error: {option} -5: give 1 or more"


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_text(tmp_path / "results.json", "x")
    assert caught.value.filename == str(tmp_path / "results.json")


def test_an_array_that_was_written_in_part_is_told_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "images.npy"):
        raise OSError("73728 requested and 40832 written")  # NumPy's words, without the system's number
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "images.npy"))


def test_memory_that_ran_out_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB\nfor an array")

    monkeypatch.setattr("benchmark.cli.load_metrics", greedy)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert told == "error: out of memory (Unable to allocate 9 TiB for an array): smaller batches need less\n"


def test_a_folder_of_scans_stands_for_its_scans(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "notes.txt", ".c.nii"):
        (tmp_path / name).touch()
    assert images_of([tmp_path, Path("d.nii")]) == [tmp_path / "a.nii.gz", tmp_path / "b.nii", Path("d.nii")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no scan \(\.nii\.gz, \.mha, \.\.\.\) in this folder"):
        images_of([tmp_path / "empty"])


def test_reports_of_other_folders_are_not_replaced(tmp_path: Path) -> None:
    folders = {"truth": tmp_path / "a/truth", "prediction": tmp_path / "a/masks"}
    folder = report_folder(tmp_path, "evaluate", folders, None)
    assert folder == tmp_path / "reports/evaluate-truth-masks"
    write_text(folder / "results.json", json.dumps({key: str(path) for key, path in folders.items()}))
    assert report_folder(tmp_path, "evaluate", folders, None) == folder, "the same again"
    others = folders | {"prediction": tmp_path / "b/masks"}
    with pytest.raises(InputError, match="give this one a name with --name"):
        report_folder(tmp_path, "evaluate", others, None)
    assert report_folder(tmp_path, "evaluate", others, "second") == tmp_path / "reports/second"
    with pytest.raises(InputError, match="without /"):
        report_folder(tmp_path, "evaluate", others, "../second")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("0,2,7", [0, 2, 7]), ("1, 3-4", [1, 3, 4]), ("+3", [0, 1, 2, 3, 4])]
)
def test_seeds_are_a_range_a_list_or_so_many_more(text: str, seeds: list[int]) -> None:
    assert seeds_of(text, [0, 1]) == seeds


@pytest.mark.parametrize("text", ["", "+0", "-1", "4-0", "0-5000", "a", "+x", "1,,2"])
def test_what_is_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"give a range \(0-4\), a list"):
        seeds_of(text, [0])


def test_more_seeds_are_more_than_the_run_has_and_a_stopped_run_goes_on_with_the_same(tmp_path: Path) -> None:
    assert wanted_seeds("+2", [0, 1], tmp_path, "r-p") == ([0, 1, 2, 3], [0, 1])
    make_run(tmp_path, {"SN_f16_s0": {"gan": "stopped"}})
    keep_seeds(tmp_path, "r-p", "+2", [0, 1], [0, 1, 2, 3])
    assert wanted_seeds("+2", [0, 1], tmp_path, "r-p")[0] == [0, 1, 2, 3], "stopped: its stage is not done"
    assert wanted_seeds("+1", [0, 1], tmp_path, "r-p")[0] == [0, 1, 2, 3, 4]
    make_run(tmp_path, {"SN_f16_s0": {"gan": {"steps": 1}}})
    assert wanted_seeds("+2", [0, 1], tmp_path, "r-p")[0] == [0, 1, 2, 3, 4, 5], "done: two more again"
    (tmp_path / "runs/r-p/run.json").write_text("{")
    assert wanted_seeds("+2", [0, 1], tmp_path, "r-p")[0] == [0, 1, 2, 3], "damaged: the same run mends it"


def test_the_seeds_of_a_run_can_be_chosen(tmp_path: Path) -> None:
    arguments = [
        "run",
        "paper",
        "--profile",
        "smoke",
        "--seeds",
        "0,2",
        "-k",
        "real",
        "--dry-run",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert {word for word in result.output.split() if word.startswith("real_")} == {"real_s0", "real_s2"}


def test_one_of_several_gpus_is_the_only_one_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for before, name, seen in (("", "cuda:1", "1"), ("4,6", "cuda:1", "6"), ("GPU-ab", "cuda:0", "GPU-ab")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        assert choose_device(name) == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with pytest.raises(InputError, match="lets 1 GPUs be seen"):
        choose_device("cuda:1")
    with pytest.raises(InputError, match="such as cuda:1"):
        choose_device("gpu")


def test_the_cells_of_a_protocol_are_there_for_programs() -> None:
    listed = json.loads(CliRunner().invoke(app, ["ls", "paper", "--json"]).stdout)
    assert listed["profile"] == "laptop"
    assert "c-SN-MP_f128_s1" in [cell["id"] for cell in listed["cells"]]
    assert len(listed["claims"]) == 15


def test_an_unknown_variant_is_told_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="unknown variant 'SNMP', did you mean 'SN-MP'\\?") as caught:
        VARIANTS["SNMP"]
    assert isinstance(caught.value, InputError)
    assert VARIANTS.get("SNMP") is None
    assert "SNMP" not in VARIANTS


def test_networks_say_what_they_take() -> None:
    size = (32, 32, 16)
    generator, critic, unet = Generator(size, 16), Critic(size, 16), UNet(filters=(4, 8))
    for network, shape, wanted in (
        (generator, (2, 64), r"\(B, 128\)"),
        (generator, (128,), r"\(B, 128\)"),
        (critic, (2, 1, *size), r"\(B, 2, 32, 32, 16\)"),
        (critic, (2, 2, 32, 32, 32), r"\(B, 2, 32, 32, 16\)"),
        (critic, (2, *size), r"\(B, 2, 32, 32, 16\)"),
        (unet, (1, 2, *size), r"\(B, 1, X, Y, Z\)"),
        (unet, size, r"\(B, 1, X, Y, Z\)"),
    ):
        with pytest.raises(InputError, match=wanted):
            network(torch.zeros(shape))
    assert critic(generator(torch.zeros(2, 128))).shape == (2,)
    assert critic(generator(torch.zeros(2, 128, 1, 1, 1))).shape == (2,)
    assert np.isfinite(unet.eval()(torch.zeros(1, 1, *size)).detach().numpy()).all()


def test_help_shows_the_brackets_of_its_texts() -> None:
    """Typer takes them for markup, and what is no markup vanishes: `pip install 'name[extra]'` lost its extra."""
    seen = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        texts = [command.help or "", *(getattr(param, "help", None) or "" for param in command.params)]
        bracketed = [each for text in texts for each in re.findall(r"\[[^\]]*\]", text.replace("\\[", "["))]
        if bracketed:
            shown = CliRunner().invoke(app, [name, "--help"]).output
            assert all(each in shown for each in bracketed), (name, bracketed)
            seen += bracketed
    assert "[frd]" in seen
