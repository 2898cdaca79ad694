"""What is bold in a table: the best mean, where it beats every other one by more than chance."""

from typing import Any

import pandas as pd
import pytest

from benchmark.claims.leaders import leaders_of

METRIC = "dsc/all"
REAL = [0.90, 0.85, 0.91, 0.80, 0.88, 0.86]


def cell(label: str, seed: int = 0, **metrics: float) -> dict[str, Any]:
    entries = {name: {"value": value, "n": 40} for name, value in metrics.items()}
    kind = "real" if label == "real" else "synthetic"
    facts: dict[str, Any] = {"id": f"{label}_s{seed}", "label": label, "seed": seed, "kind": kind, "metrics": entries}
    return facts | {"status": "done", "recipe_options": {}, "norm": None, "precision": None}


def rows(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"label": label, "seed": 0, "split": "test", "subject": f"t{index}", "metric": METRIC}
            | {"value": value, "empty": 0, "cell": f"{label}_s0"}
            for label, column in values.items()
            for index, value in enumerate(column)
        ]
    )


def group(label: str, **means: float | None) -> dict[str, Any]:
    return {"label": label, "metrics": {name: {"value": value} for name, value in means.items()}}


def by_subject(values: dict[str, list[float]]) -> Any:
    groups: Any = [group(label, **{METRIC: sum(column) / len(column)}) for label, column in values.items()]
    (leader,) = leaders_of([cell(label) for label in values], rows(values), groups)
    return leader


def test_a_label_that_is_better_on_each_of_six_subjects_leads() -> None:
    lower = [value - 0.1 - 0.01 * index for index, value in enumerate(REAL)]
    leader = by_subject({"A": lower, "real": REAL, "B": [value - 0.2 for value in lower]})
    assert leader == {
        "metric": METRIC,
        "label": "real",
        "significant": True,
        "rival": "B",
        "p": pytest.approx(2 / 64),  # the exact sign-flip test of six subjects, against either
        "reason": None,
    }


def test_five_subjects_decide_nothing() -> None:
    leader = by_subject({"A": [value - 0.1 for value in REAL[:5]], "real": REAL[:5]})
    assert (leader["label"], leader["significant"], leader["p"]) == ("real", False, None)
    assert leader["reason"] == "5 test subjects: at least 6 are needed"


def test_one_rival_that_may_be_as_good_is_enough_to_leave_it_open() -> None:
    close = [value - (0.02 if index % 2 else -0.01) for index, value in enumerate(REAL)]
    leader = by_subject({"A": [value - 0.3 for value in REAL], "close": close, "real": REAL})
    assert (leader["label"], leader["significant"], leader["rival"]) == ("real", False, "close")
    assert leader["p"] > 0.05


@pytest.mark.parametrize(("seeds", "significant"), [(4, False), (5, True)])
def test_a_metric_without_subjects_needs_five_seeds(seeds: int, significant: bool) -> None:
    fid = {"A": 0.30, "B": 0.10}
    cells = [
        cell(label, seed, fid=value + 0.001 * seed * (label == "A"))
        for seed in range(seeds)
        for label, value in fid.items()
    ]
    groups: Any = [group(label, fid=value) for label, value in fid.items()]
    (leader,) = leaders_of(cells, rows({}), groups)
    assert (leader["label"], leader["significant"]) == ("B", significant), "lower is better"
    assert (leader["reason"] is None) == significant


def test_nothing_leads_where_only_one_label_has_a_value() -> None:
    groups: Any = [group("A", fid=0.1), group("B", fid=None)]
    assert leaders_of([cell("A", fid=0.1), cell("B")], rows({}), groups) == []
