"""What changed between two runs, and what of it is a regression."""

import copy
from typing import Any

import pytest

from benchmark.claims.two_runs import Difference, RunComparison, Tolerance, compare_runs

MACHINE = {"cpu": "one", "cores": 2, "memory_gib": 8.0, "system": "Linux"}


def a_run(values: dict[str, list[float]], **cell: Any) -> Any:
    """One arm with the same cell for each seed's list of DSC, a subject each."""
    cells = [
        {
            "id": f"SN_{seed}",
            "label": "SN",
            "seed": number,
            "status": "done",
            "stages": {"evaluate": f"evaluate-{seed}"},
            "metrics": {"dsc/all": {"value": sum(scores) / len(scores), "n": len(scores)}} | cell.get("metrics", {}),
        }
        for number, (seed, scores) in enumerate(values.items())
    ]
    subjects = [
        {"cell": f"SN_{seed}", "split": "test", "subject": f"s{number}", "metric": "dsc/all", "value": value}
        for seed, scores in values.items()
        for number, value in enumerate(scores)
    ]
    return {
        "format": 1,
        "protocol": "p",
        "profile": "q",
        "data": {"description": "d", "phantom": True, "sha256": "00"},
        "environment": {"machine": dict(MACHINE), "device": "cpu", "commit": "a", "dirty": False, "numerics": []},
        "settings": {"steps": 12, "unet": {"steps": 40}},
        "cells": cells,
        "subjects": subjects,
        "claims": [{"name": "c", "verdict": "supported", "must_hold": True}],
        "split": {"test": 8},
    }


FIRST = [0.5, 0.6, 0.7, 0.8, 0.5, 0.6, 0.7, 0.8]


def of(first: Any, second: Any, metric: str = "dsc/all", **tolerance: Any) -> tuple[RunComparison, Difference]:
    compared = compare_runs(first, second, Tolerance(**tolerance))
    (difference,) = [each for each in compared.differences if each.metric == metric]
    return compared, difference


def shifted(by: list[float]) -> list[float]:
    return [value + change for value, change in zip(FIRST, by, strict=True)]


def test_a_run_and_its_repetition_differ_in_nothing() -> None:
    compared, difference = of(a_run({"a": FIRST}), a_run({"a": FIRST}))
    assert compared.changes == []
    assert not any("conditions" in note for note in compared.notes)
    assert compared.regressions == []
    assert (difference.state, difference.p) == ("same", None)
    assert (compared.same_stages, compared.stages) == (1, 1)


def test_a_drop_of_all_subjects_is_tested_by_subject() -> None:
    compared, difference = of(a_run({"a": FIRST}), a_run({"a": shifted([-0.1] * 8)}))
    assert difference.difference == pytest.approx(-0.1)
    assert difference.p == pytest.approx(2 / 2**8), "every pattern of signs but two is less extreme"
    assert (difference.ci_low, difference.ci_high) == pytest.approx((-0.1, -0.1))
    assert (difference.n, difference.unit, difference.state) == (8, "test subject", "regression")
    assert compared.regressions == ["SN: dsc/all 0.65 -> 0.55, more than 0.033 worse"]


def test_what_a_test_takes_for_chance_is_no_regression() -> None:
    _, difference = of(a_run({"a": FIRST}), a_run({"a": shifted([-0.3, 0.1, -0.3, 0.1, -0.3, 0.1, -0.3, 0.1])}))
    assert difference.difference == pytest.approx(-0.1)
    assert difference.p is not None
    assert difference.p > 0.05
    assert difference.state == "worse"


@pytest.mark.parametrize(("limit", "state"), [(0.02, "regression"), (0.05, "worse")])
def test_of_two_subjects_the_tolerance_alone_decides(limit: float, state: str) -> None:
    _, difference = of(a_run({"a": [0.5, 0.7]}), a_run({"a": [0.47, 0.67]}), amounts={"dsc/all": limit})
    assert (difference.state, difference.p) == (state, None)
    assert difference.note == "no test: 2 test subjects: at least 6 are needed"


