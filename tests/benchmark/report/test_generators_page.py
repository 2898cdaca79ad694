"""A run with generators of two families: what its page and its results say of each."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from benchmark.report.sections.budget import budget_view
from benchmark.report.sections.text import arm_marks

PROTOCOL = "generators-smoke"


@pytest.fixture(scope="module")
def page(smoke_runs: Path) -> str:
    return unescape((smoke_runs / f"reports/{PROTOCOL}/index.html").read_text(encoding="utf-8"))


def test_results_say_which_family_a_cell_is_of(smoke_runs: Path) -> None:
    results = json.loads((smoke_runs / f"reports/{PROTOCOL}/results.json").read_text())
    cells = {cell["label"]: cell for cell in results["cells"]}
    assert {label: cell["family"] for label, cell in cells.items() if cell["family"]} == {
        "c-SN-MP": "wgan",
        "AR": "autoregressive",
    }
    assert cells["AR"]["metrics"].keys() == cells["c-SN-MP"]["metrics"].keys()
    assert cells["AR"]["metrics"]["fid"]["value"] > 0
    rounds = cells["AR"]["metrics"]["patches_per_s"]["rounds"]
    assert rounds == pytest.approx([6000 / time for time in cells["AR"]["metrics"]["step_time_ms"]["rounds"]])
    assert {claim["name"]: claim["by_factor"] for claim in results["claims"]}["likelihood halves FID at least"] == 2
    assert results["settings"]["families"]["autoregressive"]["filters"] == 8
    assert results["best"]["validation"].keys() == {"c-SN-MP", "AR"}


def test_quality_against_budget_is_in_the_results_and_on_the_page(smoke_runs: Path, page: str) -> None:
    results = json.loads((smoke_runs / f"reports/{PROTOCOL}/results.json").read_text())
    courses = {cell["label"]: cell["course"] for cell in results["cells"] if cell["course"]}
    assert courses.keys() == {"c-SN-MP", "AR"}
    for course in courses.values():
        assert [(point["share"], point["steps"]) for point in course] == [(0.5, 6), (1.0, 12)]
        assert course[1]["tflop"] == 2 * course[0]["tflop"] > 0
        assert course[0]["metrics"]["fid"] != course[1]["metrics"]["fid"]
    whole = {cell["label"]: cell["metrics"]["fid"]["value"] for cell in results["cells"] if cell["course"]}
    assert {label: course[1]["metrics"]["fid"] for label, course in courses.items()} == whole
    assert "What does more training buy?" in page
    assert "FID against operations" in page
    assert re.search(r">\s*1/2\s*<", page)


def test_every_number_of_the_budget_table_can_be_sorted_by(smoke_runs: Path) -> None:
    results = json.loads((smoke_runs / f"reports/{PROTOCOL}/results.json").read_text())
    view = budget_view(results, arm_marks(results["cells"]))
    assert view is not None
    for row in view.table.rows:
        assert [entry.text for entry in row.entries if entry.value is None and entry.text != "n/a"] == []
    courses = [point["metrics"]["fid"] for cell in results["cells"] for point in cell["course"]]
    assert [row.entries[4].value for row in view.table.rows] == pytest.approx(courses)


def test_the_page_names_both_kinds_and_shows_the_readings_of_each(page: str) -> None:
    assert "One variant of a 3D WGAN (c-SN-MP) and one of a 3D autoregressive generator (AR) were each trained" in page
    for title in ("AR: −log p, level 0 of its pyramid", "AR: gradient", "WGAN: gradient penalty"):
        assert title in page
    assert "2 × AR minus c-SN-MP" in page
    row = "<code>autoregressive.filters</code></th><td><strong>8</strong></td><td>does not say; usual here: 64</td>"
    assert row in page, "a setting that is not the default"
    assert "autoregressive.lr" not in page
