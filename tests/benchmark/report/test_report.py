"""The page, rendered from run folders whose stages were written by hand: nothing is trained here."""

import csv
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.artifacts.error_maps import save_maps
from benchmark.artifacts.store import Spec, Store
from benchmark.claims.utility import worth_in_words
from benchmark.datasets.source import choose_source
from benchmark.plan import build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.report.results_json import results_of
from benchmark.report.run_page import render_report
from benchmark.report.sections.claims import claim_views
from benchmark.report.sections.median_patches import median_patches
from benchmark.report.sections.segmentations import segmented_subjects
from benchmark.report.sections.text import arm_marks, number
from benchmark.results.rows import subject_rows
from benchmark.results.run_folder import Run, load_run
from benchmark.results.summary import summarise
from benchmark.run.scheduler import write_run_folder
from vesselgan.data import LoadedSubject, open_store, write_store
from vesselgan.metrics import block_means, mirrored

PATCH = (16, 16, 16)
SEGMENTATION = ("dsc", "bavd_voxel", "bavd_mm")
PROTOCOL = """
protocol: tiny
title: A title with <script>alert("x")</script> & more
default_profile: smoke
profiles:
  smoke:
    about: For <b>tests</b>.
    trial: true
    recipe: corrected
    phantom: {shape: [32, 32, 16]}
    split: {train: 2, validation: 1, test: 3}
    patch: [16, 16, 16]
    steps: 3
    precision: {full: fp32, mixed: bf16}
    score: {extractor: random_resnet10, samples: 4}
matrix: {variant: [SN, SN-MP], seed: [0, 1]}
metrics: {fid: {}, prd: {clusters: 2, runs: 2}}
reference:
  dsc/intracranial @ real: {value: 0.901, source: abstract}
claims:
  - "mixed precision lowers <i>FID</i>":  {less: [fid @ SN-MP, fid @ SN]}
  - real data are better:                 {greater: [dsc/all @ real, dsc/all @ SN]}
  - mixed precision lowers the time:      {less: [step_time_ms @ SN-MP, step_time_ms @ SN], must_hold: true}
  - real data score as published:         {compatible: dsc/intracranial @ real, within: 0.03}
  - SN-MP is the best:                    {best: [dsc/all @ SN-MP, fid @ SN-MP], scope: training procedure}
"""

Values = Mapping[str, Any]


def make_run(out: Path, *, mask: bool = True, failed: str = "", empty: int = 0, protocol_text: str = PROTOCOL) -> Run:
    """A run folder with every stage done, but for those whose key starts with `failed` and those that need them."""
    protocol_file = out / "tiny.yaml"
    out.mkdir(exist_ok=True)
    protocol_file.write_text(protocol_text, encoding="utf-8")
    protocol = load_protocol(protocol_file)
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, None, remember=out / "runs")
    plan = build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")
    store = Store(out / "runs")
    write_run_folder(plan, store, out, protocol_text)
    for index, (key, spec) in enumerate(plan.specs.items()):
        if failed and key.startswith(failed):
            store.fail(key, "ValueError: a loss was <nan>", "traceback")
        if failed and (key.startswith(failed) or not all(map(store.done, spec.inputs.values()))):
            continue
        values = WRITERS[spec.stage](spec, store.folder(key), np.random.default_rng(index), mask, empty)
        store.finish(key, values, {"seconds": 1.0})
    return load_run(out, "tiny-smoke")


def write_data(spec: Spec, folder: Path, rng: np.random.Generator, mask: bool, _: int) -> Values:
    splits = spec.options["split"]
    label = np.zeros((32, 32, 16), dtype=bool)
    label[4:28, 16, 8] = True
    head = np.ones_like(label) if mask else None
    spacing = (2.0, 1.0, 1.0)
    subjects = [
        LoadedSubject(key, rng.random(label.shape, dtype=np.float32), label, head, np.diag([*spacing, 1.0]), spacing)
        for keys in splits.values()
        for key in keys
    ]
    write_store(folder / "store", subjects, splits=splits, patch_size=PATCH, grid=(2, 2, 1), vessel=2, rng=rng)
    counts = {name: len(keys) for name, keys in splits.items()}
    return {
        "subjects": counts,
        "patches": {name: 6 * count for name, count in counts.items()},
        "shapes": [[32, 32, 16]],
        "spacings_mm": [list(spacing)],
        "vessel_share": 0.01,
        "with_brain_mask": len(subjects) if mask else 0,
        "brain_mask_computed": 1 if mask else 0,
    }


