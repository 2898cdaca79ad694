"""Verdicts on made-up rows whose answer is known."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.claims.comparability import why_not_comparable
from benchmark.claims.evidence import Evidence
from benchmark.claims.verdicts import judge_claims
from benchmark.claims.wording import remarks_of
from benchmark.protocol.claim import Claim
from benchmark.protocol.schema import Profile, UNetSettings

SUBJECTS = 10
GREATER = {"greater": ("dsc/intracranial @ good", "dsc/intracranial @ bad")}


def rows(values_by_label: dict[str, np.ndarray], seeds: int = 2, metric: str = "dsc/intracranial") -> pd.DataFrame:
    """One row per label, seed and subject; values are per subject, or seeds x subjects."""
    return pd.DataFrame(
        [
            {
                "label": label,
                "seed": seed,
                "split": "test",
                "subject": f"s{index}",
                "metric": metric,
                "value": value,
                "empty": 0,
            }
            for label, values in values_by_label.items()
            for seed in range(seeds)
            for index, value in enumerate(values[seed] if np.ndim(values) == 2 else values)
        ],
        columns=["label", "seed", "split", "subject", "metric", "value", "empty"],
    )


def cell(label: str, seed: int, precision: str | None = "fp32", **metrics: object) -> dict[str, Any]:
    return {
        "id": f"{label}_s{seed}",
        "label": label,
        "kind": "synthetic",
        "norm": "spectral",
        "seed": seed,
        "precision": precision,
        "status": "done",
        "seconds": 1800.0,
        "metrics": metrics,
    }


def judge(
    claim: dict[str, Any],
    cells: list[dict[str, Any]],
    subjects: pd.DataFrame | None = None,
    device: str = "cpu",
    **more: Any,
) -> dict[str, Any]:
    table = rows({}) if subjects is None else subjects
    (judged,) = judge_claims([Claim(name="it", **claim)], cells, table, device, **more)
    json.dumps(judged, allow_nan=False)  # strict JSON
    return judged


@pytest.fixture
def dsc() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.7, 0.9, SUBJECTS)
    return {"good": base + 0.05, "bad": base + rng.normal(0, 0.005, SUBJECTS)}


SIDES = ("dsc/intracranial @ good", "dsc/intracranial @ bad")


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"greater": SIDES}, "supported"),
        ({"greater": SIDES[::-1]}, "refuted"),
        ({"less": SIDES[::-1]}, "supported"),
        ({"less": SIDES}, "refuted"),
        ({"difference": SIDES, "at_most": 0.06}, "supported"),
        ({"difference": SIDES, "at_most": 0.04}, "refuted"),
        ({"difference": SIDES, "at_most": 0.05}, "inconclusive"),
        ({"equal": SIDES, "within": 0.06}, "supported"),
        ({"equal": SIDES[::-1], "within": 0.06}, "supported"),
        ({"equal": SIDES, "within": 0.04}, "refuted"),
        ({"equal": SIDES, "within": 0.05}, "inconclusive"),
    ],
)
def test_paired_subjects_decide_a_claim_about_trained_models(
    dsc: dict[str, np.ndarray], claim: dict[str, Any], verdict: str
) -> None:
    judged = judge(claim, [], rows(dsc))
    assert judged["verdict"] == judged["wording"] == verdict
    assert judged["scope"] == "trained models"
    assert (judged["n"], judged["unit"]) == (SUBJECTS, "test subject")
    assert judged["test"] == "exact sign-flip permutation"
    assert judged["ci_low"] < judged["effect"] < judged["ci_high"]


def test_a_claim_can_be_followed_from_its_rows_to_its_verdict() -> None:
    good, bad = np.array([0.8, 0.7, 0.9, 0.6, 0.75, 0.85]), np.array([0.7, 0.65, 0.8, 0.62, 0.7, 0.7])
    judged = judge(GREATER, [], rows({"good": good, "bad": bad}))
    assert [row["difference"] for row in judged["rows"]] == pytest.approx([0.1, 0.05, 0.1, -0.02, 0.05, 0.15])
    assert judged["effect"] == pytest.approx(0.43 / 6)
    # Of the 64 patterns of signs only the observed one and the one with -0.02 flipped reach the mean: p = 2 * 2 / 64.
    assert judged["p"] == judged["p_corrected"] == pytest.approx(4 / 64)
    assert judged["verdict"] == "inconclusive"
    # With 64 patterns the first and the last mean of a subset bound the interval: those of one value.
    assert (judged["ci_low"], judged["ci_high"]) == pytest.approx((-0.02, 0.15))


def test_a_factor_scales_the_side_that_has_to_be_so_much_smaller() -> None:
    """By hand: 2 x 0.2 lies below 0.5 in all seeds, and 2 x 0.3 does not."""
    seeds = range(5)
    big = [0.50, 0.52, 0.54, 0.56, 0.58]
    low, high = [0.20, 0.21, 0.20, 0.22, 0.21], [0.30, 0.31, 0.30, 0.32, 0.31]
    cells = [
        cell(label, seed, fid={"value": value[seed], "n": 100})
        for label, value in (("big", big), ("low", low), ("high", high))
        for seed in seeds
    ]
    judged = judge({"less": ("fid @ low", "fid @ big"), "by_factor": 2.0}, cells)
    assert [row["difference"] for row in judged["rows"]] == pytest.approx(
        [2 * one - other for one, other in zip(low, big, strict=True)]
    )
    assert [row["left"] for row in judged["rows"]] == low, "as it was measured"
    assert judged["effect"] == pytest.approx(2 * np.mean(low) - np.mean(big))
    assert (judged["verdict"], judged["by_factor"], judged["holds_to"]) == ("supported", 2.0, 0.0)
    assert judged["statement"] == "fid @ low is less than fid @ big by a factor of 2 at least"
    assert judged["p_wilcoxon"] is judged["p_sign_flip"] is None, "they would test that there is no difference"
    turned = judge({"greater": ("fid @ big", "fid @ low"), "by_factor": 2.0}, cells)
    assert turned["effect"] == pytest.approx(-judged["effect"])
    assert turned["verdict"] == "supported"
    assert judge({"less": ("fid @ high", "fid @ big"), "by_factor": 2.0}, cells)["verdict"] == "refuted"
    assert judge({"less": ("fid @ high", "fid @ big")}, cells)["verdict"] == "supported"


def test_an_interval_of_a_scaled_difference_is_cut_to_what_it_can_be() -> None:
    values = {"a": np.tile([0.01, 0.99], 3), "b": np.tile([0.99, 0.01], 3)}
    sides = ("dsc/intracranial @ a", "dsc/intracranial @ b")
    judged = judge({"greater": sides, "by_factor": 3.0}, [], rows(values))
    assert judged["ci_low"] >= -3
    assert judged["ci_high"] <= 1


def test_seeds_do_not_count_as_further_subjects(dsc: dict[str, np.ndarray]) -> None:
    few, many = (judge(GREATER, [], rows(dsc, seeds=seeds)) for seeds in (1, 8))
    assert few["n"] == many["n"] == SUBJECTS
    assert few["ci_low"] == pytest.approx(many["ci_low"])


@pytest.mark.parametrize(
    ("by_seed", "claim", "verdict"),
    [
        ((0.30, -0.20), {"greater": SIDES}, "inconclusive"),
        ((0.30, -0.20), {"less": SIDES}, "inconclusive"),
        ((0.02, 0.01), {"greater": SIDES}, "supported"),
        ((0.02, 0.01), {"less": SIDES}, "refuted"),
        ((0.0605, 0.037), {"difference": SIDES, "at_most": 0.06}, "inconclusive"),
        ((0.0595, 0.037), {"difference": SIDES, "at_most": 0.06}, "supported"),
        ((0.09, 0.05), {"difference": SIDES, "at_most": 0.06}, "inconclusive"),
        ((0.015, -0.015), {"equal": SIDES, "within": 0.02}, "supported"),
        ((0.03, -0.03), {"equal": SIDES, "within": 0.02}, "inconclusive"),
    ],
)
def test_models_that_disagree_decide_nothing_whatever_their_mean(
    by_seed: tuple[float, float], claim: dict[str, Any], verdict: str
) -> None:
    base = np.linspace(0.5, 0.6, SUBJECTS)
    subjects = rows({"good": np.stack([base + by for by in by_seed]), "bad": np.stack([base, base])})
    judged = judge(claim, [cell(label, seed) for label in ("good", "bad") for seed in (0, 1)], subjects)
    assert judged["verdict"] == verdict
    assert judged["by_seed"] == pytest.approx(by_seed)
    told = " ".join(remarks_of(judged))
    if verdict == "inconclusive":
        assert f"is {by_seed[0]:.3g} of seed 0 and {by_seed[1]:.3g} of seed 1" in told
        assert judged["needed"] is None, "more subjects would not make them agree"
    else:
        assert "Each seed by itself" in told
    one = judge(claim, [cell("good", 0), cell("bad", 0)], rows({"good": base + by_seed[0], "bad": base}, seeds=1))
    assert "by_seed" not in one


def test_a_missing_value_is_counted_once_however_many_rivals_there_are(dsc: dict[str, np.ndarray]) -> None:
    values = {"bad": dsc["bad"] - 0.1, "worse": dsc["bad"] - 0.2, "best": dsc["good"]}
    subjects = rows(values | {"worst": dsc["bad"] - 0.3}, metric="bavd_voxel/all")
    subjects.loc[(subjects["label"] == "best") & (subjects["subject"] == "s3") & (subjects["seed"] == 0), "empty"] = 1
    cells = [cell(label, seed) for label in (*values, "worst") for seed in (0, 1)]
    judged = judge({"best": ["bavd_voxel/all @ best"]}, cells, subjects)
    assert (judged["missing"]["empty_predictions"], judged["missing"]["values"]) == (1, 1)


def test_a_seed_that_was_never_run_on_one_side_is_left_out(dsc: dict[str, np.ndarray]) -> None:
    whole = judge(GREATER, [], rows(dsc))
    lucky = rows({"good": np.ones(SUBJECTS)}, seeds=1).assign(seed=7)
    judged = judge(GREATER, [], pd.concat([rows(dsc), lucky]))
    assert judged["effect"] == pytest.approx(whole["effect"])
    assert judged["missing"] is None


@pytest.mark.parametrize(("subjects", "verdict"), [(5, "inconclusive"), (6, "supported")])
def test_fewer_than_six_subjects_decide_nothing(dsc: dict[str, np.ndarray], subjects: int, verdict: str) -> None:
    judged = judge(GREATER, [], rows({label: values[:subjects] for label, values in dsc.items()}))
    assert judged["verdict"] == verdict
    assert (judged["reason"] == "5 test subjects: at least 6 are needed") == (subjects == 5)


def test_too_coarse_a_test_for_so_many_claims_is_said(dsc: dict[str, np.ndarray]) -> None:
    table = rows({label: values[:6] for label, values in dsc.items()})
    claims = [Claim(name=str(i), difference=SIDES[::-1], at_most=float(i)) for i in range(3)]
    judged = judge_claims(claims, [], table, "cpu")
    assert {claim["verdict"] for claim in judged} == {"inconclusive"}
    assert "cannot give a p below 0.031, too coarse for 3 claims; 7 would do" in judged[0]["reason"]


def fid_cells(seeds: int, spread: float = 0.01) -> list[dict[str, Any]]:
    noise = np.random.default_rng(1).normal(0, spread, (2, seeds))
    return [
        cell(label, seed, fid={"value": value + noise[side, seed]})
        for side, (label, value) in enumerate((("SN", 2.0), ("SN-MP", 1.0)))
        for seed in range(seeds)
    ]


LESS_FID = {"less": ("fid @ SN-MP", "fid @ SN")}


def test_under_five_seeds_no_claim_about_the_procedure_is_decided() -> None:
    few = judge(LESS_FID, fid_cells(4))
    assert few["verdict"] == "inconclusive"
    assert few["p"] is None
    assert few["scope"] == "training procedure"
    # one seed of two cells at half an hour each
    assert few["reason"] == "4 seeds: at least 1 more is needed, about 1.0 hours of one worker"
    assert few["needed"]["more"] == 1
    assert few["needed"]["hours"] == pytest.approx(1.0)
    enough = judge(LESS_FID, fid_cells(5))
    assert (enough["verdict"], enough["n"], enough["unit"]) == ("supported", 5, "seed")
    assert enough["p_sign_flip"] == enough["p_wilcoxon"] == 2 / 32


def test_an_open_claim_says_what_would_decide_it() -> None:
    judged = judge(LESS_FID, fid_cells(5, spread=1.2))
    needed = judged["needed"]
    assert judged["verdict"] == "inconclusive"
    assert needed["low"] <= needed["more"] <= (needed["high"] or np.inf)
    assert needed["hours"] == pytest.approx(needed["more"])
    assert f"{needed['more']} more seeds would have it supported with 80 % power" in needed["sentence"]


def test_no_number_is_given_where_there_is_no_effect(dsc: dict[str, np.ndarray]) -> None:
    sign = np.tile([0.01, -0.01], SUBJECTS // 2)
    judged = judge(GREATER, [], rows({"good": dsc["good"] + sign, "bad": dsc["good"]}))
    assert judged["needed"]["more"] is None
    assert "No number can be given" in judged["needed"]["sentence"]


def test_hours_leave_out_what_seeds_share() -> None:
    cells = [c | {"stage_seconds": {"data": 9e9, "gan": 3000.0, "score": 600.0}} for c in fid_cells(4)]
    assert judge(LESS_FID, cells)["needed"]["hours"] == pytest.approx(2.0)


def crossed(effect: float, seeds: int = 6, seed_sd: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    sides = [
        0.8
        + shift
        + rng.normal(0, seed_sd, (seeds, 1))
        + rng.normal(0, 0.01, (1, SUBJECTS))
        + rng.normal(0, 0.005, (seeds, SUBJECTS))
        for shift in (effect, 0.0)
    ]
    return rows({"good": sides[0], "bad": sides[1]}, seeds=seeds)


def test_a_claim_about_the_procedure_has_seeds_and_subjects_vary() -> None:
    scope = {"scope": "training procedure"}
    models = judge(GREATER, [], crossed(0.05))
    procedure = judge(GREATER | scope, [], crossed(0.05))
    assert (procedure["seeds"], procedure["subjects"], procedure["n"]) == (6, SUBJECTS, 6)
    assert procedure["test"] == "Satterthwaite's t over seeds and subjects"
    assert procedure["verdict"] == "supported"
    assert procedure["effect"] == pytest.approx(models["effect"])
    assert procedure["ci_high"] - procedure["ci_low"] > models["ci_high"] - models["ci_low"]
    assert len(procedure["rows"]) == 6 * SUBJECTS
    assert judge(GREATER | scope, [], crossed(0.05, seeds=4))["verdict"] == "inconclusive"


def test_one_more_seed_cannot_help_where_the_subjects_are_too_few() -> None:
    rng = np.random.default_rng(3)
    of_subjects = rng.normal(0, 0.05, SUBJECTS)
    values = {"good": np.tile(0.82 + of_subjects - of_subjects.mean(), (5, 1)), "bad": np.full((5, SUBJECTS), 0.8)}
    judged = judge(GREATER | {"scope": "training procedure"}, [], rows(values, seeds=5))
    assert judged["needed"]["unit"] == "test subject"
    assert judged["needed"]["with_seeds"] == 5


def test_a_missing_side_is_said() -> None:
    judged = judge({"less": ("fid @ SN-MP", "fid @ GP")}, fid_cells(5))
    assert (judged["verdict"], judged["reason"], judged["effect"]) == ("inconclusive", "no fid of GP", None)


def test_the_spread_of_kmeans_stands_beside_a_prd_claim() -> None:
    cells = [c | {"metrics": {"prd_auc": c["metrics"]["fid"] | {"sd_kmeans": 0.02}}} for c in fid_cells(5)]
    assert judge({"less": ("prd_auc @ SN-MP", "prd_auc @ SN")}, cells)["sd_kmeans"] == pytest.approx(0.02)


def test_real_data_against_real_data_stand_beside_a_distance(dsc: dict[str, np.ndarray]) -> None:
    floor = {"metrics": {"fid": 0.1}, "sd": {"fid": 0.02}}
    assert judge(LESS_FID, fid_cells(5), floor=floor)["floor"] == {"value": 0.1, "sd": 0.02}
    assert "floor" not in judge(GREATER, [], rows(dsc), floor=floor)


# Several claims


def test_holm_corrects_for_the_claims_that_could_be_decided(dsc: dict[str, np.ndarray]) -> None:
    claims = [Claim(name="a", **GREATER), Claim(name="b", difference=SIDES, at_most=0.05), Claim(name="c", **LESS_FID)]
    one, other, few = judge_claims(claims, fid_cells(2), rows(dsc), "cpu")
    assert one["claims_corrected_for"] == 2  # two seeds decide nothing, so that claim asks for no correction
    assert one["p_corrected"] == pytest.approx(2 * one["p"])
    assert other["p_corrected"] == pytest.approx(max(other["p"], one["p_corrected"]))
    assert few["p_corrected"] is None


def test_the_best_label_has_to_beat_every_other_synthetic_one(dsc: dict[str, np.ndarray]) -> None:
    values = dsc | {"middle": dsc["bad"] + 0.02, "real": dsc["good"] + 0.1}
    cells = [
        cell(label, seed) | {"kind": "real" if label == "real" else "synthetic"} for label in values for seed in (0, 1)
    ]
    best = judge({"best": ("dsc/intracranial @ good",)}, cells, rows(values))
    assert best["verdict"] == "supported"
    assert best["right"] == "middle"  # the closest rival
    assert [rival["right"] for rival in best["comparisons"]] == ["bad", "middle"]
    assert judge({"best": ("dsc/intracranial @ middle",)}, cells, rows(values))["verdict"] == "refuted"
    among = judge({"best": ("dsc/intracranial @ middle",), "among": ("bad", "middle")}, cells, rows(values))
    assert among["verdict"] == "supported", "good is better, and not among them"
    assert among["statement"] == "dsc/intracranial @ middle is the best of bad, middle"
    tied = rows(values | {"middle": dsc["good"] + np.tile([0.004, -0.004], SUBJECTS // 2)})
    assert judge({"best": ("dsc/intracranial @ good",)}, cells, tied)["verdict"] == "inconclusive"


def test_best_in_two_metrics_needs_both(dsc: dict[str, np.ndarray]) -> None:
    cells = [cell(label, seed) for label in dsc for seed in (0, 1)]
    far = {"good": dsc["good"] + 1.0, "bad": dsc["bad"]}  # good has the higher DSC, and the longer distance
    table = pd.concat([rows(dsc), rows(far, metric="bavd_mm/all")])
    assert judge({"best": ("dsc/intracranial @ good", "bavd_mm/all @ good")}, cells, table)["verdict"] == "refuted"
    assert judge({"best": ("bavd_mm/all @ bad",)}, cells, table)["verdict"] == "supported"


# Published numbers

PUBLISHED = {"dsc/intracranial @ good": {"value": 0.85, "source": "abstract"}}


@pytest.mark.parametrize(
    ("within", "wording"), [(0.2, "compatible"), (0.001, "undecided"), (0.05, "compatible"), (1e-9, "undecided")]
)
def test_a_published_number_has_its_own_words(dsc: dict[str, np.ndarray], within: float, wording: str) -> None:
    values = {"good": 0.85 + dsc["good"] - dsc["good"].mean() + 0.0005}
    judged = judge({"compatible": "dsc/intracranial @ good", "within": within}, [], rows(values), reference=PUBLISHED)
    assert judged["wording"] == wording
    assert judged["published"] == PUBLISHED["dsc/intracranial @ good"]


def test_a_phantom_can_refute_no_paper(dsc: dict[str, np.ndarray]) -> None:
    claim = {"compatible": "dsc/intracranial @ good", "within": 0.01}
    far = rows({"good": dsc["good"] - 0.4})
    assert judge(claim, [], far, reference=PUBLISHED)["wording"] == "not compatible"
    judged = judge(claim, [], far, reference=PUBLISHED, not_comparable="a phantom")
    assert (judged["verdict"], judged["wording"], judged["reason"]) == ("inconclusive", "not comparable", "a phantom")
    assert judged["p_corrected"] is None


# What is missing


def failing(values: dict[str, np.ndarray], seeds: int, *failed: str) -> list[dict[str, Any]]:
    cells = [cell(label, seed) for label in values for seed in range(seeds)]
    return [c | {"status": "failed" if c["id"] in failed else "done"} for c in cells]


def test_failed_cells_are_counted_and_judged_at_their_best_and_worst(dsc: dict[str, np.ndarray]) -> None:
    table = rows(dsc, seeds=5)
    table = table[~((table["label"] == "good") & (table["seed"] == 3))]
    judged = judge(GREATER, failing(dsc, 5, "good_s3"), table)
    assert judged["verdict"] == "supported"
    # A DSC of 0 from one of five seeds lowers the mean by 0.17, far more than the lead of 0.05.
    assert judged["missing"]["failed_cells"] == ["good_s3"]
    # So the mean would be against the claim, but four models of five for it.
    assert (judged["missing"]["best_case"], judged["missing"]["worst_case"]) == ("supported", "inconclusive")


@pytest.mark.parametrize("status", ["failed", "unfinished"])
def test_a_cell_without_values_is_missing_whether_it_failed_or_was_interrupted(
    dsc: dict[str, np.ndarray], status: str
) -> None:
    table = rows(dsc, seeds=5)
    table = table[~((table["label"] == "good") & (table["seed"] == 3))]
    cells = [c | {"status": status if c["id"] == "good_s3" else "done"} for c in failing(dsc, 5)]
    missing = judge(GREATER, cells, table)["missing"]
    assert (missing["failed_cells"], missing["worst_case"]) == (["good_s3"], "inconclusive")
    # A cell that has its values lacks nothing, whatever else of it is unfinished.
    assert judge(GREATER, [c | {"status": "unfinished"} for c in cells], rows(dsc, seeds=5))["missing"] is None


def test_what_is_missing_is_told_with_what_it_could_have_changed(dsc: dict[str, np.ndarray]) -> None:
    table = rows(dsc, seeds=5)
    table = table[~((table["label"] == "good") & (table["seed"] == 3))]
    seeds, remark = remarks_of(judge(GREATER, failing(dsc, 5, "good_s3"), table, device="cuda"))
    assert seeds.startswith("Each seed by itself: 0.0")
    assert remark == (
        "Missing: 1 cell failed or unfinished (good_s3); 10 values without a pair or a meaning. In the best and the "
        "worst case: supported if all of it had come out for the claim, inconclusive if against it."
    )


@pytest.mark.parametrize(
    ("data", "settings", "why"),
    [
        ({"phantom": True}, {}, "an embedded phantom can neither confirm nor refute"),
        ({"phantom": False}, Profile(filters=64, pairs=100).model_dump(mode="json"), "size.* (filters, pairs) cannot"),
        ({"phantom": False}, Profile().model_dump(mode="json"), None),
    ],
)
def test_only_the_papers_own_sizes_on_real_data_bear_on_its_numbers(data: Any, settings: Any, why: str | None) -> None:
    reason = why_not_comparable(data, settings)
    assert (reason is None) == (why is None)
    assert all(part in (reason or "") for part in (why or "").split(".*"))


def test_the_size_of_the_unet_and_of_every_cell_counts_too() -> None:
    smaller = Profile(unet=UNetSettings(filters=(8, 16), batch=8, steps=400)).model_dump(mode="json")
    assert "(unet.filters, unet.steps)" in (why_not_comparable({}, smaller) or "")
    paper = Profile().model_dump(mode="json")
    usual = [
        {"variant": "c-SN-MP", "filters": 1024, "batch": 4},
        {"variant": "SN", "filters": 512, "batch": 4},
        {"variant": None, "norm": "spectral", "filters": 512, "batch": 4},
        {"variant": None, "norm": None, "filters": None, "batch": None},
    ]
    assert why_not_comparable({}, paper, usual) is None
    wide = why_not_comparable({}, paper, [*usual, {"variant": "SN", "filters": 1024, "batch": 4}])
    assert "(filters)" in (wide or "")
    assert "(batch)" in (why_not_comparable({}, paper, [usual[0] | {"batch": 8}]) or "")


def test_a_large_lead_survives_its_worst_case(dsc: dict[str, np.ndarray]) -> None:
    values = {"good": dsc["good"] + 0.05, "bad": dsc["bad"] - 0.5}
    table = rows(values, seeds=5)
    table = table[~((table["label"] == "good") & (table["seed"] == 3) & (table["subject"] == "s4"))]
    missing = judge(GREATER, failing(values, 5), table)["missing"]
    assert (missing["values"], missing["best_case"], missing["worst_case"]) == (1, "supported", "supported")


def test_the_distance_of_an_empty_prediction_is_undefined_and_its_overlap_is_not(dsc: dict[str, np.ndarray]) -> None:
    table = rows(dsc)
    empty = (table["label"] == "good") & (table["subject"] == "s0")
    overlap = judge(GREATER, [], table.assign(empty=empty.astype(int)))
    assert overlap["missing"]["empty_predictions"] == 2  # one per seed
    assert overlap["missing"]["values"] == 0
    far = rows({"good": dsc["good"] - 0.2, "bad": dsc["bad"]}, metric="bavd_mm/all")
    far.loc[empty, ["value", "empty"]] = [9.0, 1]
    judged = judge({"less": ("bavd_mm/all @ good", "bavd_mm/all @ bad")}, [], far)
    assert (judged["verdict"], judged["missing"]["values"]) == ("inconclusive", 2)
    assert (judged["missing"]["best_case"], judged["missing"]["worst_case"]) == ("supported", "inconclusive")


@pytest.mark.parametrize(("metric", "undefined"), [("betti_0_error", 0), ("precision", 2), ("sensitivity", 0)])
def test_of_an_empty_prediction_betti_errors_are_defined_and_precision_is_not(
    dsc: dict[str, np.ndarray], metric: str, undefined: int
) -> None:
    table = rows(dsc, metric=f"{metric}/all")
    table.loc[(table["label"] == "good") & (table["subject"] == "s0"), ["value", "empty"]] = [0.0, 1]
    missing = judge({"less": (f"{metric}/all @ good", f"{metric}/all @ bad")}, [], table)["missing"]
    assert (missing["empty_predictions"], missing["values"]) == (2, undefined)


def test_an_unbiased_distance_may_be_negative() -> None:
    cells = [cell("SN", seed, kid={"value": value}, fid={"value": 1.0}) for seed, value in enumerate((-0.2, 0.3))]
    evidence = Evidence(cells, rows({}))
    assert evidence.limits("kid") == (-0.2, 0.3)
    assert evidence.limits("fid") == (0.0, 1.0)
    assert Evidence(cells[1:], rows({})).limits("kid") == (0.0, 0.3)


def test_subjects_without_a_value_on_one_side_are_counted(dsc: dict[str, np.ndarray]) -> None:
    table = rows(dsc)
    table.loc[table["subject"] == "s0", "split"] = "validation"
    table.loc[(table["subject"] == "s1") & (table["label"] == "good"), "value"] = np.nan
    judged = judge(GREATER, [], table)
    assert judged["n"] == SUBJECTS - 2
    assert judged["missing"]["values"] == 2


@pytest.mark.parametrize(("within", "worst"), [(0.02, "inconclusive"), (2.0, "supported")])
def test_equality_has_a_worst_case_on_either_side(within: float, worst: str) -> None:
    rng = np.random.default_rng(4)
    values = {"good": rng.uniform(0.7, 0.9, SUBJECTS)}
    values["bad"] = values["good"] + rng.normal(0, 0.002, SUBJECTS)
    table = rows(values, seeds=2)
    table.loc[(table["label"] == "bad") & (table["subject"] == "s4"), "value"] = np.nan
    judged = judge({"equal": SIDES, "within": within}, [], table)
    assert (judged["verdict"], judged["missing"]["worst_case"]) == ("supported", worst)
    assert judged["missing"]["best_case"] == "supported"


# Costs


def timed(label: str, precision: str, times: list[float], **more: object) -> dict[str, Any]:
    return cell(label, 0, precision, step_time_ms={"value": float(np.mean(times)), "rounds": times, **more})


LESS_TIME = {"less": ("step_time_ms @ SN-MP", "step_time_ms @ SN")}


def test_costs_are_compared_round_by_round() -> None:
    drift = np.array([0.0, 50.0, 120.0, 10.0, 80.0, 30.0])  # the machine's speed; far larger than the difference
    slow, fast = list(110 + drift), list(100 + drift)
    judged = judge(LESS_TIME, [timed("SN", "fp32", slow), timed("SN-MP", "bf16", fast)])
    assert (judged["verdict"], judged["unit"], judged["n"]) == ("supported", "interleaved round", 6)
    assert judged["effect"] == pytest.approx(-10)


def test_an_emulated_precision_has_no_speed() -> None:
    cells = [timed("SN", "fp32", [1.0] * 8), timed("SN-MP", "bf16", [9.0] * 8, emulated=True)]
    judged = judge(LESS_TIME, cells)
    assert judged["verdict"] == "inconclusive"
    assert "emulated" in judged["reason"]


def test_a_time_that_was_taken_on_a_busy_machine_supports_nothing() -> None:
    busy = "other programs used 1.3 of 2 cores"
    cells = [timed("SN", "fp32", [2.0] * 8, busy=busy), timed("SN-MP", "bf16", [1.0] * 8)]
    judged = judge(LESS_TIME, cells)
    assert judged["verdict"] == "inconclusive"
    assert busy in judged["reason"]


def test_a_claim_across_precisions_carries_the_note_on_a_cpu_only() -> None:
    cells = [timed("SN", "fp32", [2.0, 2.1]), timed("SN-MP", "bf16", [1.0, 1.1])]
    assert "not the paper's fp16" in judge(LESS_TIME, cells)["note"]
    assert judge(LESS_TIME, cells, device="cuda")["note"] is None
    same = [timed("SN", "fp32", [2.0, 2.1]), timed("GP", "fp32", [1.0, 1.1])]
    assert judge({"less": ("step_time_ms @ GP", "step_time_ms @ SN")}, same)["note"] is None


@pytest.mark.parametrize(("mixed", "verdict"), [(19.0, "supported"), (29.0, "refuted"), (30.0, "refuted")])
def test_memory_is_an_exact_count(mixed: float, verdict: str) -> None:
    cells = [cell("SN", 0, peak_memory_mib={"value": 29.0}), cell("SN-MP", 0, peak_memory_mib={"value": mixed})]
    judged = judge({"less": ("peak_memory_mib @ SN-MP", "peak_memory_mib @ SN")}, cells)
    assert (judged["verdict"], judged["effect"], judged["ci_low"]) == (verdict, mixed - 29, mixed - 29)
    assert judged["p"] is None


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"difference": None, "at_most": 0.0}, "supported"),
        ({"less": None}, "refuted"),
        ({"greater": None}, "refuted"),
        ({"equal": None, "within": 1e-9}, "supported"),
        ({"best": ("peak_memory_mib @ SN-MP",)}, "refuted"),
    ],
)
def test_equal_memory_is_at_most_as_much_but_neither_less_nor_greater(claim: dict[str, Any], verdict: str) -> None:
    sides = ("peak_memory_mib @ SN-MP", "peak_memory_mib @ SN")
    cells = [cell(label, 0, peak_memory_mib={"value": 29.0}) for label in ("SN", "SN-MP")]
    assert (
        judge({name: sides if value is None else value for name, value in claim.items()}, cells)["verdict"] == verdict
    )


# Measured alike

RECIPE = {"penalty_norm": "sample", "reference": "held_out"}


def scored(metric: str, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Five seeds each, clearly apart, with these facts beside the value or, of the recipe, in the cell."""
    cells = [
        cell(label, seed)
        | {"metrics": {metric: {"value": value * (1 + seed / 100)} | facts}}
        | {"recipe_options": RECIPE | {"reference": facts.get("reference")} | facts.get("recipe", {})}
        for label, value, facts in (("SN-MP", 1.0, left), ("SN", 2.0, right))
        for seed in range(5)
    ]
    return judge({"less": (f"{metric} @ SN-MP", f"{metric} @ SN")}, cells)


