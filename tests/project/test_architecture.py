"""ARCHITECTURE.md and CONTRIBUTING.md are true: files exist, ways lead through them, and every snippet runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from pydantic import TypeAdapter
from typer.testing import CliRunner

from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.claims.evidence import SUBJECT, Pairs
from benchmark.commands import app
from benchmark.datasets.layouts import choose_layout, load_layout
from benchmark.datasets.source import choose_source
from benchmark.environment import this_node
from benchmark.metrics.asking import default_options
from benchmark.metrics.registry import MEASUREMENTS
from benchmark.plan import CellPlan, Plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import find_protocol, load_protocol
from benchmark.run.engine import ENGINES, Event
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import execute
from benchmark.scoring.masks import mask_rows
from benchmark.stages import STAGES
from vesselgan.data import save_volume, scan_folder
from vesselgan.metrics import dice
from vesselgan.variants import VARIANTS

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}
HOW_TO = PAGES["ARCHITECTURE.md"].partition("## How to add\n")[2]
SNIPPETS = {
    title: re.findall(r"^```(?:python|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for title, text in re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", HOW_TO, re.MULTILINE | re.DOTALL)
}


def run(code: str) -> dict[str, Any]:
    """The names that a snippet makes."""
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "snippet", "exec"), names)
    return names


def snippet(title: str) -> str:
    (code,) = SNIPPETS[title]
    return code


@pytest.fixture
def count_files() -> Iterator[None]:
    """The stage of the snippet, for as long as a test lasts."""
    run(snippet("A stage"))
    yield
    del STAGES["count_files"], STAGE_VERSIONS["count_files"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    """By its path in the repository, or in a package or room."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    named = {name for name in re.findall(r"`([\w.-]+/[\w./-]*|\w+\.py)`", text) if "KEY" not in name}
    places = [ROOT, ROOT / "benchmark", ROOT / "vesselgan", ROOT / "vesselgan/training", ROOT / "benchmark/report"]
    assert len(named) > 5
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_every_room_of_the_harness_has_its_row() -> None:
    table = PAGES["ARCHITECTURE.md"].partition("| room |")[2].partition("\n\n")[0]
    rooms = {f"{path.name}/" for path in (ROOT / "benchmark").iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.name for path in (ROOT / "benchmark").glob("*.py")} - {"__init__.py", "__main__.py", "cli.py"}
    assert set(re.findall(r"`(\w+/|\w+\.py)`", re.sub(r"\|[^|]*\|$", "", table, flags=re.MULTILINE))) == rooms


def test_the_way_of_an_option_is_every_file_that_reads_it() -> None:
    way = PAGES["ARCHITECTURE.md"].partition("## The way of an option\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(.*?)` \|", way, re.MULTILINE)
    assert sorted(named) == files_with("penalty_weight")


