"""The best synthetic label: chosen on validation subjects only, worth what test subjects say."""

from typing import Any

import pandas as pd
import pytest

from benchmark.claims.best_label import best_synthetic, with_choice
from benchmark.protocol.cells import kind_of


def cell(label: str, seed: int = 0, real_subjects: int | None = None) -> dict[str, Any]:
    arm = {"mixed_with": label.partition(" + ")[2] or None, "real_subjects": real_subjects, "external": None}
    norm = None if label.startswith("real") else "spectral"
    facts = {"id": f"{label}_s{seed}", "label": label, "norm": norm, **arm, "seed": seed, "metrics": {}}
    return facts | {"kind": kind_of(facts)}


def rows(values: dict[str, tuple[list[float], list[float]]], metric: str = "dsc/all", seed: int = 0) -> pd.DataFrame:
    """Label -> DSC of its validation and of its test subjects."""
    return pd.DataFrame(
        [
            {"label": label, "seed": seed, "split": split, "subject": f"{split}{index}"}
            | {"metric": metric, "value": value, "empty": 0, "cell": f"{label}_s{seed}"}
            for label, sides in values.items()
            for split, column in zip(("validation", "test"), sides, strict=True)
            for index, value in enumerate(column)
        ]
    )


CELLS = [cell("real"), cell("A"), cell("B")]
VALUES = {
    "real": ([0.9, 0.9], [0.9, 0.8, 0.9, 0.8, 0.9, 0.8]),
    "A": ([0.6, 0.5], [0.8, 0.8, 0.8, 0.7, 0.8, 0.7]),  # best on test subjects
    "B": ([0.6, 0.6], [0.7, 0.6, 0.7, 0.5, 0.7, 0.6]),  # best on validation subjects
}


def test_mixtures_and_baselines_of_fewer_subjects_are_neither_chosen_nor_compared_with() -> None:
    arms = {"real n=1": VALUES["A"], "real + A": ([0.9, 0.9], [0.9] * 6)}
    cells = [cell("real n=1", real_subjects=1), cell("real + A"), *CELLS]
    assert best_synthetic(cells, rows(arms | VALUES)) == best_synthetic(CELLS, rows(VALUES))


def test_the_choice_falls_on_validation_subjects_and_its_gap_is_of_test_subjects() -> None:
    best = best_synthetic(CELLS, rows(VALUES))
    assert best is not None
    assert best["label"] == "B"
    assert best["validation"] == pytest.approx({"A": 0.55, "B": 0.6})
    assert best["test"] == pytest.approx(3.8 / 6)
    assert best["test_real"] == pytest.approx(5.1 / 6)
    gap = best["gap_to_real"]
    assert gap["value"] == pytest.approx(1.3 / 6)
    assert gap["ci_low"] < gap["value"] < gap["ci_high"]
    assert (gap["n"], gap["unit"], gap["real"]) == (6, "test subject", "real")


def test_the_two_means_are_over_the_seeds_that_both_have() -> None:
    """Otherwise a reader who subtracts them finds another gap than the one that stands beside them."""
    more = rows({"real": ([0.9, 0.9], [0.5] * 6)}, seed=1)
    best = best_synthetic([*CELLS, cell("real", 1)], pd.concat([rows(VALUES), more]))
    assert best is not None
    assert best["test_real"] - best["test"] == pytest.approx(best["gap_to_real"]["value"])
    assert best["test_real"] == pytest.approx(5.1 / 6)


def test_the_gap_is_to_the_baseline_of_the_same_recipe() -> None:
    """Otherwise the headline of `deviations` tells what a recipe costs as if it were what synthetic data cost."""
    scalings = {"real": "volume", "real recipe=D8": "patch", "A": "patch"}
    cells = [cell(label) | {"recipe_options": {"intensity_scaling": scaling}} for label, scaling in scalings.items()]
    values = {"real": ([0.9], [0.9] * 6), "real recipe=D8": ([0.6], [0.6] * 6), "A": ([0.5], [0.5] * 6)}
    best = best_synthetic(cells, rows(values))
    assert best is not None
    assert best["gap_to_real"]["real"] == "real recipe=D8"
    assert best["gap_to_real"]["value"] == pytest.approx(0.1)
    without = best_synthetic([cells[0], cells[2]], rows({name: values[name] for name in ("real", "A")}))
    assert without is not None
    assert without["gap_to_real"] is None, "no baseline saw the same data"


def test_what_test_subjects_say_does_not_move_the_choice() -> None:
    changed = {label: (validation, test if label == "A" else [0.1] * 6) for label, (validation, test) in VALUES.items()}
    best = best_synthetic(CELLS, rows(changed))
    assert best is not None
    assert best["label"] == "B"


def test_two_subjects_give_a_gap_without_an_interval() -> None:
    few = {label: (validation, test[:2]) for label, (validation, test) in VALUES.items()}
    best = best_synthetic(CELLS, rows(few))
    assert best is not None
    assert best["gap_to_real"]["value"] == pytest.approx(0.2)
    assert (best["gap_to_real"]["ci_low"], best["gap_to_real"]["ci_high"]) == (None, None)


def test_a_tie_is_told_and_intracranial_vessels_come_first() -> None:
    tied = VALUES | {"A": (VALUES["B"][0], VALUES["A"][1])}
    both = pd.concat([rows(VALUES), rows(tied, "dsc/intracranial")], ignore_index=True)
    best = best_synthetic(CELLS, both)
    assert best is not None
    assert best["metric"] == "dsc/intracranial"
    assert (best["label"], best["tied"]) == ("A", ["B"])


def test_without_validation_subjects_nothing_is_chosen() -> None:
    assert best_synthetic(CELLS, rows({label: ([], test) for label, (_, test) in VALUES.items()})) is None
    assert best_synthetic(CELLS[:1], rows({"real": VALUES["real"]})) is None


def test_a_claim_about_the_best_names_the_label_that_was_chosen() -> None:
    claim = {"name": "the gap @ best", "difference": ["dsc/all @ real", "dsc/all @ best"], "at_most": 0.06}
    resolved = with_choice(claim, {"label": "B"})
    assert resolved == claim | {"difference": ["dsc/all @ real", "dsc/all @ B"]}
    assert with_choice(claim, None) == claim