def write_gan(spec: Spec, folder: Path, rng: np.random.Generator, *_: Any) -> Values:
    steps: list[dict[str, Any]] = [
        {"step": step, "wasserstein": rng.normal(), "penalty": 1.0 + step} for step in range(3)
    ]
    steps[1]["wasserstein"] = None  # a step whose loss was no number
    steps[2]["score_gap"] = 0.5
    (folder / "steps.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n", encoding="utf-8")
    images = rng.integers(-127, 128, (2, 2, 16, 16), dtype=np.int8)
    np.savez(folder / "course.npz", steps=np.array([1, 3]), images=images, labels=images > 99)
    return {"steps": 3, "privacy": None}


def write_pairs(spec: Spec, folder: Path, rng: np.random.Generator, *_: Any) -> Values:
    images = rng.integers(-32767, 32767, (3, *PATCH), dtype=np.int16)
    np.savez(folder / "shown.npz", images=images, labels=images > 30000)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", images > 30000)
    return {"pairs": 3}


def write_scores(spec: Spec, folder: Path, rng: np.random.Generator, *_: Any) -> Values:
    angles = np.linspace(0, 1, 1001) * np.ones((2, 1))
    np.savez(folder / "prd.npz", precision=angles, recall=1 - angles)
    metrics = {"fid": float(rng.uniform(0.1, 0.2)), "kid": 4e-6, "prd_auc": 0.5}
    facts = {"samples": 4, "extractor": "random_resnet10", "reference": "held_out"}
    labels = {"vessel_share_synthetic": 0.02, "vessel_share_real": 0.01}
    return {
        "metrics": metrics,
        "facts": facts,
        "warnings": ["4 samples for 512 features"],
        "labels": labels,
        "meaning": "m",
    }


def write_reference(spec: Spec, folder: Path, rng: np.random.Generator, *more: Any) -> Values:
    store = open_store(folder.parent / spec.inputs["data"] / "store")
    for name, splits in (("train", ["train"]), ("held_out", ["validation", "test"])):
        indices = np.concatenate([store.patches(split) for split in splits])
        np.savez(folder / f"{name}.npz", indices=indices, blocks=block_means(store.cut_pairs(indices, "volume")[0]))
    return write_scores(spec, folder, rng, *more)


def write_unet(spec: Spec, folder: Path, rng: np.random.Generator, *_: Any) -> Values:
    (folder / "steps.jsonl").write_text('{"step": 0, "loss": -0.1}\n{"step": 1, "loss": -0.2}\n', encoding="utf-8")
    samples = (
        {"real": 6 * len(spec.options.get("real", [0, 0]))} if "real" in spec.options or len(spec.inputs) == 1 else {}
    )
    samples |= {"synthetic": 3} if "pairs" in spec.inputs else {}
    history = [{"step": 2, "validation_loss": -0.2}]
    return {"history": history, "training_samples": samples, "steps": 2, "best_step": 2}