FACTS = {"n": 12, "extractor": "medicalnet", "reference": "held_out"}


@pytest.mark.parametrize("metric", ["fid", "prd_f8", "prd_auc", "precision", "recall", "density", "coverage"])
def test_biased_metrics_of_unequal_numbers_are_not_compared(metric: str) -> None:
    judged = scored(metric, FACTS, FACTS | {"n": 16})
    assert (judged["verdict"], judged["effect"]) == ("inconclusive", None)
    assert judged["reason"].startswith(f"n of {metric} differs between SN-MP and SN: 12 and 16 patches; claim fid_infi")
    assert scored(metric, FACTS, FACTS)["verdict"] == "supported"


@pytest.mark.parametrize("metric", ["fid_infinite", "kid"])
def test_unbiased_metrics_need_only_one_extractor_and_reference(metric: str) -> None:
    assert scored(metric, FACTS, FACTS | {"n": 16})["verdict"] == "supported"
    judged = scored(metric, FACTS, FACTS | {"extractor": "random_resnet10"})
    assert judged["reason"].endswith("cannot be compared: the extractor differs, medicalnet and random_resnet10")


def test_a_reference_may_differ_only_where_nothing_else_does() -> None:
    assert scored("fid", FACTS, FACTS | {"reference": "train"})["verdict"] == "supported"  # what D15 makes
    judged = scored("fid", FACTS, FACTS | {"reference": "train", "recipe": {"penalty_norm": "batch"}})
    assert (judged["verdict"], judged["effect"]) == ("inconclusive", None)
    assert "the reference differs, held_out and train" in judged["reason"]


