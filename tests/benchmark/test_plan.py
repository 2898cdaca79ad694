"""From cells to specifications: what stands in those of generators, by which an earlier training is found again."""

from typing import Any

import pytest

from benchmark.artifacts.store import Spec
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import find_protocol, load_protocol

# Of their options alone, as they were before there were families, losses and settings with names of their own.
KEYS = {
    ("paper", "c-SN-MP_f32_s0"): {
        "verify_gan": "verify-55d1ab3498e0",
        "gan": "train_gan-afcb10782c26",
        "pairs": "synthesise-64509d6d5192",
        "measure": "measure-217bef77d1d4",
    },
    ("paper", "DP_f8_s0"): {
        "verify_gan": "verify-948746f8a727",
        "gan": "train_gan-fdbbfd1dde92",
        "pairs": "synthesise-64509d6d5192",
        "measure": "measure-371c9841da68",
    },
    ("deviations", "SN-MP_f16_corrected+D1_s0"): {
        "verify_gan": "verify-df491fd90c35",
        "gan": "train_gan-194241e9d346",
        "pairs": "synthesise-abd92d34d2e9",
        "measure": "measure-b345aeaa45f7",
    },
}


def planned(protocol: str, cell: str, **settings: Any) -> tuple[Plan, dict[str, str]]:
    """The smoke profile, and the keys of a cell's stages."""
    loaded = load_protocol(find_protocol(protocol))
    profile = loaded.profiles["smoke"].model_copy(update=settings)
    if cell.startswith("DP") and profile.matrix:
        profile = profile.model_copy(update={"matrix": profile.matrix.model_copy(update={"variant": ["DP"]})})
    source = choose_source("smoke", profile, None)
    plan = build_plan(loaded, "smoke", profile, cells_of(loaded, profile), source, "cpu")
    return plan, dict(next(one for one in plan.cells if one.cell.id == cell).stages)


def test_a_generator_is_kept_and_scored_at_shares_of_its_training_with_as_many_pairs_as_at_its_end() -> None:
    plan, stages = planned("paper", "SN_f16_s0", at=(0.25, 0.5, 1.0))
    plain, usual = planned("paper", "SN_f16_s0")
    assert plan.specs[stages["gan"]].options["kept"] == [0.25, 0.5]
    assert plan.specs[stages["gan"]].options == {**plain.specs[usual["gan"]].options, "kept": [0.25, 0.5]}
    assert sorted(stages.keys() - usual.keys()) == ["pairs at 0.25", "pairs at 0.5", "score at 0.25", "score at 0.5"]
    pairs, score = (plan.specs[stages[f"{role} at 0.25"]] for role in ("pairs", "score"))
    assert (pairs.options["at"], pairs.options["pairs"], pairs.inputs) == (0.25, 48, {"gan": stages["gan"]})
    assert score.options == plan.specs[stages["score"]].options
    assert score.inputs == plan.specs[stages["score"]].inputs | {"pairs": stages["pairs at 0.25"]}
    assert [key for key in plan.specs if key.startswith("evaluate")] != []
    last = max(index for index, key in enumerate(plan.specs) if key.startswith("evaluate"))
    assert list(plan.specs).index(stages["score at 0.25"]) > last, "nothing else waits for it"


@pytest.mark.parametrize(("place", "expected"), KEYS.items(), ids=lambda value: "-".join(value))
def test_the_stages_of_wgans_have_the_keys_that_earlier_runs_know(
    place: tuple[str, str], expected: dict[str, str]
) -> None:
    """A change here throws away everybody's finished trainings: see CONTRIBUTING.md before recording others.

    Of a stage's name and options; versions, inputs and the machine, which are in its key too, are left out.
    """
    plan, stages = planned(*place)
    specs = {role: plan.specs[stages[role]] for role in expected}
    assert {role: Spec(spec.stage, 1, spec.options).key for role, spec in specs.items()} == expected


@pytest.mark.parametrize(
    ("settings", "roles"),
    [
        ({"latent": 64}, {"gan", "pairs", "measure", "verify_gan"}),
        ({"betas": (0.5, 0.9)}, {"gan", "pairs", "measure"}),
        ({"flips": ("x",)}, {"gan", "pairs"}),
        ({"losses": {"hinge": {"margin": 2.0}}}, set()),
    ],
)
def test_a_setting_changes_the_keys_of_the_stages_that_depend_on_it(settings: dict[str, Any], roles: set[str]) -> None:
    """Latent numbers change shapes, Adam's the numbers of a step, mirrored pairs neither; another loss's nothing."""
    before, after = (planned("paper", "SN_f16_s0", **more)[1] for more in ({}, settings))
    changed = {role for role in before if before[role] != after[role]}
    assert changed - {"score", "unet", "evaluate"} == roles
    assert ("score" in changed) == ("pairs" in roles)
