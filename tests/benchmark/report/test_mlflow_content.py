"""What MLflow shows of a run is the run's: its values, how long it took, and what people wrote beside it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from run_folders import make_run

from benchmark.report.mlflow_content import CURVE_POINTS, Content, contents_of
from benchmark.report.mlflow_mirror import database, open_client, store_uri
from benchmark.report.publish import sync_run
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run

UNET: dict[str, Any] = {
    "steps": 40,
    "best_step": 20,
    "training_samples": {"synthetic": 3},
    "history": [{"step": 20, "validation_loss": -0.5}, {"step": 40, "validation_loss": -0.25}],
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs, which takes MLflow a while to make."""
    out = tmp_path_factory.mktemp("empty")
    (out / "runs").mkdir()
    return database(out)


@pytest.fixture
def out(empty: Path, tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    shutil.copyfile(empty, tmp_path / "runs/mlflow.db")
    return tmp_path


def rows(*values: float) -> list[str]:
    return [f"test,s{number},dsc/all,{value},0" for number, value in enumerate(values)]


def contents(out: Path) -> dict[str, Content]:
    run = load_run(out, "r-p")
    return {content.cell: content for content in contents_of(run, results_of(run), out / "reports/r-p")}


def mirrored(out: Path) -> dict[str, Run]:
    client = open_client(out)
    found = client.search_runs([client.get_experiment_by_name("r-p").experiment_id])
    return {run.data.tags["benchmark.cell"]: run for run in found}


def test_a_changed_cell_keeps_its_run_and_what_people_wrote_into_it(out: Path) -> None:
    make_run(out, {"SN_f16_s0": {"evaluate": {"rows": rows(0.5, 0.7)}, "unet": dict(UNET)}})
    sync_run(out, "r-p")
    before = mirrored(out)["SN_f16_s0"]
    assert before.data.metrics["dsc/all"] == pytest.approx(0.6)
    client = open_client(out)
    client.set_tag(before.info.run_id, "mlflow.note.content", "looks odd")
    client.set_tag(before.info.run_id, "checked", "yes")

    make_run(out, {"SN_f16_s0": {"evaluate": {"rows": rows(0.1, 0.3)}, "unet": UNET | {"history": []}}})
    plan = out / "runs/r-p/run.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"settings": {"unet": {"learning_rate": 0.5}}}))
    sync_run(out, "r-p")
    after = mirrored(out)["SN_f16_s0"]
    assert after.info.run_id == before.info.run_id
    assert after.data.params["unet.learning_rate"] == "0.5"
    assert after.data.tags["mlflow.note.content"] == "looks odd"
    assert after.data.tags["checked"] == "yes"
    history = [metric.value for metric in client.get_metric_history(after.info.run_id, "dsc/all")]
    assert history == [pytest.approx(0.2)], "what was there before is gone"
    assert "unet/validation_loss" not in after.data.metrics


def test_a_note_of_this_program_follows_the_run(out: Path) -> None:
    for value in (0.5, 0.25):
        make_run(out, {"SN_f16_s0": {"evaluate": {"rows": rows(value)}}})
        sync_run(out, "r-p")
        assert f"all vessels {value:.3f}" in mirrored(out)["SN_f16_s0"].data.tags["mlflow.note.content"]


def test_a_duration_is_what_was_computed_without_pauses_and_once_for_what_ran_at_once(out: Path) -> None:
    make_run(out, {"SN_f16_s0": {"gan": {"steps": 9}, "unet": dict(UNET), "evaluate": {"rows": rows(0.5)}}})
    stages = json.loads((out / "runs/r-p/cells/SN_f16_s0.json").read_text())["stages"]
    for role, end in (("gan", 1000.0), ("unet", 1000.25), ("evaluate", 5000.0)):  # each took a second
        os.utime(out / "runs/stages" / stages[role] / "result.json", (end, end))
    assert contents(out)["SN_f16_s0"].span == pytest.approx((5000 - 2.25, 2.25))
    sync_run(out, "r-p")
    info = mirrored(out)["SN_f16_s0"].info
    assert info.end_time - info.start_time == 2250
    assert info.end_time == 5_000_000


def test_what_is_not_run_yet_is_neither_finished_nor_failed(out: Path) -> None:
    make_run(out, {"SN_f16_s0": {"gan": "broke"}, "SN_f16_s1": {"gan": {"steps": 9}}})
    record = out / "runs/r-p/cells/SN_f16_s1.json"
    content = json.loads(record.read_text())
    content["stages"]["unet"] = "train_unet-000000000000"
    record.write_text(json.dumps(content))
    sync_run(out, "r-p")
    found = mirrored(out)
    assert {cell: run.info.status for cell, run in found.items()} == {
        "": "FAILED",
        "SN_f16_s0": "FAILED",
        "SN_f16_s1": "SCHEDULED",
    }
    assert found["SN_f16_s1"].data.tags["status"] == "unfinished"


def test_a_cell_has_the_courses_of_its_trainings_thinned_and_its_options(out: Path) -> None:
    make_run(out, {"SN_f16_s0": {"gan": {"steps": 999}, "unet": dict(UNET)}, "SN_f16_s1": {"unet": dict(UNET)}})
    plan = out / "runs/r-p/run.json"
    settings = {"steps": 999, "lr_critic": 4e-4, "ema": None, "unet": {"steps": 40}, "about": "words", "pairs": 48}
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"settings": settings}))
    found = contents(out)
    with_gan, without = found["SN_f16_s0"], found["SN_f16_s1"]
    assert [point for point in with_gan.metrics if point[0] == "unet/validation_loss"] == [
        ("unet/validation_loss", -0.5, 20),
        ("unet/validation_loss", -0.25, 40),
    ]
    assert with_gan.params.items() >= {"steps": 999, "lr_critic": 4e-4, "unet.steps": 40, "pairs": 48}.items()
    assert "unet.steps" in without.params
    assert without.params.keys().isdisjoint({"steps", "lr_critic", "pairs"}), "of a generator that it has not"
    assert "about" not in with_gan.params


