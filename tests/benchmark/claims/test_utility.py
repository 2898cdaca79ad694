"""Real subjects as a unit: cells and stages of the arms, where the curve meets a set, and how sure that is."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmark.artifacts.store import Spec
from benchmark.claims.utility import utility_of, worth_in_words, worth_of
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import UNTRAINED, cells_of, labels_of, select
from benchmark.protocol.load import find_protocol, load_protocol
from benchmark.protocol.schema import Profile, Protocol
from vesselgan.errors import InputError

NUMBERS = (1, 3, 6, 12, 24)
ARMS = {"real": [1, 3], "real + SN": [3, "all"]}


def protocol_with(arms: dict[str, list[Any]], matrix: dict[str, Any] | None = None, /, **profile: Any) -> Protocol:
    settings = {"filters": 16, "recipe": "corrected", "patch": [16, 16, 16], "phantom": {"shape": [32, 32, 16]}}
    settings |= {"split": {"train": 4, "validation": 1, "test": 2}, "score": {"extractor": "random_resnet10"}}
    settings |= {"batch": 2, "precision": {"mixed": "bf16"}, **profile}
    return Protocol.model_validate(
        {
            "protocol": "p",
            "title": "t",
            "profiles": {"laptop": Profile.model_validate(settings)},
            "matrix": matrix or {"variant": ["SN", "SN-MP"], "seed": [0, 1]},
            "arms": arms,
        }
    )


def plan_of(protocol: Protocol) -> Plan:
    profile = protocol.profiles["laptop"]
    source = choose_source("laptop", profile, None)
    return build_plan(protocol, "laptop", profile, cells_of(protocol, profile), source, "cpu")


def unet_of(plan: Plan, cell_id: str) -> Spec:
    (stages,) = (planned.stages for planned in plan.cells if planned.cell.id == cell_id)
    return plan.specs[stages["unet"]]


def test_arms_are_cells_with_labels_that_say_what_a_unet_learns_from() -> None:
    protocol = protocol_with(ARMS)
    expected = ["real", "real n=1", "real n=3", "SN", "SN-MP", "procedural", "real n=3 + SN", "real + SN"]
    assert [label for label in labels_of(protocol) if label not in UNTRAINED] == expected
    cells = cells_of(protocol, protocol.profiles["laptop"])
    assert len([cell for cell in cells if not cell.untrained]) == 2 * (len(expected) - 1), "phantoms want real data"
    assert [cell.id for cell in select(cells, "n=3 and s1")] == ["real_n3_s1", "real_n3+SN_f16_s1"]
    assert [cell.id for cell in cells if cell.label == "real + SN"] == ["real+SN_f16_s0", "real+SN_f16_s1"]
    assert {cell.label for cell in cells if cell.is_real} == {"real", "real n=1", "real n=3"}


def test_a_profile_may_have_arms_of_its_own() -> None:
    protocol = protocol_with(ARMS, arms={"real": [2]})
    labels = [label for label in labels_of(protocol) if label not in UNTRAINED]
    assert labels == ["real", "real n=2", "SN", "SN-MP", "procedural"]


def test_arms_follow_the_recipes_of_the_matrix() -> None:
    matrix = {"variant": ["SN"], "recipe": ["corrected", "corrected+D8"], "seed": [0]}
    labels = labels_of(protocol_with({"real": [1], "real + SN recipe=corrected+D8": ["all"]}, matrix))
    assert [label for label in labels if label.startswith("real ")] == [
        "real recipe=corrected",
        "real recipe=corrected+D8",
        "real n=1 recipe=corrected",
        "real n=1 recipe=corrected+D8",
        "real + SN recipe=corrected+D8",
    ]


@pytest.mark.parametrize("arm", ["fake", "real +", "real n=3", "realSN", "real + "])
def test_an_arm_has_one_of_two_names(arm: str) -> None:
    with pytest.raises(ValueError, match="an arm is 'real', or 'real \\+ LABEL'"):
        protocol_with({arm: [1]})


@pytest.mark.parametrize("count", [0, -1, 1.5, "some", True])
def test_an_arm_counts_subjects(count: Any) -> None:
    with pytest.raises(ValueError, match=r"arms\.real\.0"):
        protocol_with({"real": [count]})


@pytest.mark.parametrize(
    ("arms", "settings", "message"),
    [
        ({"real + SM": ["all"]}, {}, "arms: 'real \\+ SM': no cell has the label 'SM', did you mean 'SN-MP'"),
        ({"real": [5]}, {}, "cell real_n5_s0: 5 real subjects of 4 in training; lower it in 'arms'"),
        ({"real + SN": [5]}, {}, "cell real_n5\\+SN_f16_s0: 5 real subjects of 4"),
        ({"real": [1]}, {"unet": {"batch": 64}}, "cell real_n1_s0: 50 real patches for unet.batch 64"),
        ({"real + SN": ["all"]}, {"unet": {"batch": 1}}, "unet.batch 1 cannot be half real and half synthetic"),
    ],
)
def test_arms_that_cannot_be_are_refused(arms: dict[str, list[Any]], settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(protocol_with(arms, **settings))


def test_subjects_are_drawn_by_seed_and_fewer_are_among_more() -> None:
    plan = plan_of(protocol_with({"real": [1, 2, 3, 4]}, {"variant": ["SN"], "seed": list(range(8))}))
    train = set(plan.source.split["train"])
    firsts = set()
    for seed in range(8):
        drawn = [set(unet_of(plan, f"real_n{count}_s{seed}").options["real"]) for count in (1, 2, 3)]
        assert [len(keys) for keys in drawn] == [1, 2, 3]
        assert drawn[0] < drawn[1] < drawn[2] < train
        firsts |= drawn[0]
        # All of them is the baseline, computed once.
        assert unet_of(plan, f"real_n4_s{seed}").key == unet_of(plan, f"real_s{seed}").key
    assert len(firsts) > 1


def test_what_is_mixed_shares_the_pairs_and_draws_the_same_subjects() -> None:
    plan = plan_of(protocol_with(ARMS))
    mixed, alone, few = (unet_of(plan, name) for name in ("real_n3+SN_f16_s1", "SN_f16_s1", "real_n3_s1"))
    assert mixed.inputs["pairs"] == alone.inputs["pairs"]
    assert mixed.options["real"] == few.options["real"]
    assert "pairs" not in few.inputs
    assert "real" not in alone.options
    assert mixed.options["unet"] == alone.options["unet"] == few.options["unet"], "one budget for all"
    assert set(unet_of(plan, "real+SN_f16_s1").options["real"]) == set(plan.source.split["train"])
    assert [planned.cell.id for planned in plan.cells][:2] == ["real_s0", "real_s1"]
    (stages,) = (planned.stages for planned in plan.cells if planned.cell.id == "real+SN_f16_s0")
    assert {"mixed_gan", "mixed_pairs", "unet", "evaluate"} < stages.keys()
    assert "score" not in stages


def test_utility_shares_its_stages_with_the_paper_protocol() -> None:
    """A profile that drifted apart would train every generator twice."""
    shared = ("data", "gan", "pairs", "reference", "score", "unet", "evaluate")
    for name in ("laptop", "smoke"):
        keys = []
        for protocol in (load_protocol(find_protocol("utility")), load_protocol(find_protocol("paper"))):
            profile = protocol.profiles[name]
            source = choose_source(name, profile, None)
            plan = build_plan(protocol, name, profile, cells_of(protocol, profile), source, "cpu")
            keys.append({planned.cell.id: planned.stages for planned in plan.cells})
        both = [cell for cell in keys[0] if cell in keys[1]]
        learned = [cell for cell in both if cell not in UNTRAINED]
        assert len(both) - len(learned) == 2
        assert len({cell.rpartition("_")[0] for cell in learned}) == 2, "the baseline and a generator"
        for cell in both:
            assert [keys[0][cell].get(role) for role in shared] == [keys[1][cell].get(role) for role in shared]


def test_the_laptop_profile_asks_for_four_points_and_three_seeds_at_least() -> None:
    protocol = load_protocol(find_protocol("utility"))
    for name in ("laptop", "paper"):
        cells = cells_of(protocol, protocol.profiles[name])
        real = [cell for cell in cells if cell.is_real]
        assert len({cell.real_subjects for cell in real}) >= 4
        assert all(sum(other.label == cell.label for other in cells) >= 3 for cell in cells if not cell.untrained)


def levels(*means: float, seeds: int = 3, subjects: int = 10, noise: float = 0.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(len(means))
    return np.array(means)[:, None, None] + rng.normal(0, noise, (len(means), seeds, subjects)) * (noise > 0)


@pytest.mark.parametrize(
    ("means", "target", "value", "beyond"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.3, 6.0, None),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.25, math.sqrt(18), None),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.1, 1.0, None),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.5, 24.0, None),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.09, None, "fewer"),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.51, None, "more"),
        ((0.1, 0.3, 0.3, 0.4, 0.5), 0.3, 3.0, None),  # the fewest that reach it
        ((0.1, 0.4, 0.2, 0.4, 0.5), 0.3, 3.0, None),  # a mean that falls is pooled with the one before
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0.31, None, "more"),
    ],
)
def test_a_set_is_worth_the_fewest_subjects_that_reach_it(
    means: tuple[float, ...], target: float, value: float | None, beyond: str | None
) -> None:
    worth = worth_of(NUMBERS, levels(*means), levels(target)[0])
    assert worth["value"] == (None if value is None else pytest.approx(value))
    assert worth["beyond"] == beyond


def test_the_interval_holds_the_estimate_and_grows_with_the_noise() -> None:
    widths = []
    for noise in (0.001, 0.01, 0.03):
        worth = worth_of(NUMBERS, levels(0.1, 0.2, 0.3, 0.4, 0.5, noise=noise), levels(0.3, noise=noise)[0])
        assert worth["ci_low"] <= worth["value"] <= worth["ci_high"]
        widths.append(worth["ci_high"] / worth["ci_low"])
    assert widths == sorted(widths)


def test_an_interval_is_open_where_the_data_set_no_limit() -> None:
    curve = levels(0.1, 0.2, 0.3, 0.4, 0.5, noise=0.1)
    low, high = (worth_of(NUMBERS, curve, levels(target, noise=0.1)[0]) for target in (0.12, 0.48))
    assert low["ci_low"] is None
    assert 1 < low["ci_high"] < 12
    assert 3 < high["ci_low"] < 24
    assert high["ci_high"] is None
    curve = levels(0.1, 0.2, 0.3, 0.4, 0.5, noise=0.02)
    far_above = worth_of(NUMBERS, curve, levels(0.9, noise=0.02)[0])
    assert (far_above["beyond"], far_above["ci_low"], far_above["ci_high"]) == ("more", pytest.approx(24), None)
    far_below = worth_of(NUMBERS, curve, levels(0.01, noise=0.01)[0])
    assert (far_below["beyond"], far_below["ci_low"], far_below["ci_high"]) == ("fewer", None, pytest.approx(1))


def test_one_seed_has_no_interval_and_none_in_common_no_value() -> None:
    one = worth_of(NUMBERS, levels(0.1, 0.2, 0.3, 0.4, 0.5, seeds=1), levels(0.3, seeds=1)[0])
    assert one["value"] == pytest.approx(6)
    assert one["reason"] == "no interval from one seed"
    none = worth_of(NUMBERS, levels(0.1, 0.2, 0.3, 0.4, 0.5, seeds=0), levels(0.3, seeds=0)[0])
    assert none["value"] is None
    assert "share" in none["reason"]


CELL = {"norm": None, "external": None, "real_subjects": None, "mixed_with": None, "recipe": "r", "recipe_options": {}}
CELLS = [
    {**CELL, "label": "real", "kind": "real"},
    {**CELL, "label": "real n=1", "kind": "real", "real_subjects": 1},
    {**CELL, "label": "real n=3", "kind": "real", "real_subjects": 3},
    {**CELL, "label": "SN", "kind": "synthetic", "norm": "spectral"},
    {**CELL, "label": "real n=1 + SN", "kind": "mixed", "real_subjects": 1, "mixed_with": "SN"},
]
REACHED = {"real": 0.5, "real n=1": 0.1, "real n=3": 0.2, "SN": 0.15, "real n=1 + SN": 0.6}


def subject_rows(reached: dict[str, float], lost: tuple[str, int] = ("", 0)) -> pd.DataFrame:
    rows = [
        {"label": label, "seed": seed, "split": split, "subject": subject, "metric": metric}
        | {"value": (value if split == "test" else 9.0) + 0.001 * seed, "cell": f"{label}{seed}", "empty": False}
        for label, value in reached.items()
        for seed in (0, 1, 2)
        for split in ("validation", "test")
        for subject in ("a", "b", "c")
        for metric in ("dsc/all", "bavd_mm/all")
        if (label, seed) != lost
    ]
    return pd.DataFrame(rows)


def test_results_hold_the_curve_and_what_every_set_is_worth() -> None:
    (entry,) = utility_of(CELLS, subject_rows(REACHED), 9)
    assert entry["metric"] == "dsc/all"
    assert [point["real_subjects"] for point in entry["curve"]] == [1, 3, 9]
    assert [point["value"] for point in entry["curve"]] == pytest.approx([0.101, 0.201, 0.501])
    assert entry["curve"][0]["by_seed"] == pytest.approx({"0": 0.1, "1": 0.101, "2": 0.102})
    alone, mixed = entry["arms"]
    assert (alone["label"], alone["real_subjects"]) == ("SN", 0)
    assert alone["worth"]["value"] == pytest.approx(math.sqrt(3))
    assert alone["worth"]["seeds"] == alone["worth"]["subjects"] == 3
    assert (mixed["label"], mixed["real_subjects"], mixed["worth"]["beyond"]) == ("real n=1 + SN", 1, "more")


def test_a_seed_that_failed_leaves_the_pairs_and_a_run_without_a_curve_has_no_entry() -> None:
    (entry,) = utility_of(CELLS, subject_rows(REACHED, lost=("real n=3", 1)), 9)
    assert entry["arms"][0]["worth"]["seeds"] == 2
    assert entry["arms"][0]["n"] == 3
    assert utility_of([CELLS[0], CELLS[3]], subject_rows({"real": 0.5, "SN": 0.2}), 9) == []
    assert utility_of(CELLS, pd.DataFrame(columns=["label", "seed", "split", "subject", "metric", "value"]), 9) == []


@pytest.mark.parametrize(
    ("arm", "worth", "words"),
    [
        (
            {},
            {"value": 4.26, "ci_low": 2.0, "ci_high": 11.7},
            "about 4.3 real subjects (95\N{NO-BREAK SPACE}% interval 2 to 12)",
        ),
        (
            {},
            {"value": 1.0, "ci_high": 2.5},
            "about 1 real subject (95\N{NO-BREAK SPACE}% interval: 2.5 or fewer)",
        ),
        (
            {},
            {"beyond": "more", "ci_low": 12.0},
            "more than 24 real subjects (95\N{NO-BREAK SPACE}% interval: 12 or more)",
        ),
        ({}, {"beyond": "fewer", "reason": "no interval from one seed"}, "fewer than 1 real subject (no interval"),
        (
            {},
            {"value": 3.0},
            "about 3 real subjects (95\N{NO-BREAK SPACE}% interval: from fewer than 1 to more than 24)",
        ),
        ({}, {"reason": "no seed"}, "It cannot be said what the synthetic pairs of SN are worth: no seed."),
        (
            {"mixed_with": "SN", "real_subjects": 3},
            {"beyond": "more"},
            "3 real subjects with the synthetic pairs of SN",
        ),
    ],
)
def test_a_sentence_says_it(arm: dict[str, Any], worth: dict[str, Any], words: str) -> None:
    nothing = dict.fromkeys(("value", "beyond", "ci_low", "ci_high", "reason"))
    whole = {"label": "SN", "mixed_with": None, "real_subjects": 0} | arm
    assert words in worth_in_words({**whole, "worth": {**nothing, "smallest": 1, "largest": 24, **worth}})


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("of_seeds", "of_subjects"), [(0.03, 0.02), (0.01, 0.05), (0.03, 0.0)])
def test_intervals_cover_the_truth(seeds: int, of_seeds: float, of_subjects: float) -> None:
    """95 % of runs, less Monte-Carlo error; wider is allowed, as for the claims."""
    rng = np.random.default_rng(seeds)
    truth, target, runs, subjects = np.array([0.1, 0.25, 0.35, 0.45, 0.5]), 0.4, 1000, 10
    worth = 6 * 2**0.5  # half-way between 6 and 12 on the log axis
    covered = 0
    for _ in range(runs):
        shared = rng.normal(0, 0.05, subjects)  # hard and easy subjects are so for every arm
        noise = rng.normal(0, of_seeds, (6, seeds, 1)) + rng.normal(0, of_subjects, (6, 1, subjects))
        values = np.append(truth, target)[:, None, None] + shared + noise + rng.normal(0, 0.01, (6, seeds, subjects))
        found = worth_of(NUMBERS, values[:5], values[5])
        low, high = found["ci_low"], found["ci_high"]
        covered += (low is None or low <= worth) and (high is None or worth <= high)
    print(f"{seeds} seeds, SD {of_seeds} over seeds and {of_subjects} over subjects: covered {covered / runs:.3f}")
    assert covered / runs >= 0.93
