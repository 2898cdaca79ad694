"""`compare` on files of a real run: what it reads, what it refuses, and how it ends."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from playwright.sync_api import Browser
from typer.testing import CliRunner

from benchmark.commands import app
from vesselgan.errors import InputError

WITHOUT_FORMAT = ROOT / "tests/golden/results_without_format.json.gz"  # of the first published run


@pytest.fixture
def runs(finished_smoke: Path, tmp_path: Path) -> Path:
    """A folder with the report of a run twice, `a` and `b`."""
    for name in ("a", "b"):
        target = tmp_path / "reports" / name
        target.mkdir(parents=True)
        shutil.copy(finished_smoke / "reports/paper-smoke/results.json", target)
    return tmp_path


def change(folder: Path, edit: Callable[[Any], object]) -> None:
    path = folder / "results.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def worse(content: Any) -> None:
    for cell in content["cells"]:
        if cell["label"] == "SN":
            cell["metrics"]["dsc/all"]["value"] /= 2
    for row in content["subjects"]:
        if row["cell"].startswith("SN_") and row["metric"] == "dsc/all":
            row["value"] /= 2


def compare(runs: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["compare", "a", "b", "--out", str(runs), *more])


def test_a_repetition_is_no_regression(runs: Path) -> None:
    result = compare(runs)
    assert result.exit_code == 0, result.output
    assert "none of the main metrics moved" in result.output
    assert result.output.rstrip().endswith("no regression")


def test_a_regression_ends_with_status_3_unless_it_is_tolerated(runs: Path) -> None:
    change(runs / "reports/b", worse)
    result = compare(runs)
    assert result.exit_code == 3
    assert "error: regression: SN: dsc/all" in result.stderr
    assert "SN_f16_s0: all of its stages are the same, and its results are not" in result.stdout
    assert compare(runs, "--tolerance", "dsc/all=60%").exit_code == 0
    told = json.loads(compare(runs, "--json").stdout)
    assert [each["label"] for each in told["differences"] if each["state"] == "regression"] == ["SN"]


def test_a_published_run_of_the_format_without_a_number_is_read(runs: Path) -> None:
    earlier = runs / "reports/earlier/results.json"
    earlier.parent.mkdir()
    earlier.write_bytes(gzip.decompress(WITHOUT_FORMAT.read_bytes()))
    result = CliRunner().invoke(app, ["compare", str(earlier.parent), "a", "--out", str(runs)])
    assert result.exit_code == 0, result.output
    assert "format 0 and 1" in result.stdout
    assert "steps" in result.stdout
    assert "nothing is paired" in result.stdout


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(format=2), "has format 2, and this program reads up to 1"),
        (lambda content: content.pop("settings"), "is not of a run"),
        (lambda content: content["cells"][0].pop("label"), "cells.0.label: Field required"),
    ],
    ids=["later", "not of a run", "damaged"],
)
def test_what_it_cannot_read_is_refused_in_one_line(runs: Path, edit: Callable[[Any], object], message: str) -> None:
    change(runs / "reports/b", edit)
    result = compare(runs)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert str(runs / "reports/b/results.json") in str(result.exception)
    assert len(str(result.exception).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "a"], "named twice"),
        (["a", "c"], "c: no run of"),
        (["a", "b", "--tolerance", "much"], "give a limit such as 5%"),
        (["a", "b", "--tolerance", "dice=1%"], "no metric 'dice'"),
        (["a", "b", "--tolerance", "0.1"], "an amount is of one metric"),
        (["a", "b", "--html", "--name", "x/y"], "give a name without /"),
    ],
)
def test_wrong_arguments_are_refused(runs: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["compare", *arguments, "--out", str(runs)])
    assert isinstance(result.exception, InputError), result.output
    assert message in str(result.exception)


def test_a_run_is_found_by_its_folders_and_by_its_file(finished_smoke: Path, runs: Path) -> None:
    for place in (finished_smoke, finished_smoke / "runs/paper-smoke", finished_smoke / "reports/paper-smoke"):
        assert CliRunner().invoke(app, ["compare", str(place), "a", "--out", str(runs)]).exit_code == 0
    file = runs / "reports/a/results.json"
    assert CliRunner().invoke(app, ["compare", str(file), "b", "--out", str(runs)]).exit_code == 0


def test_the_page_says_what_the_terminal_says(runs: Path) -> None:
    change(runs / "reports/b", worse)
    result = compare(runs, "--html")
    page = (runs / "reports/compare-a-b/index.html").read_text()
    told = json.loads((runs / "reports/compare-a-b/comparison.json").read_text())
    assert result.stderr.count("error: regression:") == page.count('<p class="caveat">Regression: ') == 1
    (regression,) = [each for each in told["differences"] if each["state"] == "regression"]
    assert f"{regression['first']:.3f}" in page
    assert "is the same" not in page


def test_the_page_fits_a_phone_and_has_no_error(runs: Path, chromium: Browser) -> None:
    change(runs / "reports/b", worse)
    compare(runs, "--html")
    errors: list[str] = []
    with chromium.new_page(viewport={"width": 400, "height": 800}) as page:
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((runs / "reports/compare-a-b/index.html").as_uri())
        page.locator("details summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert errors == []
