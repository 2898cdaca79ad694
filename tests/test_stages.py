"""Stages one by one on a tiny phantom: what they write, and that each deviation they read makes its difference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmark.scoring import compare_features
from benchmark.stages import STAGES, Context
from benchmark.stages.context import step_record
from benchmark.stages.evaluation import _rows, _scaled
from benchmark.stages.gan import real_pairs
from benchmark.stages.pairs import INT16_SCALE
from benchmark.stages.segmentation import _real_batch, _synthetic_batch
from vesselgan.data import StoredSubject, VolumeStore, open_store
from vesselgan.recipe import CORRECTED, PAPER_CODE, Recipe

SPLIT = {"train": ["phantom-000", "phantom-001"], "validation": ["phantom-002"], "test": ["phantom-003"]}


def run(
    folder: Path, stage: str, options: dict[str, Any], inputs: dict[str, Path] | None = None, **where: str
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    runtime = {"device": "cpu", "threads": 1}
    context = Context(options, inputs or {}, runtime, where, folder, lambda done, total, what: None)
    values = dict(STAGES[stage].run(context))
    json.dumps(values, allow_nan=False)  # strict JSON
    return values


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare")
    options = {
        "source": {"phantom": {"shape": [48, 48, 32], "spacing_mm": None, "seed": 0, "subjects": 4}},
        "split": SPLIT,
        "patch": [32, 32, 16],
        "patches": {"grid": [1, 1, 2], "vessel": 6},
        "seed": 0,
    }
    values = run(folder, "prepare", options)
    assert values["subjects"] == {"train": 2, "validation": 1, "test": 1}
    assert values["patches"] == {"train": 16, "validation": 8, "test": 8}
    assert values["with_brain_mask"] == 4
    return folder


@pytest.fixture(scope="module")
def store(prepared: Path) -> VolumeStore:
    return open_store(prepared / "store")


def test_d8_sets_the_value_of_background_in_the_label_channel(store: VolumeStore) -> None:
    indices = store.patches("train")[-2:]
    for recipe, low in ((PAPER_CODE, 0.0), (CORRECTED, -1.0)):
        labels = real_pairs(store, indices, recipe)[:, 1]
        assert labels.unique().tolist() == [low, 1.0]


def test_d8_scales_each_patch_by_itself_or_all_of_a_volume_alike(store: VolumeStore) -> None:
    indices = store.patches("train")
    per_patch = real_pairs(store, indices, PAPER_CODE)[:, 0]
    assert per_patch.amax(dim=(1, 2, 3)).eq(1).all()
    per_volume = real_pairs(store, indices, CORRECTED)[:, 0]
    assert per_volume.amax(dim=(1, 2, 3)).unique().numel() > 1
    assert per_volume.abs().max() <= 1


def test_d8_gives_a_unet_other_scales_for_synthetic_and_real_data_only_in_the_papers_code(store: VolumeStore) -> None:
    synthetic = (np.random.default_rng(0).uniform(-0.5, 0.5, (2, 32, 32, 16)) * INT16_SCALE).astype(np.int16)
    labels = np.zeros(synthetic.shape, np.bool_)
    stretched, _ = _synthetic_batch(synthetic, labels, PAPER_CODE)
    assert (float(stretched.min()), float(stretched.max())) == (0.0, 255.0)
    kept, _ = _synthetic_batch(synthetic, labels, CORRECTED)
    np.testing.assert_allclose(kept[:, 0].numpy(), synthetic / INT16_SCALE, atol=1e-6)
    index = store.patches("train")[:1]
    subject, *corner = store.patch_table[index[0]]
    volume = store.image(store.subjects[subject].key)
    raw, _ = _real_batch(store, index, PAPER_CODE)
    place = tuple(slice(max(0, start), start + size) for start, size in zip(corner, (32, 32, 16), strict=True))
    assert float(raw.max()) == volume[place].max() > 1
    assert float(_real_batch(store, index, CORRECTED)[0].abs().max()) <= 1


def test_test_volumes_have_the_scale_of_real_training_patches(store: VolumeStore) -> None:
    subject = store.subject("phantom-003")
    np.testing.assert_array_equal(_scaled(store, subject, "patch"), store.image("phantom-003"))
    scaled = _scaled(store, subject, "volume")
    assert (scaled.min(), scaled.max()) == (-1, 1)


def test_d5_swaps_precision_and_recall() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 4)) + 10 * rng.integers(0, 4, (200, 1))
    generated = rng.normal(size=(200, 4))  # one of four modes: precise, but it recalls little
    wanted = {"prd": {"clusters": 5, "runs": 3}}
    subjects = np.arange(200) // 10
    named_all, swapped_all = (
        compare_features(real, generated, wanted, real_subjects=subjects, seed=0, swap_prd=swap)
        for swap in (False, True)
    )
    named, swapped = named_all.metrics, swapped_all.metrics
    assert swapped_all.intervals["prd_f8"] == named_all.intervals["prd_f1_8"]
    assert swapped_all.sd_kmeans["prd_f1_8"] == named_all.sd_kmeans["prd_f8"]
    np.testing.assert_array_equal(swapped_all.curves["recall"], named_all.curves["precision"])
    assert named["prd_f1_8"] > named["prd_f8"] + 0.2
    assert swapped["prd_f1_8"] == pytest.approx(named["prd_f8"], abs=1e-3)
    assert swapped["prd_f8"] == pytest.approx(named["prd_f1_8"], abs=1e-3)


def test_d15_chooses_the_reference_patches(prepared: Path, tmp_path: Path) -> None:
    shares = {}
    for kind in ("train", "held_out"):
        options = {
            "extractor": "random_resnet10",
            "samples": 8,
            "seed": 0,
            "metrics": {"fid": {}, "prd": {"clusters": 3, "runs": 2}},
            "recipe": {"reference": kind},
        }
        values = run(tmp_path / kind, "reference", options, {"data": prepared})
        assert values["facts"]["reference"] == kind
        assert any("8 samples" in warning for warning in values["warnings"])
        with np.load(tmp_path / kind / "labels.npz") as statistics:
            shares[kind] = statistics["volume_fraction"]
    assert len(shares["train"]) == len(shares["held_out"]) == 8
    assert not np.array_equal(shares["train"], shares["held_out"])


def test_the_reference_knows_every_real_patch_and_says_why_its_floor_is_one_comparison(
    prepared: Path, tmp_path: Path
) -> None:
    options = {
        "extractor": "random_resnet10",
        "samples": 10,
        "seed": 0,
        "metrics": {"fid": {}},
        "recipe": {},
    }
    values = run(tmp_path, "reference", options, {"data": prepared})
    assert values["metrics"].keys() == {"fid", "fid_infinite"}
    assert any("fewer than 8 subjects" in warning for warning in values["warnings"])
    for name, subjects in (("train", {0, 1}), ("held_out", {2, 3})):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            assert arrays["features"].shape == (16, 256)
            assert arrays["blocks"].shape == (16, 8, 8, 8)
            assert set(arrays["subjects"].tolist()) == subjects


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a trained generator and of its pairs."""
    root = tmp_path_factory.mktemp("gan")
    wgan = {
        "patch_size": [32, 32, 16],
        "filters": 16,
        "norm": "spectral",
        "precision": "bf16",
        "batch": 5,
        "steps": None,
        "epochs": 2,
        "seed": 0,
    }
    values = run(root / "gan", "train_gan", {"wgan": wgan, "recipe": {"drop_last": False}}, {"data": prepared})
    assert values["steps"] == 8, "two epochs of 16 samples in batches of 5, 5, 5 and 1"
    assert len((root / "gan/steps.jsonl").read_text().splitlines()) == 8
    options = {"pairs": 10, "seed": 0, "batch": 4, "recipe": {}}
    values = run(root / "pairs", "synthesise", options, {"gan": root / "gan"})
    assert values["pairs"] == 10
    return root / "gan", root / "pairs"


