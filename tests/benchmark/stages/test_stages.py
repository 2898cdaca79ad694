"""Stages one by one on a tiny phantom: what they write, and that each deviation they read makes its difference."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmark.artifacts.pairs import INT16_SCALE, decoded, encoded
from benchmark.datasets.layouts import load_layout
from benchmark.datasets.source import choose_source
from benchmark.metrics.registry import measurements
from benchmark.protocol.schema import Profile, Score, Split
from benchmark.scoring.patch_sets import compare_features
from benchmark.stages import STAGES, Context
from benchmark.stages import train_unet as segmentation
from benchmark.stages.context import rejected_steps, step_record
from benchmark.stages.evaluate import score_rows
from benchmark.stages.train_unet import (
    _real_batch,
    _real_patches,
    _synthetic_batch,
    _training_parts,
    best_threshold,
    open_unet,
    scaled_volume,
    volume_loss,
)
from vesselgan import training
from vesselgan.data import (
    StoredSubject,
    Subject,
    VolumeStore,
    listing,
    load_volume,
    open_store,
    pair_by_listing,
    phantom_subjects,
)
from vesselgan.families import wgan as gan
from vesselgan.families.wgan import real_pairs
from vesselgan.inference import segment_volume
from vesselgan.networks import UNet
from vesselgan.recipe import CORRECTED, PAPER_CODE, Recipe
from vesselgan.training import UNetConfig, WGANConfig, choose_precision, soft_dice_loss

SPLIT = {"train": ["phantom-000", "phantom-001"], "validation": ["phantom-002"], "test": ["phantom-003"]}


def run(
    folder: Path, stage: str, options: dict[str, Any], inputs: dict[str, Path] | None = None, /, **where: str
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
        "recipe": {},
    }
    values = run(folder, "prepare", options)
    assert values["subjects"] == {"train": 2, "validation": 1, "test": 1}
    assert values["patches"] == {"train": 16, "validation": 8, "test": 8}
    assert values["with_brain_mask"] == 4
    assert values["brain_mask_computed"] == 0, "the phantom knows its own"
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
    for patch, (number, x, y, z) in zip(per_volume, store.patch_table[indices].tolist(), strict=True):
        subject = store.subjects[number]
        whole = scaled_volume(store, subject, "volume")
        corner = np.maximum(0, [x, y, z])
        beyond = np.minimum([x + 32, y + 32, z + 16], subject.shape)
        inside = patch.numpy()[tuple(slice(a - b, c - b) for a, b, c in zip(corner, (x, y, z), beyond, strict=True))]
        within = whole[tuple(slice(a, c) for a, c in zip(corner, beyond, strict=True))]
        np.testing.assert_array_equal(inside, within)
    assert not torch.equal(per_volume, per_patch)


def test_pairs_are_stored_to_half_a_grey_level_and_every_level_comes_back() -> None:
    levels = np.arange(-INT16_SCALE, INT16_SCALE + 1, dtype=np.int16)
    assert np.array_equal(encoded(decoded(levels)), levels)
    images = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    assert np.abs(decoded(encoded(images)) - images).max() <= 0.5 / INT16_SCALE + 1e-7
    assert (encoded(images).dtype, decoded(levels).dtype) == (np.int16, np.float32)


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
    np.testing.assert_array_equal(scaled_volume(store, subject, "patch"), store.image("phantom-003"))
    of_volume = scaled_volume(store, subject, "volume")
    assert (of_volume.min(), of_volume.max()) == (-1, 1)


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


def test_d6_pairs_files_by_their_names_or_by_the_order_of_two_listings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that lists images in one order and labels in another, as those that hash names do."""
    root = tmp_path / "scans"
    for index, key in enumerate(("a", "b", "c")):
        for folder, name in (("imagesTr", f"{key}_0000"), ("labelsTr", key)):
            volume = np.random.default_rng(index).integers(0, 99, (16, 16, 16)).astype(np.uint8)
            if folder == "labelsTr":
                volume[:] = 0
                volume[: index + 1, 0, 0] = 1  # as many vessel voxels as the subject's number
            path = root / folder / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    images, labels = (sorted(root.glob(f"{kind}/*")) for kind in ("imagesTr", "labelsTr"))
    monkeypatch.setattr(listing, "_files", lambda folder: iter([*images, labels[2], labels[0], labels[1]]))
    found = {}
    for pairing in ("by_key", "listing_order"):
        options = {
            "source": {"files": {}},
            "split": {"train": ["a"], "validation": ["b"], "test": ["c"]},
            "patch": [16, 16, 16],
            "patches": {"grid": [1, 1, 1], "vessel": 0},
            "seed": 0,
            "recipe": {"pairing": pairing},
        }
        layout = {"name": "plain", "images": ["imagesTr/{key}_0000.nii.gz"], "labels": ["labelsTr/{key}.nii.gz"]}
        run(tmp_path / pairing, "prepare", options, folder=str(root), layout=json.dumps(layout))
        store = open_store(tmp_path / pairing / "store")
        found[pairing] = [int(store.label(key).sum()) for key in ("a", "b", "c")]
    assert found == {"by_key": [1, 2, 3], "listing_order": [3, 1, 2]}
    # The key of the stage knows which files were paired.
    profile = Profile(split=Split(train=1, validation=1, test=1), score=Score(extractor="random_resnet10"))
    source = choose_source("laptop", profile, root)
    assert source.mispaired == 3
    by_key, listed = (source.options_for(pairing)["files"] for pairing in ("by_key", "listing_order"))
    assert [listed[key]["label"] for key in "abc"] == [by_key[key]["label"] for key in "cab"]
    assert [listed[key]["image"] for key in "abc"] == [by_key[key]["image"] for key in "abc"]