# Invariances

TABLES = st.integers(0, 2**32 - 1).map(
    lambda seed: {
        label: np.round(np.random.default_rng([seed, side]).normal(0.8, 0.05, (5, 7)), 2)
        for side, label in enumerate(("good", "bad"))
    }
)
SCOPES = st.sampled_from(["trained models", "training procedure"])
QUICK = settings(max_examples=25, deadline=None)
SHOWN = ("verdict", "effect", "ci_low", "ci_high", "p")


def shown(judged: dict[str, Any]) -> list[Any]:
    return [judged[name] if name == "verdict" else pytest.approx(judged[name], abs=1e-9) for name in SHOWN]


@QUICK
@given(TABLES, SCOPES, st.sampled_from(["less", "greater"]))
def test_swapped_sides_turn_less_into_greater(values: dict[str, np.ndarray], scope: str, kind: str) -> None:
    other = "greater" if kind == "less" else "less"
    one = judge({kind: SIDES, "scope": scope}, [], rows(values, seeds=5))
    two = judge({other: SIDES[::-1], "scope": scope}, [], rows(values, seeds=5))
    assert (one["verdict"], one["p"]) == (two["verdict"], pytest.approx(two["p"]))
    assert (one["effect"], one["ci_low"]) == pytest.approx((-two["effect"], -two["ci_high"]), abs=1e-9)


