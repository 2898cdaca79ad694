"""Claims at equal time, on made-up courses whose values between two moments are known."""

import math
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from benchmark.claims.verdicts import judge_claims
from benchmark.protocol.claim import Claim

CLAIM = {"name": "it", "less": ("fid @ slow", "fid @ fast"), "at": "equal time"}


def cell(label: str, seed: int, step: float | None, fids: list[float], steps: int = 100) -> dict[str, Any]:
    """Kept after a quarter, a half and all of its steps, of so many seconds each."""
    moments = zip((0.25, 0.5, 1.0)[-len(fids) :], fids, strict=True)
    course = [
        {
            "share": share,
            "steps": int(share * steps),
            "seconds": None if step is None else step * share * steps,
            "tflop": None,
            "metrics": {"fid": fid},
            "pieces": None,
        }
        for share, fid in moments
    ]
    return {
        "id": f"{label}_s{seed}",
        "label": label,
        "kind": "synthetic",
        "norm": "spectral",
        "seed": seed,
        "precision": "fp32",
        "status": "done",
        "seconds": 100.0,
        "course": course if len(course) > 1 else [],
        "metrics": {"fid": {"value": fids[-1], "n": 100}},
    }


def judge(cells: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    (judged,) = judge_claims([Claim(**{**CLAIM, **more})], cells, pd.DataFrame(), "cpu")
    return judged


def test_the_longer_training_is_taken_as_it_was_when_the_shorter_one_ended() -> None:
    # At equal steps the slow one wins; when the fast one ends, after 60 s, it has had 60 of its 100 steps.
    cells = [cell("slow", seed, 1.0, [0.5, 0.4, 0.1 + seed / 1000]) for seed in range(5)]
    cells += [cell("fast", seed, 0.6, [0.4, 0.3, 0.2]) for seed in range(5)]
    judged = judge(cells)
    then = 0.4 - 0.3 * math.log(60 / 50) / math.log(100 / 50)
    assert judged["seconds"] == 60.0
    assert judged["rows"][0]["left"] == pytest.approx(then)
    assert judged["rows"][0]["right"] == 0.2
    assert judged["verdict"] == "refuted"
    assert judged["statement"] == "fid @ slow is less than fid @ fast at equal time"
    assert judge(cells, at="equal steps")["verdict"] == "supported"
    assert cells[3]["metrics"]["fid"]["value"] == 0.1 + 3 / 1000, "as it was"


def test_at_a_moment_at_which_it_was_kept_the_value_is_that_of_the_moment() -> None:
    cells = [cell("slow", seed, 1.0, [0.5, 0.4, 0.1]) for seed in range(2)]
    cells += [cell("fast", seed, 0.5, [0.4, 0.3, 0.2]) for seed in range(2)]
    assert judge(cells)["rows"][0]["left"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("slow", "reason"),
    [
        (cell("slow", 0, 1.0, [0.1]), "slow was not kept on its way: give the profile 'at', such as [1/4, 1/2]"),
        (cell("slow", 0, None, [0.3, 0.2, 0.1]), "the time of a step of slow says nothing here"),
        (cell("slow", 0, 10.0, [0.3, 0.2, 0.1]), "slow was first kept after 250 s; the other training had ended"),
        (cell("other", 0, 1.0, [0.3, 0.2, 0.1]), "no fid of slow"),
        (cell("slow", 0, 1.0, [0.3, 0.2, 0.1]) | {"status": "failed"}, "no fid of slow"),
    ],
    ids=["not kept", "not timed", "too late", "absent", "failed"],
)
def test_what_it_lacks_is_said(slow: dict[str, Any], reason: str) -> None:
    judged = judge([slow, cell("fast", 0, 1.0, [0.4, 0.3, 0.2])])
    assert judged["verdict"] == "inconclusive"
    assert judged["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"best": ["fid @ slow"]}, "'at: equal time' is for claims of two sides"),
        (
            {"less": ["dsc/all @ slow", "dsc/all @ fast"]},
            "is about what generators are scored by, not dsc/all",
        ),
        ({"less": ["step_time_ms @ slow", "step_time_ms @ fast"]}, "not step_time_ms"),
        ({"less": ["fid @ slow", "fid @ fast"], "at": "equal money"}, "Input should be 'equal steps' or 'equal time'"),
    ],
)
def test_claims_that_mean_nothing_there_are_refused(claim: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Claim(name="it", **{"at": "equal time", **claim})