@pytest.mark.parametrize("brain_mask", ["dataset", "compute"])
def test_brain_masks_are_computed_only_on_request_and_only_where_there_is_none(tmp_path: Path, brain_mask: str) -> None:
    for number, subject in enumerate(phantom_subjects(3, (64, 64, 32), seed=0)):
        volumes = {f"imagesTr/{subject.key}_0000": subject.image, f"labelsTr/{subject.key}": subject.label}
        if number == 0:
            volumes[f"masksTr/{subject.key}"] = subject.mask
        for name, volume in volumes.items():
            path = tmp_path / f"{name}.nii"
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(volume.astype(np.float32), subject.affine), path)
    options = {
        "source": {"files": {}},
        "split": {"train": ["phantom-000"], "validation": ["phantom-001"], "test": ["phantom-002"]},
        "patch": [32, 32, 16],
        "patches": {"grid": [1, 1, 1], "vessel": 2},
        "brain_mask": brain_mask,
        "seed": 0,
        "recipe": {},
    }
    values = run(
        tmp_path / "out",
        "prepare",
        options,
        folder=str(tmp_path),
        layout=json.dumps(asdict(load_layout("nnunet").layout)),
    )
    computed = 2 if brain_mask == "compute" else 0
    assert (values["with_brain_mask"], values["brain_mask_computed"]) == (1 + computed, computed)
    store = open_store(tmp_path / "out" / "store")
    assert [subject.has_mask for subject in store.subjects] == [True, computed > 0, computed > 0]


def test_without_a_listing_of_another_order_the_paper_code_pairs_rightly(tmp_path: Path) -> None:
    """Where image and label of a subject share a folder, one listing orders both."""
    for key in ("a", "b", "c"):
        (tmp_path / key).mkdir()
        for name in ("image.nii", "label.nii"):
            (tmp_path / key / name).touch()
    subjects = [Subject(key, tmp_path / key / "image.nii", tmp_path / key / "label.nii", None) for key in "abc"]
    assert pair_by_listing(subjects, tmp_path) == subjects


@pytest.mark.parametrize(
    "recipe",
    [{"generation_statistics": "batch"}, {"label_threshold": 0.4}],
    ids=["d7", "d8"],
)
def test_d7_and_d8_reach_the_synthesis(recipe: dict[str, Any], trained: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"pairs": 10, "seed": 0, "batch": 4, "recipe": recipe}
    run(tmp_path, "synthesise", options, {"gan": trained[0]})
    same_images, same_labels = (
        np.array_equal(np.load(tmp_path / name), np.load(trained[1] / name)) for name in ("images.npy", "labels.npy")
    )
    assert (same_images, same_labels) == ("label_threshold" in recipe, False)


