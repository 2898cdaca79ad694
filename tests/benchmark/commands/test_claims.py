"""`python -m benchmark claims` on run folders written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run
from typer.testing import CliRunner, Result

from benchmark.commands import app


def measured(time_ms: float, memory_mib: float) -> dict[str, Any]:
    rounds = [time_ms + drift for drift in (0.0, 1.0, 4.0, 2.0, 3.0, 5.0)]
    return {"step_time_ms": rounds, "peak_memory_mib": memory_mib, "emulated": False, "steps_timed": 18}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of SN and GP, with costs alone."""
    values = {"configurations": {"SN": measured(10, 5), "GP": measured(20, 9)}, "memory_definition": "bytes"}
    values["threads"] = 1
    make_run(tmp_path, {f"{label}_f16_s0": {"measure": dict(values)} for label in ("SN", "GP")})
    path = tmp_path / "runs/r-p/cells/GP_f16_s0.json"
    record = json.loads(path.read_text())
    record["cell"]["label"] = "GP"
    path.write_text(json.dumps(record))
    return tmp_path


def claims(out: Path, *stated: dict[str, Any], arguments: tuple[str, ...] = ()) -> Result:
    path = out / "runs/r-p/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"claims": list(stated)}))
    return CliRunner().invoke(app, ["claims", "r-p", "--out", str(out), *arguments])


FASTER = {"name": "SN is faster", "less": ["step_time_ms @ SN", "step_time_ms @ GP"]}
SLOWER = {"name": "SN is slower", "greater": ["step_time_ms @ SN", "step_time_ms @ GP"]}
OPEN = {"name": "open", "less": ["fid @ SN", "fid @ GP"]}


def test_the_table_has_verdict_effect_interval_test_and_reason(out: Path) -> None:
    result = claims(out, FASTER, OPEN)
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "SN is faster" in line)
    words = "supported SN is faster -10.0 [-10.0, -10.0] 6 interleaved rounds exact sign-flip permutation 0.031 0.031"
    assert " ".join(line.split()) == words
    assert "open:\n  No fid of SN and GP." in result.stdout


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        (SLOWER, 0),
        (SLOWER | {"must_hold": True}, 3),
        (FASTER | {"must_hold": True}, 0),
        (OPEN | {"must_hold": True}, 0),
    ],
)
def test_the_status_is_3_where_a_claim_that_must_hold_is_refuted(out: Path, claim: dict[str, Any], status: int) -> None:
    result = claims(out, claim)
    assert result.exit_code == status
    assert ("error: refuted, though it must hold: SN is slower" in result.stderr) == (status == 3)


def test_json_is_the_claims_of_the_results(out: Path) -> None:
    result = claims(out, SLOWER | {"must_hold": True}, arguments=("--json",))
    assert result.exit_code == 3
    (claim,) = json.loads(result.stdout)
    assert (claim["verdict"], claim["effect"], len(claim["rows"])) == ("refuted", pytest.approx(-10), 6)


def test_a_protocol_without_claims_says_so(out: Path) -> None:
    assert "makes no claims" in claims(out).stdout
