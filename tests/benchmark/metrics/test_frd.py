"""The Fréchet Radiomics Distance as a metric of `score` and of protocols: of features that it brings itself."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.metrics.frd import RadiomicsOptions
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import write_run_folder
from benchmark.scoring.own_features import OwnRows, own_metrics
from benchmark.scoring.patch_folders import Also, compare_folders
from vesselgan.data import save_volume
from vesselgan.errors import InputError
from vesselgan.features import random_resnet10
from vesselgan.metrics import frechet_radiomics_distance
from vesselgan.radiomics import RadiomicsFeatures

SUBJECTS, PER_SUBJECT, SHAPE = 8, 3, (8, 8, 8)
SPACING = (2.0, 2.0, 2.0)
Stack = NDArray[np.float32]


def patches(seed: int, roughness: float) -> Stack:
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(size=(SUBJECTS * PER_SUBJECT, *SHAPE)), axis=1)
    return np.asarray(smooth + roughness * rng.normal(size=smooth.shape), np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    subjects = np.repeat([f"s{number}" for number in range(SUBJECTS)], PER_SUBJECT)
    for name, stack in (("real", patches(0, 0.0)), ("generated", patches(1, 2.0))):
        (root / name).mkdir()
        np.savez(root / name / "all.npz", images=stack, subjects=subjects)
    return root


def scored(folders: Path, *more: str, out: Path) -> Any:
    given = ["--real", str(folders / "real"), "--generated", str(folders / "generated"), "--out", str(out), *more]
    return CliRunner().invoke(app, ["score", *given, "--json"])


def test_score_gives_it_with_interval_floor_and_its_own_facts(folders: Path, tmp_path: Path) -> None:
    done = scored(folders, "--frd", "--spacing", "2,2,2", out=tmp_path)
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    features = {name: RadiomicsFeatures(SPACING)([patches(*which)]) for name, which in
                (("real", (0, 0.0)), ("generated", (1, 2.0)))}  # fmt: skip
    entry = results["metrics"]["frd"]
    # Each folder has a range of its own, which matters to three of the features.
    assert entry["value"] == pytest.approx(frechet_radiomics_distance(**features), abs=0.3)
    assert entry["ci_low"] < entry["value"] < entry["ci_high"]
    assert (entry["n"], entry["extractor"]) == (24, "radiomics_v1")
    assert results["metrics"]["fid"]["extractor"] == "random_resnet10"
    assert results["floor"]["metrics"]["frd"] < entry["value"]
    page = (tmp_path / "reports" / "score-real-generated" / "index.html").read_text()
    assert "FRD" in page


def test_score_is_as_it_was_without_it(folders: Path, tmp_path: Path) -> None:
    results = json.loads(scored(folders, out=tmp_path).stdout)
    assert "frd" not in results["metrics"]
    assert "frd" not in results["floor"]["metrics"]


def test_score_needs_the_size_of_a_voxel_only_for_it(folders: Path, tmp_path: Path) -> None:
    asked = scored(folders, "--frd", out=tmp_path)
    assert isinstance(asked.exception, InputError)
    assert str(asked.exception).startswith(f"{folders / 'real'}: its files do not say")
    unasked = scored(folders, "--spacing", "2,2,2", out=tmp_path)
    assert isinstance(unasked.exception, InputError)
    assert str(unasked.exception).startswith("--spacing: only --frd needs the size of a voxel")


def test_scans_say_how_large_their_voxels_are(folders: Path, tmp_path: Path) -> None:
    for name, which in (("real", (0, 0.0)), ("generated", (1, 2.0))):
        for row, patch in enumerate(patches(*which)):
            folder = tmp_path / name / f"s{row // PER_SUBJECT}"
            folder.mkdir(parents=True, exist_ok=True)
            save_volume(folder / f"p{row:02d}.nii.gz", patch, np.diag([*SPACING, 1.0]))
    found = [
        compare_folders(root / "real", root / "generated", None, random_resnet10(), lambda *_: None, also=also).results
        for root, also in ((tmp_path, Also(("frd",))), (folders, Also(("frd",), SPACING)))
    ]
    assert found[0]["metrics"]["frd"]["value"] == pytest.approx(found[1]["metrics"]["frd"]["value"], rel=1e-6)


def test_patches_without_features_are_left_out_and_counted() -> None:
    spoilt = patches(1, 2.0)
    spoilt[5] = 1.0
    (metric,) = own_metrics({"frd": {"samples": 24}})
    real, generated = (
        metric.extract(np.arange(24), lambda rows, of=of: iter([of[rows]]), SPACING) for of in (patches(0, 0.0), spoilt)
    )
    assert generated.rows.tolist() == [row for row in range(24) if row != 5]
    found = metric.distances(real, generated, subjects=None, seed=0)
    assert "frd: 1 of 24 generated patches have no features" in found.warnings
    assert np.isfinite(found.metrics["frd"])
    few = OwnRows(generated.features[:9], generated.rows[:9], 15)
    assert metric.distances(real, few, subjects=None, seed=0).metrics == {}


def test_patches_that_are_too_thin_are_refused_in_one_line(folders: Path) -> None:
    with pytest.raises(InputError, match=r"^metric frd: volume of 4 x 4 x 4 mm: radiomics features need more than 6"):
        compare_folders(
            folders / "real",
            folders / "generated",
            None,
            random_resnet10(),
            lambda *_: None,
            also=Also(("frd",), (0.5, 0.5, 0.5)),
        )


PROTOCOL = """
protocol: tiny
title: FRD
default_profile: one
profiles:
  one:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 3, validation: 1, test: 10}
    patch: [16, 16, 16]
    patches: {grid: [1, 1, 1], vessel: 7}
    filters: 16
    batch: 4
    steps: 2
    precision: {full: fp32, mixed: bf16}
    pairs: 24
    score: {extractor: random_resnet10, samples: 24}
    unet: {filters: [4, 8], batch: 4, steps: 2, validate_every: 2}
    inference: {overlap: 0, batch: 8}
    baselines: [threshold]