@QUICK
@given(TABLES, SCOPES, st.floats(-0.5, 0.5), st.randoms(use_true_random=False))
def test_a_constant_on_both_sides_and_the_order_of_rows_change_nothing(
    values: dict[str, np.ndarray], scope: str, constant: float, random: Any
) -> None:
    table = rows(values, seeds=5)
    order = list(range(len(table)))
    random.shuffle(order)
    claim = {"difference": SIDES, "at_most": 0.015, "scope": scope}
    changed = table.assign(value=table["value"] + constant).iloc[order]
    assert [judge(claim, [], changed)[name] for name in SHOWN] == shown(judge(claim, [], table))


@QUICK
@given(TABLES, SCOPES, st.lists(st.floats(1e-6, 0.2), min_size=2, max_size=2))
def test_a_wider_margin_never_makes_equality_less_true(
    values: dict[str, np.ndarray], scope: str, margins: list[float]
) -> None:
    order = ("refuted", "inconclusive", "supported")
    narrow, wide = (
        order.index(judge({"equal": SIDES, "within": m, "scope": scope}, [], rows(values, seeds=5))["verdict"])
        for m in sorted(margins)
    )
    assert narrow <= wide


@QUICK
@given(TABLES, SCOPES, st.floats(-0.05, 0.05))
def test_a_claim_alone_is_decided_where_its_interval_lies_clear_of_the_bound(
    values: dict[str, np.ndarray], scope: str, bound: float
) -> None:
    judged = judge({"difference": SIDES, "at_most": bound, "scope": scope}, [], rows(values, seeds=5))
    low, high = judged["ci_low"] - 1e-12, judged["ci_high"] + 1e-12  # an end on the bound is not clear of it
    sides = {value <= bound for value in judged.get("by_seed", [])}
    clear = "supported" if high < bound else "refuted" if low > bound else "inconclusive"
    assert judged["verdict"] == (clear if len(sides) < 2 else "inconclusive")


