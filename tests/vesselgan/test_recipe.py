"""Recipes and the table of variants."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from paths import TESTS

from vesselgan.errors import InputError
from vesselgan.recipe import CORRECTED, PAPER_CODE, Recipe, as_dict, resolve_recipe
from vesselgan.variants import VARIANTS

PAPER_VALUES = {
    "penalty_norm": ("D1", "batch", "sample"),
    "epsilon": ("D2", "batch", "sample"),
    "interpolate": ("D3", "attached", "detached"),
    "critic_update": ("D4", "after_loop", "inside_loop"),
    "prd_arguments": ("D5", "swapped", "named"),
    "pairing": ("D6", "listing_order", "by_key"),
    "generation_statistics": ("D7", "batch", "running"),
    "label_low": ("D8", 0.0, -1.0),
    "label_threshold": ("D8", 0.4, 0.0),
    "intensity_scaling": ("D8", "patch", "volume"),
    "feature_noise": ("D9", "noise", "none"),
    "critic_init": ("D10", "after_norm", "before_norm"),
    "gamma_mean": ("D11", 0.0, 1.0),
    "reductions": ("D12", "low", "float32"),
    "drop_last": ("D13", False, True),
    "resume_state": ("D13", "nets_only", "full"),
    "label_metrics": ("D13", "none", "scored"),
    "dp_updates": ("D14", "two", "one"),
    "reference": ("D15", "train", "held_out"),
}

NEVER_BY_DEFAULT = {"pairing", "resume_state"}  # they ruin a run on one's own data without a word


def test_each_option_has_its_number_and_the_two_values_of_the_table() -> None:
    found = {
        option.name: (option.metadata["deviation"], option.metadata["paper_code"], getattr(CORRECTED, option.name))
        for option in fields(Recipe)
    }
    assert found == PAPER_VALUES
    assert all(option.metadata["about"] for option in fields(Recipe))


def test_the_two_recipes_resolve_by_name_and_differ_in_every_option_that_is_safe_on_ones_own_data() -> None:
    assert resolve_recipe("paper_code", {}) == PAPER_CODE
    assert resolve_recipe("corrected", {}) == CORRECTED
    same = {name for name in PAPER_VALUES if as_dict(PAPER_CODE)[name] == as_dict(CORRECTED)[name]}
    assert same == NEVER_BY_DEFAULT
    assert all(as_dict(PAPER_CODE)[name] == PAPER_VALUES[name][1] for name in PAPER_VALUES if name not in same)


@pytest.mark.parametrize("name", PAPER_VALUES)
def test_any_option_can_be_set_alone(name: str) -> None:
    recipe = resolve_recipe("corrected", {name: PAPER_VALUES[name][1]})
    changed = {key for key, value in as_dict(recipe).items() if value != as_dict(CORRECTED)[key]}
    assert changed == {name}


@pytest.mark.parametrize("deviation", [f"D{number}" for number in range(1, 16)])
def test_a_deviation_is_switched_by_its_number_and_has_a_test_of_its_own(deviation: str) -> None:
    options = {name for name, (number, *_) in PAPER_VALUES.items() if number == deviation}
    assert options
    switched = as_dict(resolve_recipe(f"corrected+{deviation}"))
    assert switched == as_dict(CORRECTED) | {name: PAPER_VALUES[name][1] for name in options}
    if options <= NEVER_BY_DEFAULT:
        with pytest.raises(InputError, match=f"{deviation} changes nothing"):
            resolve_recipe(f"paper_code+{deviation}")
    else:
        switched = as_dict(resolve_recipe(f"paper_code+{deviation}"))
        assert switched == as_dict(PAPER_CODE) | {name: PAPER_VALUES[name][2] for name in options}
    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert f"def test_{deviation.lower()}_" in tests


def test_equal_numbers_become_one_value_so_that_equal_recipes_are_equal() -> None:
    recipe = resolve_recipe("paper_code", {"gamma_mean": 1, "label_low": -1})
    assert repr(recipe.gamma_mean) == "1.0"
    assert repr(recipe.label_low) == "-1.0"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("papercode", {}, "unknown recipe 'papercode', did you mean 'paper_code'?"),
        ("corrected", {"penalty_nrm": "batch"}, "unknown recipe option 'penalty_nrm', did you mean 'penalty_norm'?"),
        ("corrected", {"penalty_norm": "both"}, r"penalty_norm \(D1\) is 'both'; it can be 'batch' or 'sample'"),
        ("corrected", {"gamma_mean": True}, r"gamma_mean \(D11\) is True"),
        ("corrected", {"drop_last": 1}, r"drop_last \(D13\) is 1"),
        ("corrected+D16", {}, "unknown deviation 'D16'; known: D1, D2"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as refusal:
        resolve_recipe(name, overrides)
    assert "\n" not in str(refusal.value)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CORRECTED.epsilon = "batch"  # type: ignore[misc]


def test_the_wgans_are_the_papers_four_rows_and_the_supplements_fifth() -> None:
    wgans = {label: variant for label, variant in VARIANTS.items() if variant.family == "wgan"}
    assert {label: (row.norm, row.precision, row.filters) for label, row in wgans.items()} == {
        "GP": ("instance", "full", 512),
        "SN": ("spectral", "full", 512),
        "SN-MP": ("spectral", "mixed", 512),
        "c-SN-MP": ("spectral", "mixed", 1024),
        "DP": ("none", "full", 256),
    }
    assert [label for label, variant in VARIANTS.items() if variant.private] == ["DP"]
    assert all(variant.label == label for label, variant in VARIANTS.items())
