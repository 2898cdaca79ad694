"""A metric is one file: this one registers two, and finds them wherever a run tells of metrics."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.metrics import Estimate, FeatureSets, MaskPair, Metric, Options, metric
from benchmark.metrics.loading import MODULES
from benchmark.metrics.registry import MEASUREMENTS
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.json_schema import protocol_json_schema
from benchmark.protocol.load import load_protocol
from benchmark.report.exports import write_tables
from benchmark.report.results_json import results_of
from benchmark.report.run_page import render_report
from benchmark.results.run_folder import load_run
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import write_run_folder
from vesselgan.errors import InputError

SEEN: list[FeatureSets] = []


class ShiftOptions(Options):
    """An option, to see that it comes through."""

    scale: float = 1.0


def shift_between(real: Any, generated: Any) -> float:
    return float(np.linalg.norm(real.mean(axis=0) - generated.mean(axis=0)))


def mean_shift(sets: FeatureSets, options: ShiftOptions) -> Estimate:
    """Between the means of the features."""
    SEEN.append(sets)
    return sets.jackknifed(lambda real, generated: options.scale * shift_between(real, generated))


def jaccard(masks: MaskPair) -> float:
    """|both| / |either|."""
    either = (masks.truth | masks.prediction).sum()
    return float((masks.truth & masks.prediction).sum() / either) if either else 1.0


def register(*, version: int = 1) -> None:
    """As a file of one's own would: with the decorator above each function."""
    metric(
        Metric("mean_shift", "shift of the mean", better="lower", unit="units", decimals=5, biased_by_n=False),
        kind="set",
        options=ShiftOptions,
        version=version,
        glossary={"Shift of the mean": "How far the clouds' centres lie apart."},
    )(mean_shift)
    metric(
        Metric("jaccard", "Jaccard", better="higher", limits=(0, 1)),
        kind="subject",
        glossary={"Jaccard": "What two masks share, over what either holds."},
    )(jaccard)


def forget() -> None:
    for name in ("mean_shift", "jaccard"):
        MEASUREMENTS.pop(name, None)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """For as long as this module's tests last: all others are about the metrics that are built in."""
    register()
    yield
    forget()


PROTOCOL = """
protocol: tiny
title: Two metrics more
default_profile: one
profiles:
  one:
    recipe: corrected
    phantom: {shape: [48, 48, 32]}
    split: {train: 3, validation: 1, test: 8}
    patch: [32, 32, 16]
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
matrix: {variant: [SN, GP], seed: [0]}
metrics: {mean_shift: {scale: 2.0}, jaccard: {}, kid: {}}
claims:
  - the means of SN lie nearer:  {less: [mean_shift @ SN, mean_shift @ GP]}
  - real patches teach more:     {greater: [jaccard/all @ real, jaccard/all @ SN]}
"""
PLAIN = PROTOCOL.replace("mean_shift: {scale: 2.0}, jaccard: {}, ", "").partition("claims:")[0]
# What no metric is about.
BY_HAND: Mapping[str, Mapping[str, Any]] = {
    "verify": {"operations": 1, "faults": []},
    "measure": {
        "configurations": {
            label: {"step_time_ms": [1.0, 2.0], "steps_timed": 2, "emulated": False, "peak_memory_mib": 3.0}
            for label in ("SN", "GP")
        },
        "memory_definition": "live tensor bytes",
        "threads": 1,
    },
}