def write_evaluation(spec: Spec, folder: Path, rng: np.random.Generator, mask: bool, empty: int) -> Values:
    store = open_store(folder.parent / spec.inputs["data"] / "store")
    with (folder / "subjects.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "subject", "metric", "value", "empty"])
        for split in ("validation", "test"):
            for index, subject in enumerate(store.keys(split)):
                for metric in SEGMENTATION:
                    value = rng.uniform(0.5, 0.9)
                    writer.writerow([split, subject, f"{metric}/all", value, int(index < empty)])
                    writer.writerow([split, subject, f"{metric}/intracranial", value if mask else "", 0])
    for index, key in enumerate(store.keys("test")):
        truth = np.asarray(store.label(key))
        prediction = np.roll(truth, 3, axis=0) & (index >= empty)
        subject = store.subject(key)
        save_maps(folder, key, truth, prediction, np.asarray(subject.affine), subject.spacing_mm)
    return {}


def write_costs(spec: Spec, folder: Path, rng: np.random.Generator, *_: Any) -> Values:
    def measured(scale: float) -> Values:
        times = [100.0 * scale, 102.0 * scale, 99.0 * scale, 101.0 * scale, 98.0 * scale, 100.0 * scale]
        return {"step_time_ms": times, "steps_timed": 18, "emulated": False, "peak_memory_mib": 8.0 * scale}

    configurations = {label: measured(0.5 if label == "SN-MP" else 1) for label in spec.options["configurations"]}
    return {"configurations": configurations, "memory_definition": "live tensor bytes", "threads": 2}


WRITERS: dict[str, Callable[..., Values]] = {
    "verify": lambda *_: {"operations": 44, "faults": []},
    "prepare": write_data,
    "train_gan": write_gan,
    "synthesise": write_pairs,
    "reference": write_reference,
    "fit_untrained": lambda *_: {"rules": {}},
    "evaluate_untrained": write_evaluation,
    "score": write_scores,
    "train_unet": write_unet,
    "evaluate": write_evaluation,
    "measure": write_costs,
}


def render(run: Run, folder: Path, **changes: Any) -> str:
    """The page, with the line breaks of its text removed."""
    render_report(run, results_of(run) | changes, folder)
    return " ".join((folder / "index.html").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(run, tmp_path_factory.mktemp("page"))


def start_tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Collector().feed(page)
    return tags


def test_the_page_needs_no_other_file(page: str) -> None:
    tags = start_tags(page)
    links = [
        value for _, attributes in tags for name in ("href", "src", "xlink:href") if (value := attributes.get(name))
    ]
    assert links
    own_files = {"results.json", "cells.csv", "groups.csv", "subjects.csv", "claims.csv", "table.md", "summary.txt"}
    assert {link for link in links if not link.startswith(("#", "data:image/png;base64,"))} == own_files
    assert not {tag for tag, _ in tags} & {"link", "iframe", "object"}
    assert [attributes for tag, attributes in tags if tag == "script" and "src" not in attributes]
    assert not [attributes for tag, attributes in tags if tag == "script" and "src" in attributes]
    assert "url(http" not in page
    assert "@import" not in page


def test_ids_are_unique_and_every_reference_inside_the_page_exists(page: str) -> None:
    tags = start_tags(page)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="|url\()#([^")]+)', page)
    assert set(targets) <= set(ids)


def test_each_claim_has_its_verdict_in_words_its_effect_and_its_reason(page: str) -> None:
    assert "Of 5 claims: 1 supported, 3 inconclusive and 1 not comparable." in page
    assert '<span class="chip">supported</span>' in page
    assert "2 seeds: at least 3 more are needed" in page
    assert "Training step of SN-MP is less than training step of SN." in page
    assert "−50.0 ms" in page
    assert "6 interleaved rounds · about this machine" in page
    assert "exact sign-flip permutation: p = 0.031" in page


def test_the_page_says_that_a_phantom_can_refute_no_paper(page: str) -> None:
    assert '<span class="chip">not comparable</span>' in page
    assert "An embedded phantom can neither confirm nor refute what was measured on patients." in page
    assert "nothing on this page can refute the paper" in page


def test_a_claim_with_several_comparisons_shows_each(page: str) -> None:
    assert '<th scope="row">minus SN, DSC of all vessels</th>' in page
    assert '<th scope="row">minus SN, FID</th>' in page


def test_what_must_hold_is_marked(page: str) -> None:
    assert page.count("must hold</small>") == 1


def test_precision_claims_and_ratios_carry_the_note_on_bf16(page: str) -> None:
    assert page.count("bf16 on a CPU is not the paper's fp16 on a GPU".replace("'", "&#39;")) == 4
    assert "0.50" in page[page.index("SN-MP / SN") :][:200]


def costs_of(label: str, **more: Any) -> Callable[..., Values]:
    """Writes costs with something more to say of one label."""

    def write(*arguments: Any) -> Values:
        values = write_costs(*arguments)
        values["configurations"][label] |= more
        return values

    return write


def test_an_emulated_precision_gives_no_ratio_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITERS, "measure", costs_of("SN-MP", emulated=True))
    page = render(make_run(tmp_path), tmp_path / "page")
    assert "this precision is emulated here" in page
    assert "n/a<sup>a</sup>" in page[page.index("SN-MP / SN") :][:200]


