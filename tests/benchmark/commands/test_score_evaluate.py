"""`score` and `evaluate`: folders in, numbers out; and what they refuse."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmark.metrics.asking import stage_options
from benchmark.report.folder_pages import write_comparison, write_evaluation
from benchmark.scoring.mask_folders import evaluate_folders
from benchmark.scoring.patch_folders import Comparison, compare_folders
from benchmark.scoring.patch_sets import audit_memory, compare_features, floor_of
from vesselgan.data import phantom_subjects, save_volume
from vesselgan.errors import InputError
from vesselgan.features import random_resnet10
from vesselgan.metrics import balanced_average_hausdorff, dice
from vesselgan.qualification import PatchSet, cut_patches
from vesselgan.recipe import FEWEST_INSIDE

PER_SUBJECT = 8
CONTRACT = ["fid", "kid", "prd_f8", "prd_f1_8", "prd_auc", "precision", "recall", "density", "coverage"]


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(run, cwd=cwd, capture_output=True, text=True, timeout=120)


# ------------------------------------------------------------------ evaluate


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """truth/, prediction/ and mask/ of three subjects; the last prediction is empty."""
    rng = np.random.default_rng(0)
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    for index in range(3):
        truth = rng.random((12, 10, 8)) > 0.8
        prediction = np.zeros_like(truth) if index == 2 else np.roll(truth, index, axis=0)
        brain = np.zeros_like(truth)
        brain[:6] = True
        for name, mask in (("truth", truth), ("prediction", prediction), ("mask", brain)):
            (tmp_path / name).mkdir(exist_ok=True)
            save_volume(tmp_path / name / f"case_{index}.nii.gz", mask, affine)
    return tmp_path


def evaluated(folder: Path, mask: bool = True, **changes: Path) -> dict[str, Any]:
    paths = {"truth": folder / "truth", "prediction": folder / "prediction"} | changes
    brain = folder / "mask" if mask else None
    return dict(evaluate_folders(paths["truth"], paths["prediction"], brain, lambda done, total: None).results)


def test_evaluate_gives_the_contracts_metrics_per_subject_and_over_subjects(masks: Path) -> None:
    results = evaluated(masks)
    rows = {(row["subject"], row["metric"]): row for row in results["subjects"]}
    assert rows["case_0", "dsc/all"]["value"] == 1
    for region in ("all", "intracranial"):
        for metric in ("dsc", "bavd_voxel", "bavd_mm", "cldice"):
            entry = results["metrics"][f"{metric}/{region}"]
            assert entry["n"] == 3
            assert entry["empty"] == 1
            values = [rows[f"case_{index}", f"{metric}/{region}"]["value"] for index in range(3)]
            assert entry["value"] == pytest.approx(np.mean(values))
    diagonal = np.sqrt(12**2 + 10**2 + 8**2)
    assert rows["case_2", "ahd_voxel/all"]["value"] == pytest.approx(diagonal)
    assert rows["case_2", "bavd_voxel/all"]["value"] > diagonal / 2, "and worse than flooding, see the metric's tests"
    assert rows["case_2", "bavd_voxel/all"]["empty"] == 1
    json.dumps(results, allow_nan=False)


def test_evaluate_takes_the_spacing_from_the_header(masks: Path) -> None:
    import nibabel

    results = evaluated(masks)
    truth, prediction = (
        np.asarray(nibabel.load(masks / name / "case_1.nii.gz").dataobj) > 0 for name in ("truth", "prediction")
    )
    rows = {row["metric"]: row["value"] for row in results["subjects"] if row["subject"] == "case_1"}
    assert rows["dsc/all"] == pytest.approx(dice(truth, prediction))
    assert rows["bavd_mm/all"] == pytest.approx(
        balanced_average_hausdorff(truth, prediction, spacing_mm=(0.5, 0.5, 2.0))
    )


def test_without_mask_or_header_values_are_null_with_their_reason(masks: Path) -> None:
    entry = evaluated(masks, mask=False)["metrics"]["dsc/intracranial"]
    assert (entry["value"], entry["n"]) == (None, 0)
    assert "--mask DIR" in entry["reason"]
    for name in ("truth", "prediction"):
        (masks / "arrays" / name).mkdir(parents=True)
        np.save(masks / "arrays" / name / "a.npy", np.ones((4, 4, 4), bool))
    results = evaluated(masks / "arrays", mask=False)
    assert results["metrics"]["dsc/all"]["value"] == 1
    assert "NIfTI for millimetres" in results["metrics"]["bavd_mm/all"]["reason"]
    assert results["metrics"]["dsc/all"]["reason"] == "no interval from one subject"


def test_every_file_that_cannot_be_evaluated_has_its_line(masks: Path) -> None:
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    save_volume(masks / "prediction/case_0.nii.gz", np.ones((4, 4, 4), bool), affine)
    save_volume(masks / "prediction/case_1.nii.gz", np.arange(960, dtype=np.int16).reshape(12, 10, 8) % 3, affine)
    affine[0, 3] = 4
    save_volume(masks / "mask/case_2.nii.gz", np.ones((12, 10, 8), bool), affine)
    with pytest.raises(InputError) as caught:
        evaluated(masks)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert re.search(r"prediction/case_0.nii.gz: shape \(4, 4, 4\), but .*truth/case_0.nii.gz has", lines[0])
    assert "prediction/case_1.nii.gz: values 0, 1, 2; a mask holds exactly two" in lines[1]
    assert "mask/case_2.nii.gz: affine differs" in lines[2]


def test_evaluate_refuses_names_that_do_not_match_and_writes_nothing(masks: Path) -> None:
    (masks / "prediction/case_1.nii.gz").rename(masks / "prediction/other.nii.gz")
    result = command("evaluate", "--truth", "truth", "--prediction", "prediction", cwd=masks)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: truth: no file named other; --truth needs one for each subject",
        "error: prediction: no file named case_1; --prediction needs one for each subject",
    ]
    assert not (masks / "reports").exists()


def test_evaluate_prints_a_table_or_json_and_writes_a_page(masks: Path) -> None:
    result = command(
        "evaluate", "--truth", "truth", "--prediction", "prediction", "--mask", "mask", "--json", cwd=masks
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["dsc/all"]["n"] == 3
    page = (masks / "reports/evaluate-truth-prediction/index.html").read_text()
    assert "In 1 of 3 subjects the prediction or the truth is empty" in " ".join(page.split())
    assert not re.search(r"<script[^>]*\bsrc=", page)
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", page), "needs nothing else"


def test_names_of_files_are_escaped_on_the_page(tmp_path: Path) -> None:
    for name in ("truth", "prediction"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "<b>x.npy", np.eye(8, dtype=bool)[None])
    evaluation = evaluate_folders(tmp_path / "truth", tmp_path / "prediction", None, lambda done, total: None)
    page = write_evaluation(evaluation, tmp_path / "page").read_text()
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_a_mask_with_header_against_one_without_is_refused(masks: Path) -> None:
    (masks / "prediction/case_1.nii.gz").unlink()
    np.save(masks / "prediction/case_1.npy", np.ones((12, 10, 8), bool))
    with pytest.raises(InputError) as caught:
        evaluated(masks)
    assert re.fullmatch(
        r"\S+prediction/case_1.npy: no NIfTI header, unlike \S+truth/case_1.nii.gz, so their axes may differ; "
        "give both as NIfTI or both as arrays",
        str(caught.value),
    )


def test_the_page_of_equal_subjects_and_of_an_empty_region_says_so(masks: Path, tmp_path: Path) -> None:
    truth = np.zeros((12, 10, 8), bool)
    truth[8:] = True  # outside the brain mask
    for name in ("truth", "prediction"):
        for index in range(3):
            save_volume(masks / name / f"case_{index}.nii.gz", truth, np.diag([0.5, 0.5, 2.0, 1.0]))
    evaluation = evaluate_folders(masks / "truth", masks / "prediction", masks / "mask", lambda done, total: None)
    assert [case.subject for case in evaluation.shown] == ["case_0", "case_2"]
    page = " ".join(write_evaluation(evaluation, tmp_path / "page").read_text().split())
    assert "<dt>truth and prediction both empty</dt><dd>leave-out</dd>" in page
    assert "the only subject" not in page
    assert "In 3 of 3 subjects the prediction or the truth is empty (intracranial vessels)" in page
    assert "is empty: such" not in page


def without_vessels(folder: Path, name: str, role: str) -> None:
    save_volume(folder / role / f"{name}.nii.gz", np.zeros((12, 10, 8), bool), np.diag([0.5, 0.5, 2.0, 1.0]))


def test_where_both_masks_are_empty_nothing_is_compared_and_that_is_counted(masks: Path, tmp_path: Path) -> None:
    without_vessels(masks, "case_1", "mask")  # so truth and prediction are empty inside of it
    without_vessels(masks, "case_2", "truth")  # whose prediction is empty already
    evaluation = evaluate_folders(masks / "truth", masks / "prediction", masks / "mask", lambda done, total: None)
    results = evaluation.results
    assert results["both_empty"] == "leave-out"
    for region, left_out in (("all", 1), ("intracranial", 2)):
        for metric in ("dsc", "cldice", "sensitivity", "precision", "bavd_mm", "hd95_voxel"):
            entry = results["metrics"][f"{metric}/{region}"]
            assert (entry["n"], entry["left_out"]) == (3 - left_out, left_out), metric
    assert results["metrics"]["dsc/intracranial"]["value"] == 1
    assert results["metrics"]["betti_0_error/intracranial"]["n"] == 3, "no piece is as many as no piece"
    page = " ".join(write_evaluation(evaluation, tmp_path / "page").read_text().split())
    assert "2 subjects of 3 have no vessel inside the brain mask in truth or prediction" in page
    shown = command("evaluate", "--truth", "truth", "--prediction", "prediction", "--mask", "mask", cwd=masks)
    assert "1 subject of 3 have no vessel in truth or prediction" in " ".join(shown.stdout.split())
    perfect = evaluate_folders(
        masks / "truth", masks / "prediction", masks / "mask", lambda done, total: None, "perfect"
    ).results
    assert perfect["both_empty"] == perfect["conventions"]["masks"]["both_empty"] == "perfect"
    rows = {(row["subject"], row["metric"]): row["value"] for row in perfect["subjects"]}
    assert rows["case_1", "dsc/intracranial"] == 1
    assert rows["case_1", "bavd_mm/intracranial"] == 0
    assert rows["case_2", "sensitivity/all"] == 1
    assert perfect["metrics"]["dsc/all"]["n"] == 3


def test_no_masks_but_empty_ones_give_no_value_with_its_reason(masks: Path, tmp_path: Path) -> None:
    for index in range(3):
        without_vessels(masks, f"case_{index}", "truth")
        without_vessels(masks, f"case_{index}", "prediction")
    evaluation = evaluate_folders(masks / "truth", masks / "prediction", None, lambda done, total: None)
    entry = evaluation.results["metrics"]["dsc/all"]
    assert (entry["value"], entry["left_out"]) == (None, 3)
    assert entry["reason"].startswith("neither truth nor prediction has a vessel there")
    write_evaluation(evaluation, tmp_path / "page")


# ------------------------------------------------------------------ score


@pytest.fixture(scope="module")
def phantoms() -> PatchSet:
    subjects = phantom_subjects(24, (48, 48, 32), seed=2)
    return cut_patches(subjects, (16, 16, 16), grid=(1, 1, 1), vessel=PER_SUBJECT - 1, rng=np.random.default_rng(0))


def write_patches(folder: Path, patches: PatchSet, images: NDArray[np.float32] | None = None) -> Path:
    """A stack that names each patch's subject."""
    folder.mkdir(parents=True)
    np.savez(
        folder / "all.npz",
        images=patches.images if images is None else images,
        labels=patches.labels,
        subjects=patches.subjects,
    )
    return folder