matrix: {variant: [SN], seed: [0]}
metrics: {frd: {samples: 20}, kid: {}}
"""
SCORING = ("prepare", "verify", "train_gan", "synthesise", "reference", "score")


def planned(folder: Path, text: str = PROTOCOL) -> Plan:
    (folder / "tiny.yaml").write_text(text)
    protocol = load_protocol(folder / "tiny.yaml")
    profile = protocol.profiles["one"]
    source = choose_source("one", profile, None)
    return build_plan(protocol, "one", profile, cells_of(protocol, profile), source, "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan, Store]:
    folder = tmp_path_factory.mktemp("run")
    plan, store = planned(folder), Store(folder / "runs")
    write_run_folder(plan, store, folder, PROTOCOL)
    for key, spec in plan.specs.items():
        if spec.stage == "verify":
            store.finish(key, {"operations": 1, "faults": []}, {"seconds": 0.0})
        elif spec.stage in SCORING:
            run_stage(store, key)
    return folder, plan, store


@pytest.mark.slow
def test_a_protocol_that_asks_for_it_has_value_interval_floor_and_facts(run: tuple[Path, Plan, Store]) -> None:
    folder, _, _ = run
    results = results_of(load_run(folder, "tiny-one"))
    (cell,) = (cell for cell in results["cells"] if cell["label"] == "SN")
    entry = cell["metrics"]["frd"]
    assert entry["ci_low"] < entry["value"] < entry["ci_high"]
    assert (entry["n"], entry["extractor"]) == (20, "radiomics_v1")
    assert (cell["metrics"]["kid"]["n"], cell["metrics"]["kid"]["extractor"]) == (24, "random_resnet10")
    floor = results["floor"]
    assert floor["metrics"]["frd"] < entry["value"], "two steps of training make no vessels"
    assert floor["sd"]["frd"] > 0


@pytest.mark.slow
def test_stages_need_its_options_and_nothing_else_changes(tmp_path: Path, run: tuple[Path, Plan, Store]) -> None:
    _, plan, _ = run
    (cell,) = (cell for cell in plan.cells if cell.cell.label == "SN")
    plain = planned(tmp_path, PROTOCOL.replace("frd: {samples: 20}, ", ""))
    (other,) = (cell for cell in plain.cells if cell.cell.label == "SN")
    assert {role for role in cell.stages if cell.stages[role] != other.stages[role]} == {"reference", "score"}
    assert "frd" not in json.dumps([plain.specs[key].options for key in other.stages.values()])


def test_a_missing_library_is_told_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"^metric frd: .* SimpleITK, .*pip install 'vesselgan-benchmark\[frd\]'$"):
        planned(tmp_path)


def test_fewer_samples_than_a_distance_needs_are_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        RadiomicsOptions(samples=5)