def test_a_long_course_is_thinned_to_its_last_step(out: Path) -> None:
    make_run(out, {"SN_f16_s0": {"gan": {"steps": 9}}})
    lines = [json.dumps({"step": step, "time": 1e9 + step, "cpu": step / 10}) for step in range(1, 1004)]
    (out / "runs/r-p/system.jsonl").write_text("\n".join(lines))
    content = contents(out)[""]
    assert {name for name, _, _ in content.system} == {"system/cpu"}
    assert CURVE_POINTS <= len(content.system) <= 2 * CURVE_POINTS
    assert content.system[-1][2] == 1003
    sync_run(out, "r-p")
    history = open_client(out).get_metric_history(mirrored(out)[""].info.run_id, "system/cpu")
    assert {(metric.step, metric.timestamp) for metric in history} >= {(1003, 1000 * (10**9 + 1003))}


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow's of its own code
def test_everything_of_a_real_run_is_there(finished_smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(finished_smoke)
    experiment = client.get_experiment_by_name("paper-smoke")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent, child, real = runs["paper-smoke"], runs["SN-MP_f16_s0"], runs["real_s0"]
    results = json.loads((finished_smoke / "reports/paper-smoke/results.json").read_text())

    verdicts = [claim["verdict"] for claim in results["claims"]]
    assert parent.data.metrics["claims/inconclusive"] == verdicts.count("inconclusive")
    (all_vessels,) = [region for region in results["answer"]["regions"] if region["metric"] == "dsc/all"]
    assert parent.data.metrics["gap/all"] == all_vessels["difference"]
    assert results["answer"]["warnings"][0] in parent.data.tags["mlflow.note.content"]
    assert "its numbers mean nothing" in parent.data.tags["mlflow.note.content"]
    page = finished_smoke / "reports/paper-smoke/index.html"
    copied = Path(client.download_artifacts(parent.info.run_id, "report/index.html"))
    assert copied.read_bytes() == page.read_bytes()

    cell = next(each for each in results["cells"] if each["id"] == "SN-MP_f16_s0")
    assert child.data.metrics["fid_over_floor"] == cell["metrics"]["fid"]["value"] / results["floor"]["metrics"]["fid"]
    assert child.data.tags.items() >= {"protocol": "paper", "profile": "smoke", "variant": "SN-MP"}.items()
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"prd.svg", "samples.png"}
    (data,) = child.inputs.dataset_inputs
    assert data.dataset.name == "embedded phantom"
    assert results["data"]["sha256"].startswith(data.dataset.digest)
    assert "precision" not in real.data.params, "which it has not"

    models = client.search_logged_models([experiment.experiment_id])
    assert sorted(model.name for model in models) == ["generator"] * 4 + ["unet"] * 5
    mine = {model.name: model for model in models if model.source_run_id == child.info.run_id}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(finished_smoke))
    generator, unet = (mlflow.pyfunc.load_model(f"models:/{mine[name].model_id}") for name in ("generator", "unet"))
    pairs = generator.predict(pd.DataFrame({"count": [3], "seed": [0]}))
    made = finished_smoke / "runs/stages" / cell["stages"]["pairs"] / "labels.npy"
    np.testing.assert_array_equal(pairs[:, 1] > 0, np.load(made)[:3])  # the run's own seed is 0
    chances = unet.predict(pairs[:, 0])
    assert chances.shape == (3, 32, 32, 16)
    assert 0 <= chances.min() < chances.max() <= 1
