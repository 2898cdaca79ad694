"""The same bytes for any number of workers; and what was computed under other conditions is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from run_folders import make_run
from small_protocol import PROTOCOL, made
from typer.testing import CliRunner

from benchmark.artifacts.store import Spec, environment_for
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.report.results_json import results_of
from benchmark.report.sections.headline import page_header
from benchmark.results.run_folder import load_run


def plan_of(**changes: Any) -> Plan:
    protocol = load_protocol(ROOT / "protocols/paper.yaml")
    profile = protocol.profiles["smoke"].model_copy(update=changes)
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")


@pytest.mark.slow
def test_bitwise_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    left = []
    for workers in (1, 2, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        text = PROTOCOL.replace("filters: 16", "deterministic: bitwise\n    filters: 16")
        (folder / "small.yaml").write_text(text.replace("variant: [SN], seed: [0]", "variant: [SN, GP], seed: [0, 1]"))
        command = ["run", folder / "small.yaml", "--out", folder, "--workers", workers, "--device", "cpu"]
        result = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        left.append(made(folder))
    assert left[0] == left[1] == left[2]
    assert sum(key.startswith("train_gan-") for key in left[0]) == 4


def test_what_is_asked_to_be_bitwise_is_in_the_keys_of_what_computes_and_in_no_other() -> None:
    plain, bitwise = plan_of(), plan_of(deterministic="bitwise")
    assert not any("deterministic" in spec.runtime for spec in plain.specs.values())
    same = {key.rpartition("-")[0] for key in plain.specs.keys() & bitwise.specs.keys()}
    assert "prepare" in same
    assert not same & {"train_gan", "synthesise", "train_unet", "score"}
    on_gpu = Spec("train_gan", 1, {}, runtime={"device": "cuda", "deterministic": "bitwise"})
    assert environment_for(on_gpu) == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def test_results_of_different_conditions_are_named(tmp_path: Path) -> None:
    cells = {f"SN_f16_s{seed}": {"pairs": {"pairs": 1}, "mixed_pairs": {"pairs": 1}} for seed in range(3)}
    make_run(tmp_path, cells)  # type: ignore[arg-type]
    for seed in range(3):
        record = json.loads((tmp_path / f"runs/r-p/cells/SN_f16_s{seed}.json").read_text())
        for role in ("pairs", "mixed_pairs"):
            path = tmp_path / "runs/stages" / record["stages"][role] / "result.json"
            result = json.loads(path.read_text())
            other = seed == 2 and role == "mixed_pairs"
            version, cpu = ("2.13.1", "B") if other else ("2.13.0", "A")
            environment = {"versions": {"torch": version}, "machine": {"cpu": cpu}, "device": "cpu"}
            result["facts"]["environment"] = environment
            path.write_text(json.dumps(result))
    results = results_of(load_run(tmp_path, "r-p"))
    assert results["conditions"] == ["PyTorch 2.13.0 on A (5 stages)", "PyTorch 2.13.1 on B (1 stage)"]
    header = page_header({**results, "split": {"train": 4, "validation": 2, "test": 2}}, {})  # type: ignore[typeddict-item]
    (note,) = [note for note in header.notes if note.title == "Computed under different conditions"]
    assert list(note.items) == results["conditions"]
