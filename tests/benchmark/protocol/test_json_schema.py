"""The JSON Schema of protocols: the shipped file is what the program says, and it judges as the program does."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paths import ROOT
from ruamel.yaml import YAML
from typer.testing import CliRunner

from benchmark.commands import app
from benchmark.protocol.json_schema import FILE, protocol_json_schema
from benchmark.protocol.load import find_protocol

PROTOCOLS = sorted((ROOT / "protocols").glob("*.yaml"))
VALID = {
    "protocol": "tiny",
    "title": "A test",
    "profiles": {
        "one": {
            "patch": [32, 32, 16],
            "recipe": {"base": "corrected+D8", "penalty_norm": "batch"},
            "autoregressive": {"steps": 5, "ema": None, "flips": ["x"]},
        }
    },
    "matrix": {"variant": ["SN", "SN-MP", "AR"], "recipe": ["paper_code", "corrected+D1"]},
    "arms": {"real": [1, "all"], "real + SN": ["all"]},
    "reference": {"fid @ SN": {"value": 1.0, "source": "a paper"}},
    "claims": [
        {"mixed lowers FID": {"less": ["fid @ SN-MP", "fid @ SN"]}},
        {"it is the best": {"best": "dsc/all @ SN"}},
        {"it is published": {"compatible": ["fid @ SN"], "within": 0.1}},
        {"likelihood halves FID": {"less": ["fid @ AR", "fid @ SN"], "by_factor": 2}},
    ],
}


def judge() -> jsonschema.Draft202012Validator:
    schema = protocol_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_every_shipped_protocol_names_the_schema_and_obeys_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={FILE}"
    judge().validate(YAML(typ="safe").load(text))


def test_the_shipped_schema_is_what_the_command_writes(tmp_path: Path) -> None:
    """After a change of protocols: `python -m benchmark schema --out protocols/protocol.schema.json`."""
    shipped = find_protocol("paper").parent / FILE
    result = CliRunner().invoke(app, ["schema", "--out", str(tmp_path / FILE)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / FILE).read_bytes() == shipped.read_bytes()
    assert f"'# yaml-language-server: $schema={FILE}'" in result.output


def test_without_a_file_the_schema_is_printed_alone() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).stdout) == protocol_json_schema()


def test_what_yaml_allows_the_schema_allows() -> None:
    judge().validate(VALID)


@pytest.mark.parametrize(
    "wrong",
    [
        {"titel": "A test"},
        {"profiles": {"one": {"filtrs": 16}}},
        {"profiles": {"one": {"patch": [32, 30, 16]}}},
        {"profiles": {"one": {"batch": 0}}},
        {"profiles": {"one": {"autoregressive": {"steps": 5, "filtrs": 8}}}},
        {"profiles": {"one": {"autoregressive": {"steps": 0}}}},
        {"profiles": {"one": {"families": {}}}},
        {"profiles": {"one": {"recipe": "corected"}}},
        {"profiles": {"one": {"recipe": {"penalty_norm": "bach"}}}},
        {"matrix": {"variant": ["SM"]}},
        {"arms": {"unreal": [1]}},
        {"claims": [{"mixed lowers FID": {"less": ["fdi @ SN-MP", "fid @ SN"]}}]},
        {"claims": [{"mixed lowers FID": {"lesser": ["fid @ SN-MP", "fid @ SN"]}}]},
        {"claims": [{"mixed lowers FID": {"less": ["fid @ SN"]}}]},
        {"claims": [{"mixed lowers FID": {"best": []}}]},
        {"reference": {"fdi @ SN": {"value": 1.0, "source": "a paper"}}},
    ],
    ids=str,
)
def test_a_slip_that_one_key_shows_is_refused_by_the_editor_too(wrong: dict[str, Any]) -> None:
    assert not judge().is_valid({**VALID, **wrong})
