"""`synthesise`: which generator is meant, what the datasheet says, and a command that is killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmark.artifacts.pairs import INT16_SCALE
from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.plan import Findings, Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import findings, write_run_folder
from benchmark.scoring.given_folders import opened
from vesselgan import Generator
from vesselgan.data import open_store
from vesselgan.errors import InputError

PROTOCOL = """
protocol: tiny
title: Generators to export
default_profile: smoke
profiles:
  smoke:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 2, validation: 1, test: 1}
    patch: [16, 16, 16]
    patches: {grid: [1, 1, 1], vessel: 15}
    filters: 16
    batch: 4
    steps: 3
    pairs: 24
    precision: {full: fp32, mixed: bf16}
    score: {extractor: random_resnet10, samples: 16}
    unet: {filters: [4, 8], batch: 4, steps: 4, validate_every: 2, learning_rate: 1.0e-2}
matrix: {variant: [SN], seed: [0, 1, 2]}
metrics: {fid: {}}
"""


SCORED = ("data", "verify_gan", "gan", "pairs", "verify_score", "reference", "score")


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush waits for all that the machine is writing, which is nothing of these tests."""
    monkeypatch.setattr("os.sync", lambda: None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two trained generators, the first of which is scored, and a third that is not trained."""
    folder = tmp_path_factory.mktemp("home")
    run_cells(folder, PROTOCOL, {"SN_f16_s0": SCORED, "SN_f16_s1": ("gan",)})
    return folder


def run_cells(folder: Path, text: str, wanted: dict[str, tuple[str, ...]]) -> None:
    """Some stages of some cells of a protocol."""
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    protocol = load_protocol(path)
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, None)
    store = Store(folder / "runs")

    def planned(found: Findings) -> Plan:
        cells = cells_of(protocol, profile)
        plan = build_plan(protocol, "smoke", profile, cells, source, "cpu", findings=found)
        write_run_folder(plan, store, folder, text)
        return plan

    # The checks first: what they find of this machine's kernels is in the keys of the others.
    first = planned({})
    for key, spec in first.specs.items():
        if spec.stage == "verify":
            run_stage(store, key)
    stages = {cell.cell.id: cell.stages for cell in planned(findings(first, store)).cells}
    for cell, roles in wanted.items():
        for role in roles:
            if not store.done(stages[cell][role]):
                run_stage(store, stages[cell][role])


def stage_of(home: Path, role: str, cell: str = "SN_f16_s0") -> Path:
    record = json.loads((home / f"runs/tiny-smoke/cells/{cell}.json").read_text())
    return home / "runs/stages" / str(record["stages"][role])


def synthesise(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["synthesise", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.output


def of_run(home: Path, out: Path, *more: object, cell: str = "SN_f16_s0", count: int = 20) -> dict[str, Any]:
    synthesise("tiny-smoke", "--runs", home / "runs", "--cell", cell, "--count", count, "--out", out, *more)
    return sheet_in(out)


def sheet_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "datasheet.json").read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is written -------------------------------------------------------------------------------------------------


def test_the_pairs_of_a_run_are_those_that_it_scored(home: Path, tmp_path: Path) -> None:
    """The same seed, batch and recipe: what the datasheet says of quality is about the very pairs."""
    sheet = of_run(home, tmp_path / "set", "--format", "npz")
    shards = [np.load(path) for path in sorted((tmp_path / "set").glob("*.npz"))]
    images, labels = (np.concatenate([shard[name] for shard in shards]) for name in ("images", "labels"))
    scored = np.load(stage_of(home, "pairs") / "images.npy")[:20] / INT16_SCALE
    black, white = sheet["intensities"]["black"], sheet["intensities"]["white"]
    np.testing.assert_allclose(images, black + (scored + 1) / 2 * (white - black), atol=0.51)
    np.testing.assert_array_equal(labels, np.load(stage_of(home, "pairs") / "labels.npy")[:20])
    assert sheet["metrics_of"] == "the first 16 pairs of this seed and batch"
    other = of_run(home, tmp_path / "other", "--seed", 5)
    assert other["metrics_of"].startswith("the first 16 other pairs")


def test_a_generator_of_another_family_is_put_to_use_as_well(tmp_path: Path) -> None:
    section = "autoregressive: {steps: 3, filters: 8, batch: 8}\n    pairs: 24"
    text = PROTOCOL.replace("pairs: 24", section).replace("variant: [SN], seed: [0, 1, 2]", "variant: [AR], seed: [0]")
    run_cells(tmp_path, text, {"AR_f8_s0": SCORED})
    sheet = of_run(tmp_path, tmp_path / "set", "--format", "npz", cell="AR_f8_s0")
    (shard,) = (np.load(path) for path in (tmp_path / "set").glob("*.npz"))
    made = np.load(stage_of(tmp_path, "pairs", "AR_f8_s0") / "labels.npy")
    np.testing.assert_array_equal(shard["labels"], made[:20])
    generator = sheet["generator"]
    assert (generator["kind"], generator["filters"]) == ("autoregressive generator", 8)
    assert {"lr": 6e-3, "steps": 3, "pairs_seen": 24, "anywhere": 0.02}.items() <= generator["training"].items()
    assert sheet["generation"]["recipe"] == {}
    assert "Reed et al. 2017" in sheet["reference"]
    assert sheet["memorisation"].keys() == {"features", "images"}
    text = (tmp_path / "set/datasheet.md").read_text()
    assert "cut anew for every step. The audit compares with other patches" in text
    assert "BatchNorm" not in text
    assert "\n\n\n" not in text
    synthesise(stage_of(tmp_path, "gan", "AR_f8_s0"), "--count", 4, "--out", tmp_path / "alone")
    assert sheet_in(tmp_path / "alone")["generator"]["sha256"] == generator["sha256"]


def test_spacing_and_intensities_are_the_training_subjects_own(home: Path, tmp_path: Path) -> None:
    sheet = of_run(home, tmp_path)
    train = [one for one in open_store(stage_of(home, "data") / "store").subjects if one.split == "train"]
    np.testing.assert_allclose(sheet["spacing_mm"], np.median([one.spacing_mm for one in train], axis=0), atol=1e-6)
    ranges = np.median([one.intensity_range for one in train], axis=0)
    assert [sheet["intensities"]["black"], sheet["intensities"]["white"]] == ranges.tolist()
    image = nib.load(tmp_path / "imagesTr/syn_00001_0000.nii.gz")
    assert image.header.get_zooms() == pytest.approx(sheet["spacing_mm"])
    assert image.header["descrip"].item().startswith(b"synthetic")
    given = of_run(home, tmp_path / "given", "--spacing", "1,2,3", "--intensities", "0,1", "--count", 2)
    assert (given["spacing_mm"], given["spacing_from"]) == ([1, 2, 3], "given")
    assert given["intensities"] == {"black": 0, "white": 1, "dtype": "float32", "from": "given"}


def test_the_datasheet_holds_training_metrics_audit_privacy_and_licence(home: Path, tmp_path: Path) -> None:
    sheet = of_run(home, tmp_path, "--licence", "CC BY 4.0")
    score = json.loads((stage_of(home, "score") / "result.json").read_text())["values"]
    assert sheet["metrics"]["fid"]["value"] == score["metrics"]["fid"]
    assert sheet["memorisation"] == score["memorisation"]
    assert sheet["generator"]["training"]["steps"] == 3
    assert sheet["generator"]["cell"] == "SN_f16_s0"
    assert sheet["training_data"]["subjects"]["train"] == 2
    assert sheet["privacy"] is None
    text = (tmp_path / "datasheet.md").read_text()
    for told in ("of nobody", "no patient data", "FID", "In image space", "no guarantee of privacy", "CC BY 4.0"):
        assert told in text
    assert "\n\n\n" not in text
    for name in ("dataset.json", "datasheet.json"):
        assert json.loads((tmp_path / name).read_text())["licence"] == "CC BY 4.0"
    assert "None is given" in sheet_text(home, tmp_path / "unlicensed")


def sheet_text(home: Path, out: Path) -> str:
    of_run(home, out, cell="SN_f16_s1", count=1)
    return (out / "datasheet.md").read_text()


def test_a_generator_that_was_not_scored_says_so(home: Path, tmp_path: Path) -> None:
    text = sheet_text(home, tmp_path)
    assert "Not measured." in text
    assert "Not audited." in text
    assert sheet_in(tmp_path)["metrics"] is None


@pytest.mark.parametrize("name", ["nnunet", "bids", "npz"])
def test_score_reads_what_is_written(home: Path, tmp_path: Path, name: str) -> None:
    of_run(home, tmp_path / "set", "--format", name, count=12)
    folder = opened({"--real": tmp_path / "set", "--generated": tmp_path / "set"}, lambda *_: None)["--generated"]
    of_run(home, tmp_path / "npz", "--format", "npz", count=12)
    plain = opened({"--real": tmp_path / "npz"}, lambda *_: None)["--real"]
    (batch,), (expected,) = folder.batches(12), plain.batches(12)
    np.testing.assert_allclose(batch.images, expected.images, atol=2e-3)
    assert batch.labels is not None
    assert expected.labels is not None
    np.testing.assert_array_equal(batch.labels, expected.labels)


@pytest.mark.parametrize("name", ["nnunet", "bids", "npz"])
def test_the_number_of_workers_changes_nothing(home: Path, tmp_path: Path, name: str) -> None:
    for workers in (1, 3):
        of_run(home, tmp_path / str(workers), "--format", name, "--workers", workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


# Which generator -------------------------------------------------------------------------------------------------


def test_a_folder_of_a_training_is_known_to_its_run(home: Path, tmp_path: Path) -> None:
    synthesise(stage_of(home, "gan"), "--count", 4, "--out", tmp_path / "by-stage")
    of_run(home, tmp_path / "by-run", count=4)
    assert contents(tmp_path / "by-stage") == contents(tmp_path / "by-run")


def test_a_folder_of_a_training_by_itself_needs_a_voxel_size(home: Path, tmp_path: Path) -> None:
    alone = tmp_path / stage_of(home, "gan").name
    shutil.copytree(stage_of(home, "gan"), alone)
    with pytest.raises(InputError, match="--spacing X,Y,Z in mm"):
        synthesise(alone, "--count", 4, "--out", tmp_path / "set")
    synthesise(alone, "--count", 4, "--out", tmp_path / "set", "--spacing", "1,1,1")
    sheet = sheet_in(tmp_path / "set")
    assert sheet["intensities"] == {"black": 0, "white": 1000, "dtype": "int16", "from": "arbitrary"}
    assert sheet["generation"]["recipe"] == {"generation_statistics": "running", "label_threshold": 0.0}
    assert "Not known here." in (tmp_path / "set/datasheet.md").read_text()


def test_a_checkpoint_of_the_papers_code_generates_as_that_code_does(tmp_path: Path) -> None:
    """As a file and as `import` leaves it: the same patches, with batch statistics (D7) and its threshold (D8)."""
    places = {"linear": "linear1.0", "norm": "batch1.0", "output": "layer5"}
    for block in range(3):
        places |= {f"blocks.{block}.{part}": f"layer{block + 2}.{part + 1}" for part in range(2)}
    state = Generator((16, 16, 16), filters=16).state_dict()
    theirs = {
        f"{new}.{name.removeprefix(f'{ours}.')}": value
        for name, value in state.items()
        for ours, new in places.items()
        if name.startswith(f"{ours}.")
    }
    assert len(theirs) == len(state)
    torch.save({"Generator_state_dict": theirs}, tmp_path / "epoch_1.pth")
    imports = ("import", tmp_path / "epoch_1.pth", "--out", tmp_path / "gan", "--patch", "16,16,16")
    assert CliRunner().invoke(app, [*map(str, imports)]).exit_code == 0
    common = ("--count", 4, "--spacing", "1,1,1", "--out")
    synthesise(tmp_path / "epoch_1.pth", "--patch", "16,16,16", *common, tmp_path / "one")
    synthesise(tmp_path / "gan", *common, tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    voxels = [name for name in one if name.endswith(".nii.gz")]
    assert len(voxels) == 8
    for name in voxels:
        image, other = (nib.load(tmp_path / which / name).get_fdata() for which in ("one", "two"))
        np.testing.assert_array_equal(image, other)
    sheet = sheet_in(tmp_path / "two")
    assert sheet["generation"]["recipe"] == {"generation_statistics": "batch", "label_threshold": 0.4}
    assert sheet["generator"]["source"]["file"] == "epoch_1.pth"
    assert "how, is not known here" in two["datasheet.md"].decode()


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tiny-smoke",), r"2 generators; choose one with --cell: SN_f16_s0, SN_f16_s1"),
        (("tiny-smoke", "--cell", "SN_f16_s2"), r"not finished: run the protocol again"),
        (("tiny-smoke", "--cell", "SN_f16_s9"), r"no such generator, did you mean 'SN_f16_s"),
        (("no-such",), r"no-such: neither a generator's file, a folder, nor a run of .*runs \(tiny-smoke; --runs"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--count", 0), r"--count 0: give 1 or more"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--batch", 0), r"--batch 0: give 1 or more"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--seed", -1), r"--seed -1: give 0 or more"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--spacing", "1,1"), r"--spacing '1,1': give 3 numbers"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--spacing", "1,1,0"), r"--spacing '1,1,0': give three sizes in mm"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--intensities", "5,1"), r"black below white"),
        (("tiny-smoke", "--cell", "SN_f16_s0", "--recipe", "corrected"), r"this generator's run has one"),
    ],
)
def test_bad_arguments_are_told_in_one_line_and_write_nothing(
    home: Path, tmp_path: Path, arguments: tuple[object, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        synthesise("--runs", home / "runs", "--count", 3, "--out", tmp_path / "new", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_unfinished_and_damaged_generators_are_refused(home: Path, tmp_path: Path) -> None:
    out = ("--count", 1, "--out", tmp_path / "new", "--spacing", "1,1,1")
    with pytest.raises(InputError, match="no finished generator"):
        synthesise(stage_of(home, "gan", "SN_f16_s2"), *out)
    with pytest.raises(InputError, match="a prepare stage, which has no generator"):
        synthesise(stage_of(home, "data"), *out)
    with pytest.raises(InputError, match="no generator there"):
        synthesise(tmp_path, *out)
    copy = tmp_path / stage_of(home, "gan").name
    shutil.copytree(stage_of(home, "gan"), copy)
    weights = bytearray((copy / "generator.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "generator.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="is damaged"):
        synthesise(copy, *out)
    (copy / "spec.json").unlink()
    (copy / "generator.safetensors").write_bytes(weights[:100])
    with pytest.raises(InputError, match="cannot be read") as caught:
        synthesise(copy, *out)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_another_seed_or_format_in_the_same_folder_is_refused(home: Path, tmp_path: Path) -> None:
    of_run(home, tmp_path, count=2)
    for more, told in ((("--seed", 9), "generation.seed is 0 there, not 9"), (("--format", "bids"), "layout is")):
        with pytest.raises(InputError, match=told):
            of_run(home, tmp_path, *more, count=2)
    with pytest.raises(InputError, match=r"generator\.name is"):
        of_run(home, tmp_path, "--seed", 0, cell="SN_f16_s1", count=2)
    assert "all were there already" in synthesise(
        "tiny-smoke", "--runs", home / "runs", "--cell", "SN_f16_s0", "--count", 2, "--out", tmp_path
    )


# A command that is killed ----------------------------------------------------------------------------------------


def test_a_killed_command_ends_in_the_bytes_of_an_uninterrupted_one(home: Path, tmp_path: Path) -> None:
    count, killed = 1500, tmp_path / "killed"
    arguments = ["tiny-smoke", "--runs", home / "runs", "--cell", "SN_f16_s0", "--count", count, "--out", killed]
    command = [sys.executable, "-m", "benchmark", "synthesise", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        journal, end = killed / "UNFINISHED/SHA256SUMS", time.monotonic() + 120
        while not (journal.is_file() and journal.stat().st_size > 5000):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "dataset.json").exists()
    assert not (killed / "SHA256SUMS").exists()
    output = synthesise(*arguments)
    written = re.search(r"\((\d+) written now", output)
    assert written
    assert 0 < int(written[1]) < count
    of_run(home, tmp_path / "whole", count=count)
    assert contents(killed) == contents(tmp_path / "whole")