def test_five_seeds_are_tested_by_seeds_and_subjects() -> None:
    seeds = "abcde"
    first = {seed: [value + number / 100 for value in FIRST] for number, seed in enumerate(seeds)}
    second = {
        seed: [value - 0.1 - number / 1000 for value in scores] for number, (seed, scores) in enumerate(first.items())
    }
    _, difference = of(a_run(first), a_run(second))
    assert difference.test == "Satterthwaite's t over seeds and subjects"
    assert (difference.n, difference.unit, difference.state) == (5, "seed", "regression")


def test_subjects_of_other_data_are_no_partners_and_nothing_is_judged() -> None:
    first, second = a_run({"a": FIRST}), a_run({"a": shifted([-0.2] * 8)})
    second["data"]["sha256"] = "11"
    compared, difference = of(first, second)
    assert (difference.p, difference.state) == (None, "worse")
    assert compared.regressions == []
    assert [(change.group, change.name) for change in compared.changes] == [("data", "sha256")]
    assert any("nothing is paired" in note for note in compared.notes)


def test_options_environment_and_kernels_are_told_apart() -> None:
    first, second = a_run({"a": FIRST}), a_run({"a": FIRST})
    second["settings"]["unet"]["steps"] = 50
    second["settings"]["new"] = None  # that the other did not know and that says nothing
    second["environment"]["commit"] = "b"
    fault = {"operation": "mm", "way": "wider format"}
    first["environment"]["numerics"] = [{"network": "unet", "precision": "bf16", "faults": []}]
    second["environment"]["numerics"] = [{"network": "unet", "precision": "bf16", "faults": [fault]}]
    compared, _ = of(first, second)
    assert {(each.group, each.name, each.first, each.second) for each in compared.changes} == {
        ("options", "unet.steps", 40, 50),
        ("environment", "commit", "a", "b"),
        ("kernels", "unet in bf16", "all right", None),
        ("kernels", "unet in bf16.mm", None, "wider format"),
    }


def test_other_conditions_are_named_from_run_to_run_and_within_one() -> None:
    first, second = a_run({"a": FIRST}), a_run({"a": FIRST})
    fault = {"operation": "mm", "way": "float32"}
    for side, threads, torch, faults in ((first, 1, "2.12.0", []), (second, 2, "2.13.0", [fault])):
        side["settings"] |= {"threads": threads}
        side["environment"]["versions"] = {"torch": torch, "mlflow": torch}
        side["environment"]["numerics"] = [{"network": "unet", "precision": "bf16", "faults": faults}]
    second["settings"]["deterministic"] = "bitwise"
    second["environment"]["machine"]["cpu"] = "two"
    first["conditions"] = ["PyTorch 2.12.0 on one (9 stages)"]
    second["conditions"] = ["PyTorch 2.13.0 on two (7 stages)", "PyTorch 2.12.0 on one (2 stages)"]
    notes = of(first, second)[0].notes
    (between,) = [note for note in notes if note.startswith("computed under other conditions")]
    assert between.partition(": ")[2].split("; ") == [
        "threads 1 and 2",
        "deterministic none and bitwise",
        "processor one and two",
        "torch 2.12.0 and 2.13.0",
        "mm of a unet in bf16 computed as the library does and float32",
    ]
    assert [note for note in notes if "itself" in note] == [
        f"B itself was computed under 2 conditions: {'; '.join(second['conditions'])}"
    ]


def cost(value: float, spread: float, **more: Any) -> dict[str, Any]:
    return {"step_time_ms": {"value": value, "n": 4, "ci_low": value - spread, "ci_high": value + spread, **more}}


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (cost(10, 1), cost(20, 1), "regression"),
        (cost(10, 6), cost(20, 6), "worse"),
        (cost(10, 1), cost(20, 1, busy="others"), "worse"),
        (cost(20, 1), cost(10, 1), "better"),
    ],
    ids=["apart", "overlapping", "busy", "faster"],
)
def test_step_times_are_worse_where_their_intervals_lie_apart(first: Any, second: Any, state: str) -> None:
    sides = [a_run({"a": FIRST}, metrics=metrics) for metrics in (first, second)]
    assert of(*sides, metric="step_time_ms")[1].state == state