def planned(folder: Path, text: str = PROTOCOL) -> Plan:
    (folder / "tiny.yaml").write_text(text)
    protocol = load_protocol(folder / "tiny.yaml")
    profile = protocol.profiles["one"]
    source = choose_source("one", profile, None)
    return build_plan(protocol, "one", profile, cells_of(protocol, profile), source, "cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, loaded: None) -> Iterator[Path]:
    """A run in this process, whose numerics checks and timings are written by hand."""
    folder, threads = tmp_path_factory.mktemp("run"), torch.get_num_threads()
    plan, store = planned(folder), Store(folder / "runs")
    write_run_folder(plan, store, folder, PROTOCOL)
    for key, spec in plan.specs.items():
        if spec.stage in BY_HAND:
            store.finish(key, BY_HAND[spec.stage], {"seconds": 0.0})
        else:
            run_stage(store, key)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> dict[str, Any]:
    return results_of(load_run(out, "tiny-one"))


def test_a_metric_of_sets_has_its_value_interval_and_floor(results: dict[str, Any]) -> None:
    scored = {cell["label"]: cell["metrics"]["mean_shift"] for cell in results["cells"] if "kid" in cell["metrics"]}
    assert scored.keys() == {"SN", "GP"}
    by_value = {2.0 * shift_between(sets.real, sets.generated): sets for sets in SEEN if sets.parts is not None}
    for entry in scored.values():
        sets = by_value[entry["value"]]
        assert (len(sets.real), len(sets.generated)) == (24, 24)
        assert entry["ci_low"] < entry["value"] < entry["ci_high"]
        assert entry["ci_low"] >= 0, "within the limits of the metric"
    halves = [2.0 * shift_between(sets.real, sets.generated) for sets in SEEN if sets.parts is None]
    assert len(halves) == 5
    assert results["floor"]["metrics"]["mean_shift"] == pytest.approx(np.mean(halves))
    assert results["floor"]["sd"]["mean_shift"] == pytest.approx(np.std(halves, ddof=1))


def test_a_metric_of_subjects_has_a_value_for_each_and_a_mean_in_every_region(results: dict[str, Any]) -> None:
    rows = {(row["cell"], row["subject"], row["metric"]): row["value"] for row in results["subjects"]}
    for region in ("all", "intracranial"):
        ours = {place[:2]: value for place, value in rows.items() if place[2] == f"jaccard/{region}"}
        assert len(ours) == 4 * 9, "threshold, real, SN and GP on validation and test subjects"
        for place, value in ours.items():
            dsc = rows[(*place, f"dsc/{region}")]
            assert value == pytest.approx(dsc / (2 - dsc))
        for cell in results["cells"]:
            entry = cell["metrics"][f"jaccard/{region}"]
            tested = [ours[row["cell"], row["subject"]] for row in results["subjects"] if row["split"] == "test"
                      and row["cell"] == cell["id"] and row["metric"] == f"jaccard/{region}"]  # fmt: skip
            assert (entry["n"], entry["value"]) == (8, pytest.approx(np.mean(tested)))


def test_claims_can_be_about_it(results: dict[str, Any]) -> None:
    nearer, teaches = results["claims"]
    values = {group["label"]: group["metrics"] for group in results["groups"]}
    difference = values["SN"]["mean_shift"]["value"] - values["GP"]["mean_shift"]["value"]
    assert (nearer["metric"], nearer["effect"]) == ("mean_shift", pytest.approx(difference))
    assert nearer["floor"]["value"] == results["floor"]["metrics"]["mean_shift"]
    assert (teaches["metric"], teaches["unit"], teaches["n"]) == ("jaccard/all", "test subject", 8)


def test_the_tables_have_it_with_its_title_unit_and_digits(results: dict[str, Any], tmp_path: Path) -> None:
    write_tables(results, tmp_path)
    value = {group["label"]: group["metrics"] for group in results["groups"]}["SN"]["mean_shift"]["value"]
    lines = (tmp_path / "table.md").read_text().splitlines()
    (shift,) = (line for line in lines if line.startswith("| shift of the mean (units) |"))
    assert f" {value:.5f} |" in shift
    assert any(line.startswith("| Jaccard, all vessels | 0.") for line in lines)
    assert "mean_shift" in (tmp_path / "cells.csv").read_text()


def test_the_page_has_it_with_its_better_side_and_what_it_means(out: Path, results: dict[str, Any]) -> None:
    render_report(load_run(out, "tiny-one"), results, out / "page")
    page = " ".join((out / "page/index.html").read_text().split())
    assert 'shift of the mean <abbr title="lower is better">↓</abbr><small>units</small>' in page
    assert '<th scope="row">Jaccard (intracranial) ↑</th>' in page
    assert "<dt>Shift of the mean</dt><dd>How far the clouds&#39; centres lie apart.</dd>" in page
    assert "<dt>KID</dt>" in page
    assert "<dt>PRD</dt>" not in page, "which this protocol does not ask for"


def test_ls_lists_it(out: Path) -> None:
    listed = CliRunner().invoke(app, ["ls", str(out / "tiny.yaml")]).output
    (line,) = (line for line in listed.splitlines() if line.startswith("metrics:"))
    assert {"mean_shift", "jaccard/all", "jaccard/intracranial", "kid"} <= set(
        line.removeprefix("metrics: ").split(", ")
    )
    assert "fid" not in line, "which this protocol does not ask for"
    content = json.loads(CliRunner().invoke(app, ["ls", str(out / "tiny.yaml"), "--json"]).stdout)
    assert {"name": "mean_shift", "title": "shift of the mean", "unit": "units", "better": "lower"} in content[
        "metrics"
    ]


def test_an_editor_and_the_program_know_its_options(tmp_path: Path) -> None:
    judge = jsonschema.Draft202012Validator(protocol_json_schema())
    protocol = {"protocol": "p", "title": "t", "profiles": {"one": {}}, "matrix": {"variant": ["SN", "GP"]}}
    assert judge.is_valid(protocol | {"metrics": {"mean_shift": {"scale": 2.0}}})
    assert not judge.is_valid(protocol | {"metrics": {"mean_shift": {"scle": 2.0}}})
    assert judge.is_valid(protocol | {"claims": [{"c": {"less": ["mean_shift @ SN", "mean_shift @ GP"]}}]})
    with pytest.raises(InputError, match=r"metrics.mean_shift.scle: unknown key, did you mean 'scale'\?"):
        planned(tmp_path, PROTOCOL.replace("scale: 2.0", "scle: 2.0"))


def keys_of(plan: Plan) -> dict[str, str]:
    (cell,) = (cell for cell in plan.cells if cell.cell.label == "SN")
    return dict(cell.stages)


def test_its_version_and_options_are_in_the_keys_of_the_stages_that_compute_it_alone(tmp_path: Path) -> None:
    before = keys_of(planned(tmp_path))
    other = keys_of(planned(tmp_path, PROTOCOL.replace("scale: 2.0", "scale: 3.0")))
    assert {role for role in before if before[role] != other[role]} == {"reference", "score"}
    forget()
    register(version=2)
    newer = keys_of(planned(tmp_path))
    assert {role for role in before if before[role] != newer[role]} == {"reference", "score"}
    forget()
    register()
    assert keys_of(planned(tmp_path)) == before


def test_a_protocol_that_does_not_ask_for_it_has_the_keys_that_it_had_without(tmp_path: Path) -> None:
    loaded_keys = keys_of(planned(tmp_path, PLAIN))
    forget()
    unloaded_keys = keys_of(planned(tmp_path, PLAIN))
    register()
    assert loaded_keys == unloaded_keys
    asked = keys_of(planned(tmp_path))
    assert {role for role in asked if asked[role] != loaded_keys[role]} == {"reference", "score", "evaluate"}


def test_without_the_file_a_run_says_what_it_lacks(out: Path) -> None:
    forget()
    try:
        with pytest.raises(InputError, match=rf"unknown metric 'mean_shift'.* {MODULES}"):
            results_of(load_run(out, "tiny-one"))
    finally:
        register()


@pytest.mark.parametrize(
    ("version", "why"),
    [(None, f"is not loaded here; .* {MODULES}"), (2, "planned with version 1, which is 2 here; plan it again")],
)
def test_a_stage_that_was_planned_with_another_file_is_not_run(tmp_path: Path, version: int | None, why: str) -> None:
    plan, store = planned(tmp_path), Store(tmp_path / "runs")
    scored = keys_of(plan)["score"]
    store.plan(plan.specs[scored])
    forget()
    try:
        if version:
            register(version=version)
        with pytest.raises(InputError, match=f"metric mean_shift: {why}"):
            run_stage(store, scored)
    finally:
        forget()
        register()


OWN = """
from benchmark.metrics import MaskPair, Metric, metric


@metric(Metric("excess", "excess volume", better=None, limits=(-1.0, 1.0)), kind="subject")
def excess(masks: MaskPair) -> float:
    return float(masks.prediction.mean() - masks.truth.mean())
"""


def listed(folder: Path, modules: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", "ls", "own.yaml", "--json"]
    environment = {**os.environ, MODULES: modules}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("how", ["own.py", "own"], ids=["a file", "a module"])
def test_every_process_loads_what_the_environment_names(tmp_path: Path, how: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(PLAIN.replace("metrics: {", "metrics: {excess: {}, "))
    done = listed(tmp_path, how)
    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["metrics"]}
    assert found["excess/all"] == {
        "name": "excess/all",
        "title": "excess volume, all vessels",
        "unit": "",
        "better": None,
    }


def test_a_file_that_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace('"excess"', '"dsc"'))
    done = listed(tmp_path, "own.py")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: VESSELGAN_METRICS: own.py: ValueError: metric 'dsc/all': there is one of that key, of 'segmentation'"
    ]