def test_a_busy_machine_and_a_wrong_kernel_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITERS, "measure", costs_of("SN-MP", busy="other programs used 1.3 of 2 cores"))
    run = make_run(tmp_path)
    fault = {"operation": "convolution 8x64x4x4x2 by 128x64x3x3x3", "format": "bf16", "error": None, "way": "float32"}
    run.environment["numerics"] = [{"network": "wgan", "precision": "bf16", "operations": 44, "faults": [fault]}]
    page = render(run, tmp_path / "page")
    assert "measured on a busy machine, so the time enters no claim: other programs used 1.3 of 2 cores" in page
    assert "n/a<sup>a</sup>" in page[page.index("SN-MP / SN") :][:200]
    told = "bf16 on this processor: 1 of 44 operations of a wgan are wrong in this PyTorch"
    assert page.count(told) == 3, "among the warnings, with the machine, and to reproduce it"
    assert "computed in float32" in page


def test_labels_of_other_people_stand_before_the_numbers(run: Run, tmp_path: Path) -> None:
    results = results_of(run)
    cells = [
        cell | {"recipe_options": cell["recipe_options"] | {"pairing": "listing_order"}} for cell in results["cells"]
    ]
    for mispaired, told in ((0, 0), (7, 1)):
        page = render(run, tmp_path, cells=cells, data=results["data"] | {"mispaired": mispaired})
        assert page.count("Images with the labels of other people") == told
        assert page.count("7 subjects had another one&#39;s label") == told


def test_notes_say_what_the_numbers_are_worth(page: str, run: Run, tmp_path: Path) -> None:
    for text in ("These numbers mean nothing", "can neither confirm nor refute", "2 seeds only", "random_resnet10"):
        assert text in page
    real = render(run, tmp_path, data={"description": "scans", "phantom": False})
    assert "pseudo-labels" in real
    assert "can neither confirm nor refute what the paper found" not in real