def test_rounding_is_no_direction() -> None:
    """Means of equal numbers, added in another order, differ in the last bit: all to one side, as signs would see."""
    values = np.linspace(0.7, 0.9, SUBJECTS)
    judged = judge(GREATER, [], rows({"good": values * (1 + 4e-16), "bad": values}))
    assert judged["verdict"] == "inconclusive"
    assert judged["effect"] == 0.0


def test_the_interval_of_a_difference_of_shares_stays_between_minus_one_and_one() -> None:
    rng = np.random.default_rng(0)
    high, low = 0.8 + rng.uniform(0, 0.2, SUBJECTS), rng.uniform(0, 0.2, SUBJECTS)
    sides = ({"good": high, "bad": low}, {"good": low, "bad": high})
    table = pd.concat(rows(side, seeds=1).assign(seed=seed) for seed, side in enumerate(sides))
    judged = judge(GREATER | {"scope": "training procedure"}, [], table)
    assert -1 <= judged["ci_low"] < judged["ci_high"] <= 1
    far = judge(
        {"greater": ("bavd_mm/all @ good", "bavd_mm/all @ bad"), "scope": "training procedure"},
        [],
        table.assign(metric="bavd_mm/all"),
    )
    assert max(-far["ci_low"], far["ci_high"]) > 1, "which a distance has not"
