"""`patches`: a run's real patches as `score` reads them."""

from pathlib import Path

import numpy as np
import pytest
from run_folders import make_run
from typer.testing import CliRunner

from benchmark.artifacts.store import Store
from benchmark.commands import app
from benchmark.results.run_folder import load_run
from vesselgan.data import phantom_subjects, write_store
from vesselgan.data.patch_folder import open_patches


@pytest.mark.parametrize(
    "persons", [{}, {"phantom-000": "anna", "phantom-002": "anna"}], ids=["a scan each", "two scans"]
)
def test_the_patches_of_a_person_are_told_apart_from_those_of_others(persons: dict[str, str], tmp_path: Path) -> None:
    keys = [f"phantom-{number:03d}" for number in range(3)]
    make_run(tmp_path, {"SN_f16_s0": {"data": {}}})
    (record,) = load_run(tmp_path, "r-p").cells
    write_store(
        Store(tmp_path / "runs").folder(record["stages"]["data"]) / "store",
        phantom_subjects(3, (32, 32, 16), seed=0),
        splits={"train": ["phantom-001"], "test": ["phantom-000", "phantom-002"]},
        patch_size=(16, 16, 16),
        grid=(1, 1, 1),
        vessel=2,
        rng=np.random.default_rng(0),
        persons=persons,
    )
    command = ["patches", "r-p", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    expected = {"anna"} if persons else {keys[0], keys[2]}
    assert f"6 patches of {len(expected)} test subjects" in result.output
    folder = open_patches(tmp_path / "out", "--real")
    assert (folder.count, set(folder.subjects or ()), folder.has_labels) == (6, expected, True)