def test_text_of_users_is_escaped_wherever_it_stands(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "<b>tests" not in page
    assert "<i>FID" not in page


def test_results_and_page_say_where_brain_masks_come_from(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    page = render(run, tmp_path / "page")
    assert "with a brain mask, of which 1 computed from the image" in page
    masks = summarise(run, subject_rows(run), subject_rows(run))["brain_masks"]
    assert masks["computed"] == 1
    assert masks["none"] == 0
    assert masks["dataset"] > 0


def test_a_dataset_without_brain_mask_gives_no_intracranial_values_but_their_reason(tmp_path: Path) -> None:
    page = render(make_run(tmp_path, mask=False), tmp_path / "page")
    assert "n/a<sup>a</sup>" in page
    assert "the dataset has no brain mask" in page
    answer = page.partition('<section id="answer">')[2].partition("</section>")[0]
    assert "DSC, all vessels" in answer
    assert "DSC, intracranial" not in answer  # the main comparison falls back


def test_failed_cells_are_listed_with_their_error_and_the_others_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, failed="train_gan")
    page = render(run, tmp_path / "page")
    assert "4 of 8 cells are missing" in page
    assert "SN_f512_s0: failed (gan: ValueError: a loss was &lt;nan&gt;)" in page
    assert "no cell of this label has got this far" in page
    assert "found, missed and invented" in page


def test_the_page_of_a_run_that_goes_on_says_what_is_to_come(tmp_path: Path) -> None:
    run = make_run(tmp_path, failed="train_gan")
    for key in {record["stages"][role] for record in run.cells for role in ("gan",) if role in record["stages"]}:
        (run.store.folder(key) / "error.json").unlink(missing_ok=True)
    goes_on = render(load_run(tmp_path, run.name, is_running=True), tmp_path / "page")
    assert "4 of 8 cells are still to come" in goes_on
    assert "<code>SN_f512_s0</code> still to come" in goes_on
    assert "cells are missing" not in goes_on
    assert '<body class="report" data-running>' in goes_on
    ended = render(load_run(tmp_path, run.name), tmp_path / "page")
    assert "4 of 8 cells are missing" in ended
    assert '<body class="report">' in ended


def test_what_departs_from_the_paper_stands_before_the_numbers(run: Run, page: str, tmp_path: Path) -> None:
    assert "Not as in the paper" not in page
    settings = results_of(run)["settings"]
    unet = settings["unet"] | {"threshold": "validation", "ema": 0.9, "augmentation": {"rotation": 15, "gamma": 1.5}}
    changed = render(run, tmp_path, settings=settings | {"unet": unet, "ema": 0.99})
    head = changed.partition('<section id="answer">')[0]
    assert "chosen on the validation subjects (0.5 in the paper)" in head
    assert "patches were turned and varied in intensity (not in the paper&#39;s code)" in head
    assert "(EMA) of the weights of the generators and U-Nets" in head


def test_a_spread_over_few_seeds_says_so(run: Run, page: str) -> None:
    group = next(group for group in results_of(run)["groups"] if group["label"] == "SN")
    fid = group["metrics"]["fid"]
    assert fid["n"] == 2
    assert fid["sd"] is not None
    assert f"<small>± {fid['sd']:.4f}</small><small>(n = 2)</small>" in page


def test_only_what_beats_every_other_label_is_bold(run: Run, tmp_path: Path) -> None:
    results = results_of(run)
    assert all(not leader["significant"] for leader in results["leaders"] if leader["metric"].startswith("dsc"))
    tables = render(run, tmp_path).partition('<section id="segmentation">')[2].partition("</section>")[0]
    assert "<td><strong>" not in re.sub(' data-value="[^"]*"', "", tables)
    leader = {"metric": "dsc/all", "label": "SN", "significant": True, "rival": "real", "p": 0.01, "reason": None}
    told = render(run, tmp_path, leaders=[leader]).partition('<section id="segmentation">')[2].partition("</table>")[0]
    assert re.sub(' data-value="[^"]*"', "", told).count("<td><strong>") == 1
    row = next(row for row in told.split("<tr") if "</span>SN</span>" in row)
    assert "<strong>" in row


def test_captions_have_the_region_of_the_answer_first(page: str) -> None:
    section = page[page.index('<section id="volume">') : page.index('<section id="cost">')]
    lines = re.findall('<small class="line">(.*?)</small>', section)
    assert [line.partition(":")[0] for line in lines[:2]] == ["intracranial", "all vessels"]
    assert "patient" not in section


# A thousand cells of few labels with many seeds, and of many labels with few.
MANY = {
    "seeds": (f"matrix: {{variant: [SN, SN-MP, c-SN-MP], seed: {list(range(250))}}}", PROTOCOL),
    "labels": (
        "matrix: {variant: [SN, SN-MP, c-SN-MP], filters: [16, 24, 32, 40, 48, 56, 64], "
        "batch: [2, 3, 4, 5, 6, 7, 8, 9, 10], seed: [0, 1, 2, 3, 4]}",
        PROTOCOL.partition("claims:")[0],
    ),
}


def measured(folder: Path, *command: str) -> tuple[float, float]:
    """Processor seconds and peak MiB of a command that works. It runs without MLflow, which `report` does not call.

    The peak is the kernel's VmHWM: that of `wait4` begins with what the parent had when it forked.
    """
    code = """
import atexit, sys
sys.modules["mlflow"] = None
atexit.register(lambda: open("peak", "w").write(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]))
from benchmark.__main__ import main
main()
"""
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, "-c", code, *command], cwd=folder, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, said.read()[-2000:]
    return usage.ru_utime + usage.ru_stime, int((folder / "peak").read_text()) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", MANY)