def test_d9_reaches_the_features(prepared: Path, tmp_path: Path) -> None:
    features = []
    for noise in ("noise", "none"):
        options = {"extractor": "random_resnet10", "samples": 16, "seed": 0, "metrics": {}}
        run(tmp_path / noise, "reference", {**options, "recipe": {"feature_noise": noise}}, {"data": prepared})
        features.append(np.load(tmp_path / noise / "train.npz")["features"])
    assert not np.array_equal(*features)


@pytest.mark.parametrize("noise", ["none", "noise"])
@pytest.mark.parametrize("blank", [3, 12])
def test_nearly_empty_pairs_are_left_out_but_for_the_papers_noise(
    noise: str, blank: int, prepared: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    images, labels = (
        np.resize(made := np.load(trained[1] / f"{name}.npy"), (16, *made.shape[1:])) for name in ("images", "labels")
    )
    images[:blank] = -INT16_SCALE
    images[:blank, 3, 4, 5:7] = 100, 101
    np.save(pairs / "images.npy", images)
    np.save(pairs / "labels.npy", labels)
    options = {"extractor": "random_resnet10", "samples": 16, "seed": 0, "metrics": {"fid": {}}}
    options["recipe"] = {"feature_noise": noise}
    run(tmp_path / "reference", "reference", options, {"data": prepared})
    inputs = {"data": prepared, "pairs": pairs, "reference": tmp_path / "reference"}
    values = run(tmp_path / "score", "score", options, inputs)
    told = [line for line in values["warnings"] if "nearly empty" in line]
    if noise == "noise":
        assert (values["facts"]["samples"], told) == (16, [])
    elif blank == 3:
        assert values["facts"]["samples"] == 13
        assert told[0].startswith("generated: 3 of 16 patches are nearly empty")
    else:
        assert values["facts"]["samples"] == 16, "nothing else is there to be scored"
        assert told == ["generated: 12 of 16 patches are nearly empty, so they count as they are"]
        assert values["metrics"]["fid"] > 100


@pytest.mark.parametrize("kind", ["none", "scored"])
def test_d13_labels_are_scored_or_not(kind: str, prepared: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    options = {"extractor": "random_resnet10", "samples": 16, "seed": 0, "metrics": {}}
    run(tmp_path / "reference", "reference", {**options, "recipe": {}}, {"data": prepared})
    inputs = {"data": prepared, "pairs": trained[1], "reference": tmp_path / "reference"}
    values = run(tmp_path / "score", "score", {**options, "recipe": {"label_metrics": kind}}, inputs)
    scored = {name for name in values["metrics"] if name.startswith("label_")}
    if kind == "none":
        assert values["labels"] is None
        assert not scored
        return
    assert "label_volume_fraction" in scored
    synthetic = np.load(trained[1] / "labels.npy").mean(axis=(1, 2, 3))
    assert values["labels"]["vessel_share_synthetic"] == pytest.approx(synthetic.mean())
    apart = abs(values["labels"]["vessel_share_real"] - synthetic.mean())
    assert apart - 1e-9 <= values["metrics"]["label_volume_fraction"] <= 1


def test_a_private_training_reports_epsilon_and_all_that_it_rests_on(prepared: Path, tmp_path: Path) -> None:
    privacy = {"noise_multiplier": 1.0, "clip_norm": 1.0, "weight_clip": 0.01, "delta": 1e-3}
    wgan = {
        "patch_size": [32, 32, 16],
        "filters": 16,
        "norm": "none",
        "precision": "fp32",
        "batch": 4,
        "steps": 3,
        "epochs": 1,
        "critic_steps": 2,
        "privacy": privacy,
        "seed": 0,
    }
    spent = {}
    for updates in ("one", "two"):
        options = {"wgan": wgan, "recipe": {"dp_updates": updates}}
        spent[updates] = run(tmp_path / updates, "train_gan", options, {"data": prepared})["privacy"]
    assert spent["one"].items() >= privacy.items()
    assert spent["one"]["sample_rate"] == 4 / 16
    assert (spent["one"]["noisy_updates"], spent["two"]["noisy_updates"]) == (6, 12)
    assert 0 < spent["one"]["epsilon"] < spent["two"]["epsilon"]
    assert not any("D14" in caveat for caveat in spent["one"]["caveats"])
    assert any("D14" in caveat for caveat in spent["two"]["caveats"])


def test_a_gan_sees_half_of_its_pairs_mirrored_along_the_axes_named(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def only_draw(config: WGANConfig, real_batch: Callable[[int], torch.Tensor], **_: Any) -> None:
        drawn[flips] = torch.cat([real_batch(step) for step in range(4)])
        raise InterruptedError

    monkeypatch.setattr(training, "train_wgan", only_draw)
    wgan = {"patch_size": [32, 32, 16], "filters": 16, "batch": 4, "steps": 4, "epochs": 1, "privacy": None, "seed": 0}
    for flips in ((), ("x",)):
        with pytest.raises(InterruptedError):
            run(tmp_path, "train_gan", {"wgan": {**wgan, "flips": flips}, "recipe": {}}, {"data": prepared})
    as_they_are = [torch.equal(*pair) for pair in zip(drawn[()], drawn["x",], strict=True)]
    mirrored = [torch.equal(a.flip(1), b) for a, b in zip(drawn[()], drawn["x",], strict=True)]
    assert all(np.add(as_they_are, mirrored) == 1), "image and label alike"
    assert 0.2 < np.mean(mirrored) < 0.8


def test_a_training_is_observed_at_fixed_noise(prepared: Path, trained: tuple[Path, Path]) -> None:
    lines = [json.loads(line) for line in (trained[0] / "steps.jsonl").read_text().splitlines()]
    observed = [line for line in lines if "score_gap" in line]
    with np.load(trained[0] / "course.npz") as course:
        assert course["steps"].tolist() == [line["step"] + 1 for line in observed] == list(range(1, 9))
        assert course["images"].shape == course["labels"].shape == (8, 2, 32, 32)
        assert course["images"].dtype == np.int8
        first, last = course["images"][0], course["images"][-1]
    assert not np.array_equal(first, last)
    # Made of the noise of the first synthetic pairs, by the same weights and statistics.
    made = np.load(trained[1] / "images.npy")[:2].max(axis=-1) / INT16_SCALE
    assert np.abs(made - last / 127).max() < 0.02  # bf16 and 8 bits
    for line in observed:
        assert line["score_gap"] == pytest.approx(line["score_train"] - line["score_held_out"], abs=1e-6)
    for line in lines:
        assert line["critic_gradient_norm"] > 0
        assert line["generator_gradient_norm"] > 0


def test_rejected_steps_are_counted_in_the_values_of_both_trainings(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, calls = gan.real_pairs, iter(range(99))

    def spoiled(*arguments: Any) -> torch.Tensor:
        # The first two are what is looked at on the way.
        return cut(*arguments) * (float("nan") if next(calls) == 4 else 1.0)

    monkeypatch.setattr(gan, "real_pairs", spoiled)
    wgan = {"patch_size": [32, 32, 16], "filters": 8, "batch": 2, "steps": 4, "epochs": 1, "privacy": None, "seed": 0}
    values = run(tmp_path / "gan", "train_gan", {"wgan": wgan, "recipe": {}}, {"data": prepared})
    assert values["steps_rejected"] == {"not finite": 1, "absurd": 0, "loss scale": 0}
    lines = [json.loads(line) for line in (tmp_path / "gan/steps.jsonl").read_text().splitlines()]
    assert [line["critic_loss"] is None for line in lines] == [False, False, True, False]
    assert None not in values["mean_of_last_tenth"].values()

    varied = segmentation._varied

    def spoiled_batch(batch: segmentation.Batch, step: int, *arguments: Any) -> segmentation.Batch:
        images, labels = varied(batch, step, *arguments)
        return images * (float("nan") if step in (2, 3) else 1.0), labels

    losses = iter([-0.1, float("nan"), -0.2])
    monkeypatch.setattr(segmentation, "_varied", spoiled_batch)
    monkeypatch.setattr(segmentation, "volume_loss", lambda *arguments: next(losses))
    options = {"unet": {**UNET, "precision": "fp32", "max_steps": 6}, "recipe": {}}
    values = run(tmp_path / "unet", "train_unet", options, {"data": prepared})
    assert values["steps_rejected"] == {"not finite": 2, "absurd": 0, "loss scale": 0}
    assert [entry["validation_loss"] for entry in values["history"]] == [-0.1, None, -0.2]
    assert [entry["training_loss"] is None for entry in values["history"]] == [False, True, False]
    assert (values["best_step"], values["validation_loss"]) == (6, -0.2)


def test_a_record_of_before_steps_were_judged_counts_none() -> None:
    assert rejected_steps([{"step": 0, "loss": None}]) == {"not finite": 0, "absurd": 0, "loss scale": 0}


UNET = {"filters": [4, 8], "dropout": 0.1, "lr": 1e-3, "batch": 4, "max_steps": 4, "validate_every": 2, "seed": 0}
ARMS = {
    "real": {"real": 16},
    "synthetic": {"synthetic": 10},
    "fewer": {"real": 8},
    "mixed": {"real": 16, "synthetic": 10},
    "few and mixed": {"real": 8, "synthetic": 10},
}


@pytest.mark.parametrize("arm", ARMS)
def test_a_unet_trains_on_every_arm_and_is_evaluated(
    arm: str, prepared: Path, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    inputs = {"data": prepared} | ({"pairs": trained[1]} if "synthetic" in ARMS[arm] else {})
    options: dict[str, Any] = {"unet": {**UNET, "precision": "fp32"}, "recipe": {}}
    if arm not in ("real", "synthetic"):
        options["real"] = SPLIT["train"] if arm == "mixed" else SPLIT["train"][1:]
    values = run(tmp_path / "unet", "train_unet", options, inputs)
    assert values["training_samples"] == ARMS[arm]
    assert [entry["step"] for entry in values["history"]] == [2, 4]
    options = {"inference": {"overlap": 0.0, "batch": 2}, "patch": [32, 32, 16], "recipe": {}}
    run(tmp_path / "evaluate", "evaluate", options, {"data": prepared, "unet": tmp_path / "unet"})
    lines = (tmp_path / "evaluate/subjects.csv").read_text().splitlines()
    always = [named for each in measurements("subject") if not each.is_asked_for for named in each.named]
    assert len(lines) == 1 + 2 * len(always), "two subjects"
    assert lines[1].startswith("validation,phantom-002,dsc/all,")
    facts = json.loads((tmp_path / "unet/unet.json").read_text())
    assert (facts["patch"], facts["intensity_scaling"]) == ([32, 32, 16], "volume")
    assert facts["trained_on"] == ARMS[arm]
    check_maps(tmp_path / "evaluate", open_store(prepared / "store"), lines[1:])


def check_maps(folder: Path, store: VolumeStore, lines: list[str]) -> None:
    """Of test subjects alone, on the source's grid, and saying what the rows say."""
    assert [path.name for path in (folder / "errors").iterdir()] == [f"{key}.nii.gz" for key in store.keys("test")]
    for key in store.keys("test"):
        values = {line.split(",")[2]: float(line.split(",")[3] or "nan") for line in lines if f",{key}," in line}
        truth = np.asarray(store.label(key))
        prediction, errors = (load_volume(folder / kind / f"{key}.nii.gz") for kind in ("predictions", "errors"))
        np.testing.assert_allclose(prediction.affine, store.subject(key).affine, atol=1e-5)
        np.testing.assert_allclose(errors.affine, store.subject(key).affine, atol=1e-5)
        predicted = prediction.data > 0
        assert values["dsc/all"] == pytest.approx(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))
        codes = np.select([truth & predicted, truth & ~predicted, predicted & ~truth], [1, 2, 3])
        np.testing.assert_array_equal(errors.data, codes)
        if predicted.any():
            distances = load_volume(folder / "distances" / f"{key}.nii.gz").data
            assert distances.sum() / (2 * truth.sum()) == pytest.approx(values["bavd_mm/all"], rel=1e-4)


def test_half_of_every_mixed_batch_is_real_and_its_subjects_are_those_asked_for(
    prepared: Path, trained: tuple[Path, Path], store: VolumeStore, tmp_path: Path
) -> None:
    options = {"real": ["phantom-001"], "recipe": {}}
    runtime = {"device": "cpu", "threads": 1}
    inputs = {"data": prepared, "pairs": trained[1]}
    context = Context(options, inputs, runtime, {}, tmp_path, lambda done, total, what: None)
    parts = _training_parts(context, store, UNetConfig(batch=5, max_steps=9, validate_every=1, seed=3))
    patches = _real_patches(store, ["phantom-001"])
    assert {store.subjects[subject].key for subject in store.patch_table[patches, 0]} == {"phantom-001"}
    real = {images.tobytes() for images in _real_batch(store, patches, CORRECTED)[0].numpy()}
    assert len(patches) == 8
    seen: set[bytes] = set()
    for step in range(9):
        images, labels = parts["real"].draw(parts["real"].sampler(step))
        assert images.shape == labels.shape == (3, 1, 32, 32, 16)
        seen |= {image.tobytes() for image in images.numpy()}
        assert len(parts["synthetic"].sampler(step)) == 2
    assert seen == real, "every patch of the subject comes, and none of another"


def test_validation_is_the_mean_soft_dice_of_whole_volumes(store: VolumeStore) -> None:
    unet = UNet(filters=(4, 8)).eval()
    precision = choose_precision("fp32", "cpu")
    chosen = tuple(
        replace(subject, split="validation" if subject.split != "train" else "train") for subject in store.subjects
    )
    two = VolumeStore(store.folder, chosen, store.patch_size, store.patch_table, store.patch_ranges)
    losses = []
    for key in two.keys("validation"):
        image = scaled_volume(two, two.subject(key), "volume")
        probability = segment_volume(unet, image, (32, 32, 16), precision=precision, overlap=0.0, batch=3)
        logits = torch.logit(torch.from_numpy(probability).double())
        losses.append(float(soft_dice_loss(logits, torch.from_numpy(two.label(key).copy()))))
    assert len(set(losses)) == 2
    assert volume_loss(unet, two, CORRECTED, precision, 4) == pytest.approx(np.mean(losses), abs=1e-5)
    assert volume_loss(unet, store, CORRECTED, precision, 4) == pytest.approx(losses[0], abs=1e-5)
    assert volume_loss(unet, store, PAPER_CODE, precision, 4) != pytest.approx(losses[0], abs=1e-5), "D8 reaches it"


@pytest.mark.parametrize("best", [0.2, 0.5, 0.7])
def test_the_threshold_is_that_of_the_highest_dsc_inside_the_brain(
    best: float, store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wrong voxels at either side of the best threshold, and outside the brain many that speak for another one."""
    (key,) = store.keys("validation")
    truth, mask = np.asarray(store.label(key)), np.asarray(store.mask(key))
    probability = np.where(truth, best + 0.02, best - 0.02).astype(np.float32)
    inside, tissue = np.flatnonzero(truth & mask), np.flatnonzero(~truth & mask)
    probability.flat[inside[:2]], probability.flat[tissue[:2]] = 0.01, 0.99
    probability[~mask] = np.where(truth, 0.95, 0.92)[~mask]
    monkeypatch.setattr(segmentation, "segment_volume", lambda *_, **__: probability)
    unet, precision = UNet(filters=(4, 8)), choose_precision("fp32", "cpu")
    assert best_threshold(unet, store, CORRECTED, precision, 4)[0] == best


def test_a_unet_without_a_better_threshold_keeps_the_plain_one(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = store.keys("validation")
    certain = np.asarray(store.label(key)).astype(np.float32)
    monkeypatch.setattr(segmentation, "segment_volume", lambda *_, **__: certain)
    assert best_threshold(UNet(filters=(4, 8)), store, CORRECTED, choose_precision("fp32", "cpu"), 4) == (0.5, 1.0)


def test_volumes_are_evaluated_at_the_threshold_that_validation_chose(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"data": prepared, "unet": tmp_path / "unet"}
    train = {"unet": {**UNET, "precision": "fp32"}, "recipe": {}}
    evaluate = {"inference": {"overlap": 0.0, "batch": 2}, "patch": [32, 32, 16], "recipe": {}}
    monkeypatch.setattr(segmentation, "best_threshold", lambda *_: (0.3, 0.9))
    for threshold, expected in (("validation", 0.3), (0.8, 0.8)):
        assert run(inputs["unet"], "train_unet", {**train, "threshold": threshold}, inputs)["threshold"] == expected
        unet, facts = open_unet(inputs["unet"], "cpu")
        assert facts["threshold"] == expected
        run(tmp_path / "maps", "evaluate", evaluate, inputs)
        store = open_store(prepared / "store")
        image = scaled_volume(store, store.subject("phantom-003"), "volume")
        probability = segment_volume(unet, image, (32, 32, 16), precision=choose_precision("fp32", "cpu"), overlap=0.0)
        found = load_volume(tmp_path / "maps/predictions/phantom-003.nii.gz").data > 0
        np.testing.assert_array_equal(found, probability > expected)


@pytest.mark.parametrize("arm", ["real", "mixed"])
def test_a_unet_that_was_interrupted_ends_in_the_same_bytes(
    arm: str, prepared: Path, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"data": prepared} | ({"pairs": trained[1]} if arm == "mixed" else {})
    options: dict[str, Any] = {"unet": {**UNET, "max_steps": 6, "precision": "fp32"}, "recipe": {}}
    options |= {"real": SPLIT["train"]} if arm == "mixed" else {}
    whole = run(tmp_path / "whole", "train_unet", options, inputs)
    monkeypatch.setattr(segmentation, "CHECKPOINT_EVERY_S", 0.0)
    validate, calls = segmentation.volume_loss, []

    def crash_in_the_second_validation(*args: Any) -> float:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setattr(segmentation, "volume_loss", crash_in_the_second_validation)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", "train_unet", options, inputs)
    assert (tmp_path / "cut/checkpoint.pt").is_file()
    assert run(tmp_path / "cut", "train_unet", options, inputs) == whole
    for name in ("unet.safetensors", "steps.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def subject_rows(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], mask: NDArray[np.bool_] | None
) -> dict[str, Any]:
    affine = tuple(tuple(row) for row in np.eye(4))
    subject = StoredSubject("s", "test", truth.shape, affine, (0.5, 0.5, 2.0), (0.0, 1.0), "image", "label", None)
    return {row["metric"]: (row["value"], row["empty"]) for row in score_rows(subject, truth, prediction, mask, {})}


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


def test_an_empty_prediction_is_marked_and_gets_the_diagonal_or_the_worst() -> None:
    truth, nothing = np.zeros((3, 4, 12), np.bool_), np.zeros((3, 4, 12), np.bool_)
    truth[0, 0, 0] = True
    values = subject_rows(truth, nothing, None)
    assert values["dsc/all"] == (0.0, 1)
    assert values["ahd_voxel/all"] == (pytest.approx(13.0), 1)
    flooded = subject_rows(truth, np.ones_like(truth), None)["bavd_voxel/all"][0]
    assert values["bavd_voxel/all"] == (pytest.approx(13 / 2 + flooded), 1)
    assert subject_rows(nothing, nothing, None)["dsc/all"] == ("", 1)
    assert values["dsc/intracranial"] == ("", 0)


def test_measured_costs_say_how_many_steps_were_timed(tmp_path: Path) -> None:
    pace = {"critic_steps": 1, "lr_generator": 2e-4, "lr_critic": 4e-4}
    shared = {"precision": "fp32", "filters": 16, "batch": 2, "recipe": {}, "privacy": None, "ema": None, **pace}
    options = {
        "configurations": {"SN": {**shared, "norm": "spectral"}, "none": {**shared, "norm": "none"}},
        "patch": [32, 32, 16],
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
