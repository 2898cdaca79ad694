"""Cells made of somebody else's pairs: in the protocol, in the plan, and through a whole run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.datasets.source import choose_source, find_externals
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from vesselgan.data import phantom_subjects
from vesselgan.errors import InputError
from vesselgan.qualification import cut_patches

PROTOCOL = """
protocol: outside
title: Somebody else's pairs
default_profile: smoke
profiles:
  smoke:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 2, validation: 1, test: 1}
    patch: [16, 16, 16]
    patches: {grid: [1, 1, 1], vessel: 15}
    steps: 3
    precision: {full: fp32, mixed: bf16}
    score: {extractor: random_resnet10, samples: 16}
    unet: {filters: [4, 8], batch: 4, steps: 4, validate_every: 2, learning_rate: 1.0e-2}
matrix: {variant: [SN], seed: [0, 1]}
include: [{external: pairs, label: theirs}]
metrics: {fid: {}, prd: {clusters: 4, runs: 2}}
claims:
  - theirs are as good as ours:  {less: [fid @ theirs, fid @ SN]}
"""


def write_protocol(folder: Path, text: str = PROTOCOL) -> Path:
    """The protocol, and beside it a folder of labelled patches."""
    (folder / "pairs").mkdir()
    made = cut_patches(
        phantom_subjects(2, (48, 48, 32), seed=9), (16, 16, 16), grid=(1, 1, 1), vessel=9, rng=np.random.default_rng(0)
    )
    np.savez(folder / "pairs/all.npz", images=1000 * made.images, labels=made.labels)
    path = folder / "outside.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_of(path: Path) -> Plan:
    protocol = load_protocol(path)
    profile = protocol.profiles["smoke"]
    externals = find_externals(protocol.include, path.parent)
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu", externals)


def stages_of_theirs(plan: Plan) -> dict[str, str]:
    (cell,) = [cell for cell in plan.cells if cell.cell.external]
    return dict(cell.stages)


def test_an_external_cell_stands_once_behind_the_matrix_and_trains_no_gan(tmp_path: Path) -> None:
    plan = plan_of(write_protocol(tmp_path))
    assert [cell.cell.id for cell in plan.cells][-1] == "theirs_s0"
    theirs = plan.cells[-1].cell
    assert (theirs.label, theirs.is_real, theirs.has_generator) == ("theirs", False, False)
    assert stages_of_theirs(plan).keys() == {
        *("data", "pairs", "reference", "score", "unet", "evaluate"),
        *("verify_score", "verify_unet"),
    }
    real, ours = ({cell.cell.label: cell for cell in plan.cells}[label].stages for label in ("real", "SN"))
    assert stages_of_theirs(plan)["reference"] == ours["reference"]
    assert stages_of_theirs(plan)["unet"] not in (real["unet"], ours["unet"])


def test_its_stages_depend_on_what_the_folder_holds_and_not_on_where_it_is(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (stages_of_theirs(plan_of(write_protocol(tmp_path / name))) for name in ("one", "two"))
    assert one == two
    with np.load(tmp_path / "two/pairs/all.npz") as arrays:
        np.savez(tmp_path / "two/pairs/all.npz", images=arrays["images"] + 1, labels=arrays["labels"])
    changed = stages_of_theirs(plan_of(tmp_path / "two/outside.yaml"))
    assert {role for role in one if one[role] != changed[role]} == {"pairs", "score", "unet", "evaluate"}
    text = PROTOCOL.replace("label: theirs", "label: theirs, intensities: [-1000, 1000]")
    (tmp_path / "one/outside.yaml").write_text(text)
    assert stages_of_theirs(plan_of(tmp_path / "one/outside.yaml"))["pairs"] != one["pairs"]
    (tmp_path / "one/outside.yaml").write_text(PROTOCOL.replace("label: theirs", "label: theirs, nan: 0"))
    assert stages_of_theirs(plan_of(tmp_path / "one/outside.yaml"))["pairs"] != one["pairs"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("external: pairs", "external: nowhere", "nowhere: no such folder; point to one with external: DIR"),
        ("label: theirs", "label: real", "'real' is another cell's label"),
        ("label: theirs", "label: SN", "'SN' is another cell's label"),
        ("label: theirs}", "lable: theirs}", "include.0.lable: unknown key, did you mean 'label'"),
        ("label: theirs", "label: theirs, intensities: [1, -1]", "the first must be the lower one"),
        ("label: theirs", "label: theirs, nan: .nan", "include.0.nan: "),
    ],
)
def test_a_wrong_include_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = write_protocol(tmp_path, PROTOCOL.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        plan_of(path)
    assert message in str(caught.value)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", "run", "protocols/outside.yaml", "-k", "real_s0 or theirs"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_somebody_elses_pairs_are_scored_train_a_unet_and_are_evaluated(tmp_path: Path) -> None:
    (tmp_path / "protocols").mkdir()
    write_protocol(tmp_path / "protocols", PROTOCOL.replace("label: theirs", "label: theirs, nan: -2000"))
    with np.load(tmp_path / "protocols/pairs/all.npz") as arrays:
        images, masks = arrays["images"], arrays["labels"]
    images[:, 0, 0, 0] = np.nan  # as of a background that was cut out
    np.savez(tmp_path / "protocols/pairs/all.npz", images=images, labels=masks)
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr + result.stdout
    results = json.loads((tmp_path / "reports/outside-smoke/results.json").read_text())
    cells: dict[str, Any] = {cell["id"]: cell for cell in results["cells"]}
    theirs = cells["theirs_s0"]
    assert (theirs["status"], theirs["external"], theirs["norm"]) == ("done", "theirs", None)
    for name in ("fid", "prd_auc", "label_radius", "memorised_share/images", "dsc/all", "bavd_mm/intracranial"):
        assert theirs["metrics"][name]["value"] is not None, name
    assert "step_time_ms" not in theirs["metrics"]
    unet = json.loads((tmp_path / "runs/stages" / theirs["stages"]["unet"] / "result.json").read_text())
    assert unet["values"]["training_samples"] == {"synthetic": 20}, "their pairs, not the 32 real patches"
    page = (tmp_path / "reports/outside-smoke/index.html").read_text()
    assert "Pairs that were made elsewhere stand beside them (theirs)." in " ".join(page.split())
    stored = np.load(next((tmp_path / "runs/stages").glob("import_pairs-*")) / "images.npy")
    assert stored.shape == (20, 16, 16, 16)
    assert (stored.min(), stored.max()) == (-32767, 32767)
    assert (stored[:, 0, 0, 0] == -32767).all()
    with np.load(tmp_path / "protocols/pairs/all.npz") as given:
        volumes = [label.sum() for label in given["labels"]]
    labels = np.load(next((tmp_path / "runs/stages").glob("import_pairs-*")) / "labels.npy")
    found = [label.sum() for label in labels]
    assert sorted(found) == sorted(volumes)
    assert found != volumes, "the first ones are a fair sample only if they are not the first of the folder"


def test_pairs_of_another_size_are_refused(tmp_path: Path) -> None:
    (tmp_path / "protocols").mkdir()
    write_protocol(tmp_path / "protocols")
    images = np.random.default_rng(0).random((12, 16, 16, 8))
    np.savez(tmp_path / "protocols/pairs/all.npz", images=images, labels=images > 0.9)
    result = run(tmp_path)
    assert result.returncode == 2
    assert "pairs: patches of (16, 16, 8), but this profile compares patches of (16, 16, 16)" in result.stderr