def test_the_files_that_a_distance_takes_are_counted_honestly() -> None:
    (listed,) = re.findall(r"^```files\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    assert listed.split() == files_with("kid")


def files_with(word: str) -> list[str]:
    paths = (path for package in ("benchmark", "vesselgan") for path in (ROOT / package).rglob("*.py"))
    found = (path for path in paths if re.search(rf"^[^#]*(\b{word}\b[\"':]|\.{word}\b)", code_of(path), re.MULTILINE))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def code_of(path: Path) -> str:
    return re.sub(r'"""(.*?)"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_how_to_has_one_snippet_and_each_of_them_a_test() -> None:
    assert {title: len(found) for title, found in SNIPPETS.items()} == dict.fromkeys(
        (
            *("A dataset layout", "A stage", "A claim kind", "A part of results.json", "A metric", "A variant"),
            *("A loss", "A generator family"),  # see test_one_file.py
            "An engine",
        ),
        1,
    )


def test_the_layout_of_the_snippet_is_read_and_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "clinic.yaml").write_text(snippet("A dataset layout"))
    layout = load_layout(str(tmp_path / "clinic.yaml"))
    for subject, name in ((subject, name) for subject in ("anna", "berta") for name in ("tof", "vessels")):
        save_volume(tmp_path / "scans" / subject / f"{name}.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
    found = scan_folder(tmp_path / "scans", layout.layout)
    assert [subject.key for subject in found.subjects] == ["anna", "berta"]
    assert choose_layout(tmp_path / "scans", str(tmp_path / "clinic.yaml")) == layout


@pytest.mark.usefixtures("count_files")
def test_the_stage_of_the_snippet_runs_as_any_other(tmp_path: Path) -> None:
    store, data = Store(tmp_path), Spec("prepare", 1, {})
    counted = Spec("count_files", 1, {"ending": ".txt"}, {"data": data.key})
    for spec in (data, counted):
        store.plan(spec)
    for name in ("one.txt", "two.txt", "three.csv"):
        (store.folder(data.key) / name).touch()
    store.finish(data.key, {}, {"seconds": 0.0})
    run_stage(store, counted.key)
    result = store.result(counted.key)
    assert result is not None
    assert result["values"] == {"files": 2}
    assert (store.folder(counted.key) / "names.txt").read_text() == "one.txt\ntwo.txt"


def test_the_claim_kind_of_the_snippet_is_decided_by_its_range() -> None:
    at_least = run(snippet("A claim kind"))["at_least"]
    right = np.linspace(0.5, 0.6, 8)
    values = np.stack([right + np.linspace(0.1, 0.2, 8), right])[:, None]
    pairs = Pairs("dsc/all", ("a", "b"), SUBJECT, (0,), tuple("abcdefgh"), values, np.zeros(values.shape, bool))
    holds, fails = at_least(pairs, 0.05).p_values
    assert (holds, fails) == (2**-8, 1.0), "all eight subjects lie above"
    assert at_least(pairs, 0.3).p_values == (1.0, 2**-8)


def test_the_part_of_the_snippet_has_its_value_and_its_place_in_the_schema() -> None:
    names = run(snippet("A part of results.json"))
    cells = [
        {"status": "done", "seconds": 1800.0},
        {"status": "done", "seconds": 1800.0},
        {"status": "failed", "seconds": 36.0},
    ]
    hours = names["hours_of"](cells)
    assert hours == {"done": 1.0, "failed": 0.01}
    adapter = TypeAdapter(names["Hours"])
    assert adapter.validate_python(hours) == hours
    assert adapter.json_schema()["additionalProperties"] is False


def test_the_metric_of_the_snippet_is_what_it_says() -> None:
    try:
        run(snippet("A metric"))
        truth, prediction, nothing = np.random.default_rng(0).random((3, 4, 5, 6)) > [[[[0.5]]], [[[0.5]]], [[[1.0]]]]
        rows = list(mask_rows(truth, prediction, nothing, None, default_options("subject")))
    finally:
        MEASUREMENTS.pop("jaccard", None)
    overlap = dice(truth, prediction)
    assert ("jaccard/all", pytest.approx(overlap / (2 - overlap)), False) in rows
    assert ("jaccard/intracranial", 1.0, True) in rows, "where both are empty"


def test_the_variant_of_the_snippet_has_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = run(snippet("A variant"))["row"]
    monkeypatch.setitem(VARIANTS, row.label, row)
    text = find_protocol("paper").read_text(encoding="utf-8").partition("\nreference:")[0]
    (tmp_path / "p.yaml").write_text(text.replace("variant: [GP, ", f"variant: [GP, {row.label}, "))
    protocol = load_protocol(tmp_path / "p.yaml")
    (cell,) = (cell for cell in cells_of(protocol, protocol.profiles["smoke"]) if cell.label == row.label)
    assert (cell.norm, cell.precision, cell.filters) == ("instance", "bf16", 16)


class Watcher:
    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def stage_started(self, key: str) -> None: ...
    def stage_event(self, event: Event) -> None: ...
    def cell_finished(self, cell: CellPlan, status: str) -> None:
        self.ended.append((cell.cell.id, status))


@pytest.mark.usefixtures("count_files")
def test_the_engine_of_the_snippet_runs_a_plan(tmp_path: Path) -> None:
    """Of two stages, the second of which reads the first; and of one that fails."""
    protocol = load_protocol(find_protocol("paper"))
    profile = protocol.profiles["smoke"]
    plan = Plan(protocol, "smoke", profile, this_node("cpu"), choose_source("smoke", profile, None))
    store, (first, second, *_) = Store(tmp_path), cells_of(protocol, profile)
    data = plan.add("prepare", {}, {}, None)
    store.plan(plan.specs[data])
    store.finish(data, {}, {"seconds": 0.0})
    counted = plan.add("count_files", {"ending": ".txt"}, {"data": data}, None)
    again = plan.add("count_files", {"ending": ".txt"}, {"data": counted}, None)
    broken = plan.add("count_files", {}, {"data": counted}, None)
    plan.cells = [CellPlan(first, {"data": data, "a": counted, "b": again}), CellPlan(second, {"b": broken})]
    for spec in plan.specs.values():
        store.plan(spec)
    run(snippet("An engine"))
    engine, watcher = ENGINES.pop("this-process")(store, 1), Watcher()
    outcome = execute(plan, plan.cells, store, engine, watcher)
    assert outcome.computed == [counted, again]
    assert outcome.failed == {broken: "KeyError: 'ending'"}
    assert watcher.ended == [(first.id, "done"), (second.id, "failed")]
    result = store.result(again)
    assert result is not None
    assert result["values"] == {"files": 2}, "names.txt, and the log"


def test_the_test_that_contributors_are_shown_passes() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGES["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL)
    tests = [value for name, value in run(code).items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_commands_that_contributors_are_shown_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the program; the others are marked."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGES["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if "# not run" not in line]
    assert lines
    for line in lines:
        result = CliRunner().invoke(app, line.removeprefix("python -m benchmark ").split())
        assert result.exit_code == 0, result.output