def test_synthetic_pairs_are_stored_in_the_range_of_their_type(trained: tuple[Path, Path]) -> None:
    images, labels = (np.load(trained[1] / name) for name in ("images.npy", "labels.npy"))
    assert images.shape == labels.shape == (10, 32, 32, 16)
    assert (images.dtype, labels.dtype) == (np.int16, np.bool_)
    assert np.abs(images.astype(int)).max() <= INT16_SCALE


@pytest.mark.parametrize("arm", ["real", "synthetic"])
def test_a_unet_trains_on_either_arm_and_is_evaluated(
    arm: str, prepared: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    unet = {"filters": [4, 8], "dropout": 0.1, "lr": 1e-3, "batch": 4, "max_steps": 4, "validate_every": 2, "seed": 0}
    inputs = {"data": prepared} | ({"pairs": trained[1]} if arm == "synthetic" else {})
    values = run(tmp_path / "unet", "train_unet", {"unet": {**unet, "precision": "fp32"}, "recipe": {}}, inputs)
    assert values["training_samples"] == (16 if arm == "real" else 10)
    assert [entry["step"] for entry in values["history"]] == [2, 4]
    options = {"inference": {"overlap": 0.0, "batch": 2}, "patch": [32, 32, 16], "recipe": {}}
    run(tmp_path / "evaluate", "evaluate", options, {"data": prepared, "unet": tmp_path / "unet"})
    lines = (tmp_path / "evaluate/subjects.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 6, "two subjects, three metrics in two regions"
    assert lines[1].startswith("validation,phantom-002,dsc/all,")


def subject_rows(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> dict[str, Any]:
    affine = tuple(tuple(row) for row in np.eye(4))
    subject = StoredSubject("s", "test", truth.shape, affine, (0.5, 0.5, 2.0), (0.0, 1.0), mask is not None)
    return {row["metric"]: (row["value"], row["empty"]) for row in _rows(subject, truth, prediction, mask)}


def test_rows_measure_inside_the_mask_and_in_both_units() -> None:
    truth, prediction, mask = (np.zeros((8, 8, 8), np.bool_) for _ in range(3))
    truth[1, 1, 1] = truth[6, 6, 6] = True
    prediction[1, 1, 1] = prediction[6, 6, 5] = True
    mask[:4] = True
    values = subject_rows(truth, prediction, mask)
    assert values["dsc/all"] == (0.5, 0)
    assert values["dsc/intracranial"] == (1.0, 0)
    # Two distances of one voxel along z, over twice the two voxels of the truth.
    assert values["bavd_voxel/all"] == (0.5, 0)
    assert values["bavd_mm/all"] == (1.0, 0)


def test_an_empty_prediction_is_marked_and_gets_the_diagonal() -> None:
    truth, nothing = np.zeros((3, 4, 12), np.bool_), np.zeros((3, 4, 12), np.bool_)
    truth[0, 0, 0] = True
    values = subject_rows(truth, nothing, None)
    assert values["dsc/all"] == (0.0, 1)
    assert values["bavd_voxel/all"] == (pytest.approx(13.0), 1)
    assert values["dsc/intracranial"] == ("", 0)


def test_measured_costs_say_how_many_steps_were_timed(tmp_path: Path) -> None:
    shared = {"precision": "fp32", "filters": 16, "batch": 2, "recipe": {}}
    options = {
        "configurations": {"SN": {**shared, "norm": "spectral"}, "none": {**shared, "norm": "none"}},
        "patch": [32, 32, 16],
        "critic_steps": 1,
        "penalty_weight": 10.0,
        "rounds": 3,
        "steps": 2,
        "warmup": 1,
    }
    values = run(tmp_path, "measure", options)
    for measured in values["configurations"].values():
        assert len(measured["step_time_ms"]) == 3
        assert measured["steps_timed"] == 6
        assert min(measured["step_time_ms"]) > 0
        assert measured["peak_memory_mib"] > 0
        assert not measured["emulated"]


def test_a_step_record_replaces_the_steps_that_a_crash_repeats(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with step_record(path) as record:
        for step in range(6):
            record(step, {"loss": 1.0})
    with step_record(path) as record:  # from a checkpoint after step 3
        for step in range(4, 8):
            record(step, {"loss": float("nan") if step == 7 else 2.0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    assert [line["loss"] for line in lines] == [1.0] * 4 + [2.0] * 3 + [None]


def test_the_recipe_of_a_stage_is_what_its_options_say() -> None:
    context = Context({"recipe": {"penalty_norm": "batch"}}, {}, {}, {}, Path(), lambda done, total, what: None)
    assert context.recipe == Recipe(penalty_norm="batch")


def test_a_stage_computes_with_the_threads_of_its_key() -> None:
    before = torch.get_num_threads()
    try:
        Context({}, {}, {"device": "cpu", "threads": 1}, {}, Path(), lambda done, total, what: None).set_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