@pytest.fixture(scope="module")
def folders(phantoms: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/ and training/ of eight subjects each; generated/: others, blurred, eight of them copied from training."""
    root = tmp_path_factory.mktemp("patches")
    real, training, others = (phantoms.of(phantoms.subjects % 3 == part) for part in range(3))
    write_patches(root / "real", real)
    write_patches(root / "training", training)
    images = np.asarray(gaussian_filter(others.images, (0, 1, 1, 1)))
    # As bright as before: each folder has a range of its own, and a narrower one would clip most of a copy's vessels.
    images *= np.percentile(others.images, 99.9) / np.percentile(images, 99.9)
    images[:8] = training.images[8:16, ::-1]  # mirrored copies
    write_patches(root / "generated", others, images)
    return root


@pytest.fixture(scope="module")
def comparison(folders: Path) -> Comparison:
    return compare_folders(
        folders / "real", folders / "generated", folders / "training", random_resnet10(), lambda *_: None
    )


def test_score_gives_every_metric_with_its_interval_and_floor(comparison: Comparison) -> None:
    results = comparison.results
    json.dumps(results, allow_nan=False)
    assert results["n"] == 8 * PER_SUBJECT
    for name in [*CONTRACT, "fid_infinite"]:
        entry = results["metrics"][name]
        assert entry["ci_low"] <= entry["value"] <= entry["ci_high"], name
        assert (entry["n"], entry["extractor"]) == (64, "random_resnet10")
    assert results["floor"]["metrics"].keys() == {*CONTRACT, "fid_infinite"}
    assert results["metrics"]["fid_infinite"]["value"] > results["floor"]["metrics"]["fid_infinite"]
    assert {"label_volume_fraction", "label_radius", "label_branch_count", "label_component_count"} <= results[
        "metrics"
    ].keys()
    assert not results["extractor"]["same_network_as_paper"]
    assert results["extractor"]["noise"] == "none"
    conventions = results["conventions"]
    assert conventions["metrics"]["prd"] == {"clusters": 20, "runs": 10}
    assert (conventions["patches"]["nearly_empty"], conventions["patches"]["voxels_needed"]) == ("left out", 0.05)
    assert any("the floor has 32 patches a side" in warning for warning in results["warnings"])


def test_score_catches_replayed_training_patches_also_mirrored(comparison: Comparison) -> None:
    audit = comparison.results["memorisation"]["images"]
    assert audit["near_zero"] == 8
    assert audit["memorised"]
    assert comparison.results["metrics"]["memorised_share/images"]["value"] >= 8 / 64
    assert len(comparison.closest) == 6
    for generated, training, distance in comparison.closest:
        assert distance < audit["threshold"] / 2
        # Each folder has a range of its own, so a copy differs from its original by a factor and by what is clipped.
        assert np.corrcoef(generated.image.ravel(), training.image.ravel())[0, 1] > 0.95


def test_the_page_of_score_says_what_its_numbers_are_worth(comparison: Comparison, tmp_path: Path) -> None:
    page = " ".join(write_comparison(comparison, tmp_path).read_text().split())
    assert "not with the paper&#39;s MedicalNet numbers" in page
    assert "8 are nearly identical to one" in page
    assert page.count("data:image/png;base64,") == 2 * 6 + 2 * 2 * 8
    assert not re.search(r"<script[^>]*\bsrc=", page)


def test_a_folder_scored_against_itself_is_at_no_distance(folders: Path) -> None:
    results = compare_folders(folders / "real", folders / "real", None, random_resnet10(), lambda *_: None).results
    assert results["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert results["metrics"]["label_radius"]["value"] == 0
    entry = results["metrics"]["memorised_share/images"]
    assert entry["value"] is None
    assert "--training DIR" in entry["reason"]


def test_real_patches_that_the_generator_learned_from_are_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/all.npz").write_bytes((folders / "real/all.npz").read_bytes())
    for training in (folders / "real", tmp_path / "copy"):
        with pytest.raises(InputError) as caught:
            compare_folders(folders / "real", folders / "generated", training, random_resnet10(), lambda *_: None)
        assert str(caught.value).startswith(f"{training}: given as --training, but holds the patches of --real ")
        assert "\n" not in str(caught.value)


def test_with_enough_real_patches_the_floor_has_as_many_as_the_scores(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    images = np.load(folders / "generated/all.npz")["images"]
    np.save(tmp_path / "few/images.npy", images[8 : 8 + 28])
    results = compare_folders(folders / "real", tmp_path / "few", None, random_resnet10(), lambda *_: None).results
    assert results["n"] == results["metrics"]["fid"]["n"] == 28
    assert "28 patches each" in results["floor"]["meaning"]
    assert not any("the floor has" in warning for warning in results["warnings"])


def test_copies_of_another_range_of_intensities_are_caught() -> None:
    blocks = np.random.default_rng(0).standard_normal((3, 40, 4, 4, 4)) * 0.1
    blocks[2, :6] = blocks[0, :6, ::-1] * 0.5 + 0.2
    blocks[1, 0], blocks[2, 9] = 0.1, 0.7  # constant but for rounding
    sets = {
        name: {"features": each.reshape(40, -1), "blocks": each}
        for name, each in zip(("training", "held_out", "generated"), blocks, strict=True)
    }
    images = audit_memory(**sets).images
    assert (images.near_zero, images.held_out_near_zero) == (6, 0)
    assert {pair.generated for pair in images.pairs} <= {*range(6), 9}


def test_warnings_of_metrics_that_are_not_asked_for_are_left_out() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.standard_normal((2, 12, 8))
    subjects = np.arange(12)
    wanted = {"kid": {}, "prd": None, "neighbours": {"k": 3}}
    told = compare_features(real, generated, wanted, real_subjects=subjects, seed=0).warnings
    told += floor_of(real, subjects, wanted, count=6, seed=0)["warnings"]
    assert {text.partition(":")[0] for text in told} == {"precision, recall, density, coverage"}
    told = compare_features(real, generated, {"fid": {}}, real_subjects=subjects, seed=0).warnings
    assert {text.partition(":")[0] for text in told} == {"fid_infinite"}


def test_without_subjects_or_labels_values_are_null_with_their_reason(phantoms: PatchSet, tmp_path: Path) -> None:
    for name, part in (("real", slice(None, 40)), ("generated", slice(40, 100))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", phantoms.images[part])
    results = compare_folders(
        tmp_path / "real", tmp_path / "generated", None, random_resnet10(), lambda *_: None
    ).results
    assert (results["n"], results["patches"]) == (40, {"real": 40, "generated": 60})
    assert results["metrics"]["fid"]["ci_low"] is None
    assert "does not tell" in results["metrics"]["fid"]["reason"]
    assert results["floor"]["metrics"] is None
    assert "no labels in" in results["metrics"]["label_radius"]["reason"]


def test_score_refuses_folders_of_different_shapes_and_too_few_patches(phantoms: PatchSet, tmp_path: Path) -> None:
    for name, images in (("real", phantoms.images), ("small", phantoms.images[..., :8]), ("few", phantoms.images[:5])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", images)

    def refusal(name: str) -> str:
        with pytest.raises(InputError) as caught:
            compare_folders(tmp_path / "real", tmp_path / name, None, random_resnet10(), lambda *_: None)
        return str(caught.value)

    assert "small: patches of (16, 16, 8), but those of" in refusal("small")
    assert "few: 5 patches; --generated needs 10 or more" in refusal("few")


def test_score_prints_a_table_and_refuses_in_one_line(folders: Path, tmp_path: Path) -> None:
    result = command("score", "--real", folders / "real", "--generated", folders / "generated", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"FID +0\.\d+ +\[0\.\d+, 0\.\d+\] +0\.\d+ ± 0\.\d+", result.stdout)
    assert "report: reports/score-real-generated/index.html" in result.stdout
    refused = command("score", "--real", folders / "real", "--generated", "nowhere", "--out", "other", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: nowhere: no such folder; point to one with --generated DIR\n"
    assert not (tmp_path / "other").exists()


def test_the_papers_own_folders_are_scored_as_any_others(folders: Path, tmp_path: Path) -> None:
    """What its code writes of real patches, and of generated ones."""
    for role in ("real", "generated"):
        with np.load(folders / role / "all.npz") as arrays:
            images, labels = arrays["images"][:40], arrays["labels"][:40]
        paper = tmp_path / role / "paper"
        for path in (tmp_path / role / "npz", paper / "seg_labels", *([paper / "patches"] * (role == "generated"))):
            path.mkdir(parents=True)
        np.savez(tmp_path / role / "npz/all.npz", images=images, labels=labels)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            number = f"{index:03d}"
            if role == "real":
                np.save(paper / f"PEG1_img_systematic_{number}.npy", image)
                np.save(paper / f"seg_labels/PEG1_label_systematic_{number}.npy", label.astype(np.uint8))
                continue
            for path, data in (
                (paper / f"patches/{number}_patch.npy.gz", image),
                (paper / f"seg_labels/{number}_label.npy.gz", label),
            ):
                with gzip.GzipFile(path, "w") as file:
                    np.save(file, np.asarray(data, np.float32))
    known, papers = (
        compare_folders(
            tmp_path / "real" / name, tmp_path / "generated" / name, None, random_resnet10(), lambda *_: None
        ).results
        for name in ("npz", "paper")
    )
    assert papers["n"] == 40
    for name in ("fid", "kid", "label_radius"):
        assert papers["metrics"][name]["value"] == pytest.approx(known["metrics"][name]["value"], rel=1e-6), name


def skull_stripped(patches: PatchSet, blank: int, specks: int) -> NDArray[np.float32]:
    """Patches with exact zeros around what is bright, some of them blank, and some with two voxels only."""
    brain = patches.images > np.percentile(patches.images, 30)
    images = np.where(brain, 100 * (patches.images + 1.1), 0).astype(np.float32)
    images[:blank] = 0
    for index in range(blank, blank + specks):
        images[index] = 0
        images[index, 3, 4, 5:7] = 140, 141
    return images


def test_nearly_empty_patches_are_left_out_and_counted(phantoms: PatchSet, tmp_path: Path) -> None:
    scores: dict[str, Any] = {}
    half = phantoms.subjects % 2 == 0
    for name, blank, specks in (("clean", 0, 0), ("empty", 8, 6)):
        for role, part in (("real", phantoms.of(half)), ("generated", phantoms.of(~half))):
            images = skull_stripped(part, blank, specks)
            kept = slice(14, None) if name == "clean" else slice(None)
            (tmp_path / name / role).mkdir(parents=True)
            np.save(tmp_path / name / role / "images.npy", images[kept])
        scores[name] = compare_folders(
            tmp_path / name / "real", tmp_path / name / "generated", None, random_resnet10(), lambda *_: None
        ).results
    clean, empty = scores["clean"], scores["empty"]
    assert clean["nearly_empty"] == {"voxels_needed": FEWEST_INSIDE, "left_out": {"real": 0, "generated": 0}}
    assert empty["nearly_empty"]["left_out"] == {"real": 14, "generated": 14}
    assert empty["n"] == clean["n"]
    assert empty["metrics"]["fid"]["value"] == pytest.approx(clean["metrics"]["fid"]["value"], rel=0.2)
    assert clean["metrics"]["fid"]["value"] < 1
    assert any(line.startswith("real: 14 of 96 patches are nearly empty") for line in empty["warnings"])
    assert not any("nearly empty" in line for line in clean["warnings"])


def test_a_folder_with_blank_patches_equals_its_copy(phantoms: PatchSet, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", skull_stripped(phantoms, 30, 0))
    metrics = compare_folders(tmp_path, tmp_path, None, random_resnet10(), lambda *_: None).results["metrics"]
    for name in ("precision", "recall", "coverage"):
        assert metrics[name]["value"] == 1, name


def test_a_generator_of_empty_patches_is_not_flattered(phantoms: PatchSet, tmp_path: Path) -> None:
    half = phantoms.subjects % 2 == 0
    for role, part, blank in (("real", phantoms.of(half), 0), ("generated", phantoms.of(~half), 60)):
        (tmp_path / role).mkdir()
        np.save(tmp_path / role / "images.npy", skull_stripped(part, blank, 0))
    results = compare_folders(
        tmp_path / "real", tmp_path / "generated", None, random_resnet10(), lambda *_: None
    ).results
    assert any("62% of the generated patches are nearly empty and 0% of the real" in w for w in results["warnings"])
    np.save(tmp_path / "generated/images.npy", skull_stripped(phantoms.of(~half), 90, 0))
    with pytest.raises(InputError, match=r"generated: 6 of 96 patches have more than 5% of their voxels above black"):
        compare_folders(tmp_path / "real", tmp_path / "generated", None, random_resnet10(), lambda *_: None)


def test_what_tools_add_to_the_names_of_masks_does_not_count(masks: Path) -> None:
    expected = evaluated(masks)["metrics"]["dsc/all"]["value"]
    for index in range(3):
        place = masks / f"prediction/case_{index}.nii.gz"
        np.savez(masks / f"prediction/case_{index}_vessels.npz", probabilities=np.zeros((2, 3)))
        np.save(masks / f"prediction/case_{index}_probability.npy", np.zeros((12, 10, 8)))
        place.rename(masks / f"prediction/case_{index}_vessels.nii.gz")
        (masks / f"truth/case_{index}.nii.gz").rename(masks / f"truth/case_{index}_seg.nii.gz")
    results = evaluated(masks)
    assert results["metrics"]["dsc/all"]["value"] == expected
    assert {row["subject"] for row in results["subjects"]} == {"case_0", "case_1", "case_2"}
    (masks / "truth/case_1_gt.nii.gz").write_bytes((masks / "truth/case_1_seg.nii.gz").read_bytes())
    with pytest.raises(InputError, match=r"case_1_seg.nii.gz: seems to be of the case of case_1_gt.nii.gz, too"):
        evaluated(masks)


def test_of_label_maps_the_values_that_are_asked_for_are_vessels(masks: Path) -> None:
    import nibabel

    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    plain = evaluated(masks, mask=False)
    for role in ("truth", "prediction"):
        for index in range(3):
            path = masks / role / f"case_{index}.nii.gz"
            mask = np.asarray(nibabel.load(path).dataobj) > 0
            classes = np.where(mask, 1 + np.arange(8) % 3, 5 * (np.arange(8) == 7)).astype(np.uint8)
            save_volume(path, classes, affine)
    maps = (masks / "truth", masks / "prediction", None, lambda done, total: None)
    with pytest.raises(InputError, match=r"or say which values are vessels \(--labels 1,2\)"):
        evaluate_folders(*maps)
    some = evaluate_folders(*maps, labels=frozenset({1, 2, 3})).results
    assert some["labels"] == [1, 2, 3]
    assert some["metrics"]["dsc/all"]["value"] == plain["metrics"]["dsc/all"]["value"]
    every = evaluate_folders(*maps, labels="nonzero").results
    assert (every["labels"], plain["labels"]) == ("nonzero", None)
    assert every["metrics"]["dsc/all"]["value"] > some["metrics"]["dsc/all"]["value"]
    shown = command("evaluate", "--truth", "truth", "--prediction", "prediction", "--labels", "1-3", cwd=masks)
    assert shown.returncode == 0, shown.stderr
    refused = command("evaluate", "--truth", "truth", "--prediction", "prediction", "--labels", "0,1", cwd=masks)
    assert refused.stderr.startswith("error: --labels '0,1': give values above 0 such as 1,2,5-7")


def test_distances_of_contours_come_on_request_and_say_of_how_many_neighbours(masks: Path, tmp_path: Path) -> None:
    evaluation = evaluate_folders(masks / "truth", masks / "prediction", None, lambda done, total: None, contours=26)
    results = evaluation.results
    assert results["contours"] == 26
    rows = {(row["subject"], row["metric"]): row["value"] for row in results["subjects"]}
    assert rows["case_0", "assd_mm/all"] == 0
    assert 0 < rows["case_1", "assd_voxel/all"] < rows["case_2", "assd_voxel/all"]
    assert results["metrics"]["contour_hd95_mm/all"]["empty"] == 1
    page = write_evaluation(evaluation, tmp_path / "page").read_text()
    assert "ASSD" in page
    assert "one of 26 neighbours" in page
    plain = evaluated(masks)
    assert plain["contours"] is None
    assert not [name for name in plain["metrics"] if name.startswith(("assd", "contour"))]


def test_a_run_asks_for_contours_by_name_and_its_keys_stay_where_it_does_not() -> None:
    assert stage_options({}, "subject") == {}
    assert stage_options({"contours": {"neighbours": 6}}, "subject") == {"contours": {"neighbours": 6}}


def test_a_number_of_neighbours_that_makes_no_contour_is_refused(masks: Path) -> None:
    run = command("evaluate", "--truth", "truth", "--prediction", "prediction", "--contours", 18, cwd=masks)
    assert run.returncode == 2
    assert run.stderr == "error: --contours 18: give 6 or 26, the neighbours of a voxel that decide about a contour\n"
