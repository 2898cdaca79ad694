"""Verdicts on made-up rows whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from benchmark.claims import judge_claims
from benchmark.claims.language import Claim

SUBJECTS = 10


def rows(values_by_label: dict[str, np.ndarray], seeds: int = 2, metric: str = "dsc/intracranial") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"label": label, "seed": seed, "split": "test", "subject": f"s{index}", "metric": metric, "value": value}
            for label, values in values_by_label.items()
            for seed in range(seeds)
            for index, value in enumerate(values)
        ]
    )


def cell(label: str, seed: int, precision: str | None = "fp32", **metrics: object) -> dict:
    return {"label": label, "seed": seed, "precision": precision, "seconds": 1800.0, "metrics": metrics}


def judge(claim: dict, cells: list[dict], subjects: pd.DataFrame | None = None, device: str = "cpu") -> dict:
    table = subjects if subjects is not None else rows({})
    table = table if len(table) else pd.DataFrame(columns=["label", "seed", "split", "subject", "metric", "value"])
    return judge_claims([Claim(name="it", **claim)], cells, table, device)[0]


@pytest.fixture
def dsc() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.7, 0.9, SUBJECTS)
    return {"good": base + 0.05, "bad": base + rng.normal(0, 0.005, SUBJECTS)}


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}, "supported"),
        ({"greater": ("dsc/intracranial @ bad", "dsc/intracranial @ good")}, "refuted"),
        ({"less": ("dsc/intracranial @ bad", "dsc/intracranial @ good")}, "supported"),
        ({"less": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}, "refuted"),
        ({"difference": ("dsc/intracranial @ good", "dsc/intracranial @ bad"), "at_most": 0.06}, "supported"),
        ({"difference": ("dsc/intracranial @ good", "dsc/intracranial @ bad"), "at_most": 0.04}, "refuted"),
        ({"difference": ("dsc/intracranial @ good", "dsc/intracranial @ bad"), "at_most": 0.05}, "inconclusive"),
    ],
)
def test_paired_subjects_decide_a_claim_about_trained_models(
    dsc: dict[str, np.ndarray], claim: dict, verdict: str
) -> None:
    judged = judge(claim, [], rows(dsc))
    assert judged["verdict"] == verdict
    assert judged["scope"] == "trained models"
    assert (judged["n"], judged["unit"]) == (SUBJECTS, "test subject")
    assert judged["ci_low"] < judged["effect"] < judged["ci_high"]


def test_seeds_do_not_count_as_further_subjects(dsc: dict[str, np.ndarray]) -> None:
    claim = {"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}
    few, many = (judge(claim, [], rows(dsc, seeds=seeds)) for seeds in (1, 8))
    assert few["n"] == many["n"] == SUBJECTS
    assert few["ci_low"] == pytest.approx(many["ci_low"])


def test_validation_subjects_and_missing_values_are_left_out(dsc: dict[str, np.ndarray]) -> None:
    table = rows(dsc)
    table.loc[table["subject"] == "s0", "split"] = "validation"
    table.loc[(table["subject"] == "s1") & (table["label"] == "good"), "value"] = np.nan
    judged = judge({"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}, [], table)
    assert judged["n"] == SUBJECTS - 2


def test_a_seed_that_only_one_side_has_is_left_out(dsc: dict[str, np.ndarray]) -> None:
    claim = {"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}
    whole = judge(claim, [], rows(dsc))
    lucky = rows({"good": np.ones(SUBJECTS)}, seeds=1).assign(seed=7)  # the other side failed with this seed
    assert judge(claim, [], pd.concat([rows(dsc), lucky]))["effect"] == pytest.approx(whole["effect"])


def test_a_few_subjects_decide_nothing(dsc: dict[str, np.ndarray]) -> None:
    table = rows({label: values[:3] for label, values in dsc.items()})
    judged = judge({"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}, [], table)
    assert judged["verdict"] == "inconclusive"
    assert "3 test subjects" in judged["reason"]


def fid_cells(seeds: int) -> list[dict]:
    return [
        cell(label, seed, fid={"value": value + 0.001 * seed})
        for label, value in (("SN", 2.0), ("SN-MP", 1.0))
        for seed in range(seeds)
    ]


def test_under_five_seeds_no_claim_about_the_procedure_is_decided() -> None:
    claim = {"less": ("fid @ SN-MP", "fid @ SN")}
    few = judge(claim, fid_cells(4))
    assert few["verdict"] == "inconclusive"
    assert few["scope"] == "training procedure"
    assert "1 more" in few["reason"]
    assert "1.0 hours" in few["reason"]  # one seed of two cells at half an hour each
    assert judge(claim, fid_cells(5))["verdict"] == "supported"


def test_a_missing_side_is_said() -> None:
    judged = judge({"less": ("fid @ SN-MP", "fid @ GP")}, fid_cells(5))
    assert judged["verdict"] == "inconclusive"
    assert judged["reason"] == "no fid of GP"


def timed(label: str, precision: str, times: list[float], **more: object) -> dict:
    return cell(label, 0, precision, step_time_ms={"value": float(np.mean(times)), "rounds": times, **more})


def test_costs_are_compared_round_by_round() -> None:
    drift = np.array([0.0, 50.0, 120.0, 10.0, 80.0])  # the machine's speed; far larger than the difference
    slow, fast = list(110 + drift), list(100 + drift)
    claim = {"less": ("step_time_ms @ SN-MP", "step_time_ms @ SN")}
    judged = judge(claim, [timed("SN", "fp32", slow), timed("SN-MP", "bf16", fast)])
    assert judged["verdict"] == "supported"
    assert judged["effect"] == pytest.approx(-10)


def test_an_emulated_precision_has_no_speed() -> None:
    cells = [timed("SN", "fp32", [1.0, 1.0]), timed("SN-MP", "bf16", [9.0, 9.0], emulated=True)]
    judged = judge({"less": ("step_time_ms @ SN-MP", "step_time_ms @ SN")}, cells)
    assert judged["verdict"] == "inconclusive"
    assert "emulated" in judged["reason"]


def test_a_claim_across_precisions_carries_the_note_on_a_cpu_only() -> None:
    cells = [timed("SN", "fp32", [2.0, 2.1]), timed("SN-MP", "bf16", [1.0, 1.1])]
    claim = {"less": ("step_time_ms @ SN-MP", "step_time_ms @ SN")}
    assert "not the paper's fp16" in judge(claim, cells)["note"]
    assert judge(claim, cells, device="cuda")["note"] is None
    same = [timed("SN", "fp32", [2.0, 2.1]), timed("GP", "fp32", [1.0, 1.1])]
    assert judge({"less": ("step_time_ms @ GP", "step_time_ms @ SN")}, same)["note"] is None


def test_memory_is_an_exact_count() -> None:
    cells = [cell("SN", 0, peak_memory_mib={"value": 29.0}), cell("SN-MP", 0, "bf16", peak_memory_mib={"value": 19.0})]
    judged = judge({"less": ("peak_memory_mib @ SN-MP", "peak_memory_mib @ SN")}, cells)
    assert (judged["verdict"], judged["effect"], judged["ci_low"]) == ("supported", -10.0, -10.0)