def test_a_thousand_cells_are_listed_planned_found_again_and_shown_in_seconds(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds are those of a quiet machine, for processor time alone, and twice as high: others may use the cores."""
    matrix, text = MANY[kind]
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of 20,000 files it would take minutes, and is not what is timed
    run = make_run(tmp_path, protocol_text=text.replace("matrix: {variant: [SN, SN-MP], seed: [0, 1]}", matrix))
    monkeypatch.undo()
    assert len(run.cells) > 900
    here = ["--device", "cpu", "--out", "."]
    commands = {
        "ls": (1, ["ls", "tiny.yaml"]),
        "dry run": (5, ["run", "tiny.yaml", "--dry-run", *here]),
        # Most of it for three steps that are counted, 512 and 1024 filters wide, however many cells have them.
        "dry run of nothing yet": (10, ["run", "tiny.yaml", "--dry-run", "--device", "cpu", "--out", "elsewhere"]),
        "report": (20, ["report", "tiny-smoke"]),
        "runs": (5, ["runs"]),
    }
    for name, (most_s, command) in commands.items():
        seconds, mib = measured(tmp_path, *command)
        print(f"\n{kind}, {name}: {seconds:.1f} s of processor (at most {most_s} s on a quiet machine), {mib:.0f} MiB")
        assert seconds < 2 * most_s, name
        assert mib < 1024, name
    assert (tmp_path / "reports/tiny-smoke/index.html").stat().st_size < 10_000_000


@pytest.mark.parametrize("stage", ["prepare", "measure", "reference", "synthesise", "train_unet"])
def test_the_page_survives_the_loss_of_any_stage(stage: str, tmp_path: Path) -> None:
    assert "Glossary" in render(make_run(tmp_path, failed=stage), tmp_path / "page")


def test_a_run_without_claims_metrics_or_references_still_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, failed="prepare")
    results = results_of(run)
    cells = [cell | {"metrics": {}} for cell in results["cells"]]
    groups = [group | {"metrics": {}} for group in results["groups"]]
    nothing: dict[str, Any] = {"claims": [], "reference": {}, "floor": None, "subjects": []}
    page = render(run, tmp_path / "page", cells=cells, groups=groups, **nothing)
    assert "This protocol makes no claims." in page
    assert "No cell has segmented the test subjects yet." in page
    assert "Costs have not been measured." in page


def test_empty_predictions_are_counted(tmp_path: Path) -> None:
    page = render(make_run(tmp_path, empty=2), tmp_path / "page")
    assert "SN: in 4 of 6 segmentations the prediction (or the truth) was empty" in page


def test_the_recipe_says_where_it_follows_the_papers_code(run: Run, page: str, tmp_path: Path) -> None:
    assert "penalty_norm" in page
    results = results_of(run)
    options = results["cells"][0]["recipe_options"] | {"penalty_norm": "batch"}
    cells = [cell | {"recipe": "custom", "recipe_options": options} for cell in results["cells"]]
    changed = render(run, tmp_path, cells=cells)
    marked = '<strong>batch</strong> <span class="code-mark">paper code</span>'
    assert marked in changed
    assert marked not in page


def test_settings_show_the_papers_value_beside_the_profiles(page: str) -> None:
    row = page[page.index("<code>patch</code>") :][:200]
    assert "16 × 16 × 16" in row
    assert "128 × 128 × 64" in row
    assert "<code>batch</code>" not in page  # as in the paper


def test_two_renderings_are_equal_byte_for_byte(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        render(run, tmp_path / name)
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()


def test_the_report_imports_neither_torch_nor_mlflow() -> None:
    code = "import sys, benchmark.report.run_page; print(sorted({'torch', 'mlflow'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"


def test_a_private_variant_is_told_with_every_number_behind_its_epsilon(run: Run, tmp_path: Path) -> None:
    spent = {
        "epsilon": 12.345,
        "delta": 1 / 2350,
        "noise_multiplier": 0.3,
        "clip_norm": 1.0,
        "sample_rate": 4 / 2350,
        "noisy_updates": 5870,
        "accountant": "opacus RDP, Poisson sampling",
        "unit": "one training patch",
        "caveats": ["critic passes share a batch"],
    }
    cells = [cell | {"privacy": spent if cell["label"] == "SN" else None} for cell in results_of(run)["cells"]]
    page = render(run, tmp_path, cells=cells)
    told = (
        "SN is differentially private: epsilon 12.3 at delta 0.00043, noise multiplier 0.3, clipping norm 1, sampling "
    )
    assert page.count(told) == 1  # once for both seeds
    assert "rate 0.0017, 5870 noisy updates (opacus RDP, Poisson sampling; protected unit: one training patch" in page
    assert "critic passes share a batch" in page


def test_steps_that_were_not_applied_are_told_where_there_are_any(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not applied" not in page

    def write(*arguments: Any) -> Values:
        counts = {"not finite": 1, "absurd": 2, "loss scale": 0}
        return {**write_gan(*arguments), "steps_rejected": counts}

    monkeypatch.setitem(WRITERS, "train_gan", write)
    told = render(make_run(tmp_path), tmp_path / "page")
    assert "Steps that were not applied" in told
    section = told[told.index("Steps that were not applied") :]
    lines = re.findall("<li>(.*?)</li>", section[: section.index("</ul>")])
    what = "WGAN: of 3 steps, 1 gave a loss or gradient that was not finite, 2 gave one that was absurdly large."
    assert lines == [f"{label}, seed {seed}, {what}" for label in ("SN", "SN-MP") for seed in (0, 1)]


def test_what_the_same_noise_becomes_is_shown_over_the_training(page: str) -> None:
    assert page.count('alt="SN after 1 steps"') == page.count('alt="SN-MP after 3 steps, label"') == 1
    assert "does the critic know its patches by heart?" in page


def test_a_run_of_costs_alone_speaks_of_nothing_else(run: Run, tmp_path: Path) -> None:
    run.plan["only"] = "costs"
    try:
        page = render(run, tmp_path)
    finally:
        del run.plan["only"]
    assert "Nothing was trained: this run measures what one training step of 5 configurations costs" in page
    assert "Can a segmentation network learn" not in page
    assert "seeds only" not in page
    assert "Time, throughput and memory of one training step" in page


def test_no_p_is_zero_and_no_effect_loses_its_size_to_rounding() -> None:
    from benchmark.commands.claims import _p
    from benchmark.report.sections.text import signed
    from benchmark.words import p_words

    assert (p_words(0.0), p_words(0.0004), p_words(0.004), p_words(0.4)) == ("< 0.001", "< 0.001", "= 0.004", "= 0.40")
    assert (_p(0.0), _p(0.004), _p(None)) == ("< 0.001", "0.004", "")
    assert signed(-0.04, 1) == "−4.0 × 10⁻²"


def test_the_strip_shades_the_side_on_which_the_claim_holds(run: Run) -> None:
    views, _ = claim_views(results_of(run))
    lower, greater = views[2].strip, views[1].strip
    assert lower is not None
    assert greater is not None
    assert lower.holds_from == 0
    assert lower.effect < lower.bounds[0] == lower.holds_width
    assert greater.holds_from == greater.bounds[0]
    assert greater.holds_from + greater.holds_width == pytest.approx(100)


ARMS = PROTOCOL.replace("metrics: {", "arms: {real: [1], real + SN: [1, all]}\nmetrics: {").replace(
    "real data are better:                 {greater: [dsc/all @ real, dsc/all @ SN]}",
    "it helps: {greater: [dsc/all @ real + SN, dsc/all @ real n=1]}",
)


@pytest.fixture(scope="module")
def run_of_arms(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("arms"), protocol_text=ARMS)


def test_what_a_synthetic_set_is_worth_is_said_drawn_and_tabulated(run_of_arms: Run, tmp_path: Path) -> None:
    results = results_of(run_of_arms)
    page = render(run_of_arms, tmp_path)
    section = page.partition('<section id="utility">')[2].partition("</section>")[0]
    assert [entry["metric"] for entry in results["utility"]] == ["dsc/intracranial", "dsc/all"]
    for entry in results["utility"]:
        assert [point["label"] for point in entry["curve"]] == ["real n=1", "real"]
        assert [arm["label"] for arm in entry["arms"]] == ["SN", "SN-MP", "real n=1 + SN", "real + SN"]
        for arm in entry["arms"]:
            assert " ".join(worth_in_words(arm).split()) in section
    assert section.count('<svg class="chart"') == 2
    assert "at most 20000 steps of 8 patches, validated after every 588; it stops after 3 validations" in section
    rows = {row.partition("</span></th>")[0].rpartition("</span>")[2]: row for row in section.split("<tr")}
    assert re.findall(r"<td>(\d+)<", rows["real n=1"])[:3] == ["1", "6", "0"]
    assert re.findall(r"<td>(\d+)<", rows["real + SN"])[:3] == ["2", "12", "3"]
    assert re.findall(r"<td>(\d+)<", rows["SN-MP"])[:3] == ["0", "0", "3"]
    assert '<a href="#utility">' in page


def test_mixtures_are_neither_baselines_nor_synthetic(run_of_arms: Run, tmp_path: Path) -> None:
    results = results_of(run_of_arms)
    page = render(run_of_arms, tmp_path)
    assert "further ones from the patches of fewer real subjects and from real and synthetic patches together" in page
    distances = page.partition('<section id="distances">')[2].partition("</section>")[0]
    assert "SN-MP" in distances
    assert "real + SN" not in distances
    answer = page.partition('<div class="answer-table">')[2].partition("</table>")[0]
    assert "DSC, all vessels" in answer
    assert "real n=1" not in answer
    assert "real + SN" not in answer
    (best,) = (claim for claim in results["claims"] if claim["kind"] == "best")
    assert {c["right"] for c in best["comparisons"]} == {"SN"}
    (helps,) = (claim for claim in results["claims"] if claim["name"] == "it helps")
    assert helps["n"] == 3


def test_a_run_without_arms_has_no_such_section(run: Run, page: str) -> None:
    assert results_of(run)["utility"] == []
    assert "utility" not in page


def test_the_same_test_subjects_are_shown_for_every_label_from_worst_to_best(run: Run, page: str) -> None:
    section = page[page.index('<section id="volume">') : page.index('<section id="cost">')]
    store = open_store(run.store.folder(run.cells[0]["stages"]["data"]) / "store")
    titles = re.findall(r"<h3>(\S+) <small>(\w+) DSC, (\S+) on average</small></h3>", section)
    assert {key for key, _, _ in titles} == set(store.keys("test"))
    assert [rank for _, rank, _ in titles] == ["lowest", "median", "highest"]
    assert sorted(float(mean) for _, _, mean in titles) == [float(mean) for _, _, mean in titles]
    assert section.count("<img ") == 3 * (2 + 5)  # image, truth and five labels
    assert len(page) < 1_500_000


def test_the_answer_shows_patches_of_median_distance_and_not_the_best(run: Run, page: str) -> None:
    answer = results_of(run)["answer"]
    shown = median_patches(run, results_of(run), arm_marks(results_of(run)["cells"]))
    assert shown is not None
    assert [patch.title for patch in shown.patches] == ["real", "synthetic", "nearest real"]
    place = page.index(shown.patches[1].image.uri)
    assert page.index('<div class="answer-table">') < place < page.index('<ol class="claims'), "words come first"
    record = next(record for record in run.cells if record["cell"]["label"] == answer["label"])
    stages = record["stages"]
    made = np.load(run.store.folder(stages["pairs"]) / "images.npy") / 32767
    with np.load(run.store.folder(stages["reference"]) / "train.npz") as train:
        real = np.stack(
            [block / block.std() for block in train["blocks"] - train["blocks"].mean((1, 2, 3), keepdims=True)]
        )
    blocks = block_means(made)
    blocks = np.stack([block / block.std() for block in blocks - blocks.mean((1, 2, 3), keepdims=True)])
    distances = [
        min(
            np.linalg.norm(copy - other.ravel()) for copy in mirrored(blocks[index : index + 1])[:, 0] for other in real
        )
        for index in range(len(made))
    ]
    assert f"{sorted(distances)[1]:.3g} away" in shown.patches[1].about, "the middle one of three"


def test_every_label_has_its_share_of_the_real_gain_on_the_page(run: Run, page: str) -> None:
    section = page.partition('<section id="segmentation">')[2].partition("</section>")[0]
    rows = section.partition("The share of the real gain")[2].partition("</table>")[0].split("<tr")
    gains = results_of(run)["gain"]
    assert len(gains) == 4, "two labels in two regions"
    for gain in gains:
        (row,) = (row for row in rows if f"</span>{gain['label']}</span>" in row)
        assert gain["untrained"] in row
        assert ("n/a" in row) == any(g["value"] is None for g in gains if g["label"] == gain["label"])
        if gain["value"] is not None:
            assert number(gain["value"], 2) in row


def test_bad_news_stand_before_every_number_and_picture_of_the_answer(run: Run, tmp_path: Path) -> None:
    results = results_of(run)
    answer = results["answer"] | {"warnings": ["No better than no learning at all."]}
    section = render(run, tmp_path, answer=answer).partition('<section id="answer">')[2].partition("</section>")[0]
    first = section.index("No better than no learning at all.")
    assert first < section.index("<img ")
    assert first < section.index('<div class="answer-table">')


def test_an_empty_prediction_is_drawn_as_all_missed(tmp_path: Path) -> None:
    run = make_run(tmp_path, empty=3)
    folder = run.store.folder(run.cells[0]["stages"]["evaluate"])
    assert not (folder / "distances").exists()
    assert '<section id="volume">' in render(run, tmp_path / "page")
    (shown, *_) = segmented_subjects(run, results_of(run), arm_marks(results_of(run)["cells"]))
    encoded = shown.tiles[0].picture.uri.partition(",")[2]
    pixels = np.asarray(Image.open(BytesIO(b64decode(encoded))).convert("RGB"))
    missed = (pixels == [0xFF, 0xB0, 0x00]).all(axis=2)
    assert missed.sum() == 24  # the length of the only vessel
