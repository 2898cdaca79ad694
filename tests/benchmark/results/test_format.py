"""results.json has the form that its JSON Schema says, and the shipped schema is what the program says."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paths import ROOT
from run_folders import make_run
from typer.testing import CliRunner

from benchmark.commands import app
from benchmark.report.results_json import results_of
from benchmark.results import format as results_format
from benchmark.results.json_schema import FILE, results_json_schema
from benchmark.results.run_folder import load_run

SHIPPED = ROOT / "benchmark/results" / FILE


def judge() -> jsonschema.Draft202012Validator:
    schema = json.loads(SHIPPED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_schema_is_what_the_command_writes(tmp_path: Path) -> None:
    """After a change: `python -m benchmark schema --results --out benchmark/results/results.schema.json`."""
    result = CliRunner().invoke(app, ["schema", "--results", "--out", str(tmp_path / FILE)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / FILE).read_bytes() == SHIPPED.read_bytes()
    assert json.loads(CliRunner().invoke(app, ["schema", "--results"]).stdout) == results_json_schema()


def test_the_results_of_a_real_run_obey_it_and_say_their_format_first(finished_smoke: Path) -> None:
    results = json.loads((finished_smoke / "reports/paper-smoke/results.json").read_text(encoding="utf-8"))
    judge().validate(results)
    assert next(iter(results.items())) == ("format", results_format.FORMAT)
    # Nothing of the schema goes untried for want of an example.
    for part in ("best", "gain", "realism", "claims", "answer", "floor", "measurement", "cost_ratios", "prepared"):
        assert results[part], part
    assert all(results[part] for part in ("median_patches", "subject_ranking", "real_labels", "brain_masks"))
    assert {cell["kind"] for cell in results["cells"]} == {"real", "synthetic", "untrained"}


def test_the_results_of_a_run_that_has_only_begun_obey_it(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {"gan": "RuntimeError: no"}, "SN_f16_s1": {}})
    judge().validate(json.loads(json.dumps(results_of(load_run(tmp_path, "r-p")))))


def test_the_format_has_its_history_beside_it() -> None:
    assert f"Format {results_format.FORMAT}." in (results_format.__doc__ or "")


def without(*path: str | int) -> Callable[[Any], None]:
    return lambda results: _parent(results, path).pop(path[-1])


def instead(value: Any, *path: str | int) -> Callable[[Any], None]:
    return lambda results: _parent(results, path).__setitem__(path[-1], value)


def _parent(results: Any, path: tuple[str | int, ...]) -> Any:
    for step in path[:-1]:
        results = results[step]
    return results


@pytest.mark.parametrize(
    "change",
    [
        without("format"),
        instead(2, "format"),
        instead("1", "format"),
        without("cells", 0, "kind"),
        instead("generated", "cells", 0, "kind"),
        instead([0.5], "cells", 0, "metrics", "dsc/all", "value"),
        instead(1, "cells", 0, "metrics", "dsc/all", "mean"),
        without("cells", 0, "metrics", "dsc/all", "n"),
        instead("yes", "cells", 0, "status"),
        instead(0.5, "subjects", 0, "subject"),
        instead("undecided", "claims", 0, "verdict"),
        instead(None, "groups"),
        instead({}, "more"),
    ],
)
def test_another_form_is_refused(change: Callable[[Any], None], tmp_path: Path) -> None:
    rows = [f"test,s{index},dsc/all,{value},0" for index, value in enumerate((0.5, 0.7))]
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": rows}}})
    results = json.loads(json.dumps(results_of(load_run(tmp_path, "r-p"))))
    judge().validate(results)
    changed = copy.deepcopy(results)
    change(changed)
    assert not judge().is_valid(changed)