def test_step_times_of_another_machine_are_not_judged() -> None:
    first, second = (a_run({"a": FIRST}, metrics=cost(value, 1)) for value in (10, 20))
    second["environment"]["machine"]["cpu"] = "two"
    compared, difference = of(first, second, metric="step_time_ms")
    assert difference.state == "worse"
    assert any("another machine" in note for note in compared.notes)


def test_distances_by_other_features_are_not_judged() -> None:
    sides = [
        a_run({"a": FIRST}, metrics={"fid": {"value": value, "n": 9, "extractor": name}})
        for value, name in ((1.0, "medicalnet"), (2.0, "random_resnet10"))
    ]
    _, difference = of(*sides, metric="fid")
    assert difference.state == "worse"
    assert difference.note == "the extractor differs: medicalnet and random_resnet10"


@pytest.mark.parametrize(("change", "state"), [(1.1e-16, "same"), (1e-6, "worse")])
def test_the_last_digits_of_a_sum_are_no_change(change: float, state: str) -> None:
    sides = [a_run({"a": FIRST}, metrics={"fid": {"value": value, "n": 9}}) for value in (0.4451, 0.4451 + change)]
    assert of(*sides, metric="fid")[1].state == state


def test_only_main_metrics_and_those_asked_for_can_be_regressions() -> None:
    sides = [a_run({"a": FIRST}, metrics={"kid": {"value": value, "n": 9}}) for value in (1.0, 2.0)]
    assert of(*sides, metric="kid")[1].state == "worse"
    assert of(*sides, metric="kid", shares={"kid": 0.5})[1].state == "regression"
    assert of(*sides, metric="kid", shares={"kid": 1.5})[1].state == "worse"


def test_lost_values_failed_cells_and_broken_claims_are_regressions() -> None:
    first, second = a_run({"a": FIRST, "b": FIRST}), a_run({"a": FIRST, "b": FIRST})
    for cell in second["cells"]:
        cell["metrics"] = {"dsc/all": {"value": None, "n": 0}}
    second["cells"][1]["status"] = "failed"
    second["claims"][0]["verdict"] = "refuted"
    compared = compare_runs(first, second, Tolerance())
    assert compared.regressions == [
        "SN_b: was done, and is not",
        "SN: dsc/all was 0.65, and there is no value now",
        "c: must hold, and is refuted",
    ]


def test_a_label_that_has_lost_everything_takes_one_line() -> None:
    costs = {name: {"value": 1.0, "n": 1} for name in ("fid", "kid", "prd_auc", "coverage")}
    first, second = a_run({"a": FIRST}, metrics=costs), a_run({"a": FIRST}, metrics={})
    second["cells"][0]["metrics"] = {}
    (line,) = compare_runs(first, second, Tolerance()).regressions
    assert line.startswith("SN: dsc/all was 0.65, fid was 1, kid was 1 and ")
    assert line.endswith(" and 2 more, and there is no value now")


def test_the_same_stages_with_other_results_are_named() -> None:
    first, second = a_run({"a": FIRST}), a_run({"a": shifted([0.001] * 8)})
    assert compare_runs(first, second, Tolerance()).not_repeated == ["SN_a"]
    other = copy.deepcopy(second)
    other["cells"][0]["stages"]["evaluate"] = "evaluate-x"
    assert compare_runs(first, other, Tolerance()).not_repeated == []


def test_means_are_over_the_seeds_that_both_runs_have() -> None:
    first = a_run({"a": [0.5] * 8, "b": [0.7] * 8})
    second = a_run({"a": [0.5] * 8})
    compared, difference = of(first, second)
    assert (difference.first, difference.second, difference.state) == (0.5, 0.5, "same")
    assert compared.only_first == ["SN_b"]
