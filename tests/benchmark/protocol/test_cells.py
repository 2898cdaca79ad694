"""From axes to cells: resolution, labels, ids, selection."""

import json
from dataclasses import asdict, replace

import pytest

from benchmark.datasets.source import choose_source
from benchmark.plan import build_plan
from benchmark.protocol.cells import cells_of, kind_of, labels_of, select
from benchmark.protocol.schema import Matrix, Profile, Protocol, Score
from vesselgan.errors import InputError
from vesselgan.recipe import resolve_recipe


def protocol_with(matrix: dict[str, object], **more: object) -> Protocol:
    profiles = {"laptop": Profile(filters=64, recipe="corrected", precision={"full": "fp32", "mixed": "bf16"})}
    return Protocol.model_validate({"protocol": "p", "title": "t", "profiles": profiles, "matrix": matrix, **more})


def cells(matrix: dict[str, object], **more: object) -> list:
    protocol = protocol_with(matrix, **more)
    return cells_of(protocol, protocol.profiles["laptop"])


def test_the_papers_rows_resolve_to_norm_precision_and_scaled_width() -> None:
    found = {cell.label: cell for cell in cells({"variant": ["GP", "SN", "SN-MP", "c-SN-MP"], "seed": [0]})}
    assert list(found) == ["real", "threshold", "vesselness", "GP", "SN", "SN-MP", "c-SN-MP"]
    assert (found["GP"].norm, found["GP"].precision, found["GP"].filters) == ("instance", "fp32", 64)
    assert (found["SN"].norm, found["SN"].precision, found["SN"].filters) == ("spectral", "fp32", 64)
    assert (found["SN-MP"].precision, found["SN-MP"].filters) == ("bf16", 64)
    assert (found["c-SN-MP"].precision, found["c-SN-MP"].filters) == ("bf16", 128)
    assert found["SN-MP"].id == "SN-MP_f64_s0"
    assert found["real"].is_real


def test_free_axes_combine_and_show_in_ids_and_labels() -> None:
    found = cells({"norm": ["spectral", "none"], "precision": ["fp32", "bf16"], "filters": [32], "seed": [0, 1]})
    ids = [cell.id for cell in found if cell.has_generator]
    assert len(ids) == len(set(ids)) == 8
    assert "none_f32_bf16_s1" in ids
    assert {cell.label for cell in found} >= {"spectral precision=bf16", "none precision=fp32"}


def test_recipes_whose_baselines_differ_have_one_each() -> None:
    found = cells({"variant": ["SN"], "recipe": ["corrected", "corrected+D8"], "seed": [0]})
    learned = [cell for cell in found if not cell.untrained]
    assert [cell.recipe.intensity_scaling for cell in learned] == ["volume", "patch", "volume", "patch"]
    assert [cell.id for cell in learned] == [
        "real_corrected_s0",
        "real_corrected+D8_s0",
        "SN_f64_corrected_s0",
        "SN_f64_corrected+D8_s0",
    ]
    assert learned[3].label == "SN recipe=corrected+D8"


def test_recipes_whose_baselines_are_the_same_have_one() -> None:
    """Same in every stage: otherwise a cell would be lost."""
    recipes = ["corrected", "paper_code", *(f"corrected+D{number}" for number in range(1, 16))]
    protocol = protocol_with({"variant": ["SN"], "recipe": recipes, "seed": [0]})
    profile = protocol.profiles["laptop"].model_copy(update={"score": Score(extractor="random_resnet10")})
    source = replace(choose_source("laptop", profile, None), listed_options={"files": {}})
    kept = [cell for cell in cells_of(protocol, profile) if cell.is_real]
    assert [cell.recipe_name for cell in kept] == ["corrected", "paper_code", "corrected+D6"]

    def keys(recipe: str) -> frozenset[tuple[str, str]]:
        cell = replace(kept[0], recipe=resolve_recipe(recipe))
        return frozenset(build_plan(protocol, "laptop", profile, [cell], source, "cpu").cells[0].stages.items())

    assert len({keys(recipe) for recipe in recipes}) == len({keys(cell.recipe_name) for cell in kept}) == 3


def test_excluded_combinations_are_left_out() -> None:
    found = cells({"variant": ["GP", "SN"], "seed": [0, 1]}, exclude=[{"variant": "GP", "seed": 1}])
    assert [cell.id for cell in found if cell.has_generator] == ["GP_f64_s0", "SN_f64_s0", "SN_f64_s1"]


def test_a_rule_may_exclude_several_values_at_once() -> None:
    found = cells(
        {"variant": ["GP", "SN"], "seed": [0, 1, 2]}, exclude=[{"variant": "GP", "seed": [0, 1]}, {"seed": 2}]
    )
    assert [cell.id for cell in found if cell.has_generator] == ["SN_f64_s0", "SN_f64_s1"]


def test_the_dp_variant_is_private_and_half_as_wide() -> None:
    (cell,) = (cell for cell in cells({"variant": ["DP"]}) if cell.has_generator)
    assert (cell.norm, cell.precision, cell.filters, cell.private) == ("none", "fp32", 32, True)
    narrow = protocol_with({"variant": ["DP"]}).profiles["laptop"].model_copy(update={"filters": 8})
    with pytest.raises(InputError, match="gives DP a width of 4; it must be a multiple of 8: choose filters 16"):
        cells_of(protocol_with({"variant": ["DP"]}), narrow)


AR = {"autoregressive": {"steps": 5, "filters": 24}}


def test_a_generator_of_another_family_takes_its_size_from_its_own_section() -> None:
    protocol = protocol_with({"variant": ["c-SN-MP", "AR"], "seed": [0, 1]})
    profile = Profile(filters=64, batch=8, precision={"full": "fp32", "mixed": "bf16"}, **AR)
    found = {cell.id: cell for cell in cells_of(protocol, profile) if cell.has_generator}
    assert list(found) == ["c-SN-MP_f128_s0", "c-SN-MP_f128_s1", "AR_f24_s0", "AR_f24_s1"]
    ar = found["AR_f24_s0"]
    assert (ar.family, ar.variant, ar.norm, ar.precision) == ("autoregressive", "AR", None, "bf16")
    assert (ar.filters, ar.batch) == (24, 12), "of the section, and of its default"
    assert ar.is_synthetic
    assert not ar.is_real
    assert found["c-SN-MP_f128_s0"].family == "wgan"


def test_an_axis_stands_above_a_section() -> None:
    protocol = protocol_with({"variant": ["SN", "AR"], "filters": [8, 16], "batch": [2], "seed": [0]})
    found = [cell for cell in cells_of(protocol, Profile(**AR)) if cell.has_generator]
    assert [cell.id for cell in found] == ["SN_f8_b2_s0", "SN_f16_b2_s0", "AR_f8_b2_s0", "AR_f16_b2_s0"]
    source = choose_source("one", Profile(score=Score(extractor="random_resnet10")), None)
    plan = build_plan(
        protocol, "one", Profile(score=Score(extractor="random_resnet10"), **AR), found[2:], source, "cpu"
    )
    trained = [spec.options["options"] for spec in plan.specs.values() if spec.stage == "train_gan"]
    assert [(options["filters"], options["batch"], options["steps"]) for options in trained] == [(8, 2, 5), (16, 2, 5)]


def test_a_generator_without_its_section_is_told_what_it_lacks() -> None:
    with pytest.raises(InputError, match="needs its section 'autoregressive', with steps"):
        cells({"variant": ["AR"], "seed": [0]})


def test_a_protocol_of_costs_has_no_baselines() -> None:
    assert [cell.id for cell in cells({"variant": ["SN"], "seed": [0]}, only="costs")] == ["SN_f64_s0"]


def test_claims_may_name_the_baseline_and_every_label() -> None:
    rules = ["threshold", "vesselness"]
    labels = labels_of(protocol_with({"variant": ["GP", "SN"], "seed": [0, 1]}))
    assert labels == ["real", *rules, "GP", "SN", "procedural"]
    two = labels_of(protocol_with({"variant": ["SN"], "recipe": ["corrected", "paper_code"]}))
    assert [label for label in two if label.startswith(("real", "SN"))] == [
        "real recipe=corrected",
        "real recipe=paper_code",
        "SN recipe=corrected",
        "SN recipe=paper_code",
    ]


def test_what_a_cell_learns_from_is_one_kind_as_planned_and_as_read_back() -> None:
    theirs = {"external": "folder", "label": "theirs"}
    protocol = protocol_with(
        {"variant": ["SN"], "seed": [0]}, arms={"real": [1], "real + SN": ["all"]}, include=[theirs]
    )
    found = cells_of(protocol, protocol.profiles["laptop"], has_data=True)
    kinds = {cell.label: cell.kind for cell in found}
    assert kinds == {
        "real": "real",
        "real n=1": "real",
        "threshold": "untrained",
        "vesselness": "untrained",
        "SN": "synthetic",
        "theirs": "external",
        "procedural": "procedural",
        "real + SN": "mixed",
    }
    assert {cell.label: kind_of(json.loads(json.dumps(asdict(cell)))) for cell in found} == kinds
    assert {cell.label for cell in found if cell.is_synthetic} == {"SN", "theirs"}
    assert {kind_of({"norm": norm}) for norm in (None, "spectral")} == {"real", "synthetic"}, "of earlier runs"


def test_rules_without_learning_have_one_cell_each_whatever_the_seeds() -> None:
    found = cells({"variant": ["SN"], "seed": [3, 4]})
    assert [cell.id for cell in found if cell.untrained] == ["threshold", "vesselness"]
    assert not any(cell.is_real or cell.is_synthetic for cell in found if cell.untrained)


def test_recipes_repeat_a_rule_only_where_its_volumes_differ() -> None:
    """D8 scales what networks see, D6 gives images the labels of others: a rule reads volumes on one scale."""
    found = cells({"variant": ["SN"], "recipe": ["corrected", "corrected+D8", "corrected+D6"], "seed": [0]})
    names = [cell.id for cell in found if cell.untrained == "threshold"]
    assert names == ["threshold_corrected", "threshold_corrected+D6"]


def test_phantoms_train_a_network_only_where_there_are_real_data() -> None:
    protocol = protocol_with({"variant": ["SN"], "seed": [0, 1]})
    profile = protocol.profiles["laptop"]
    simulated = [cell.id for cell in cells_of(protocol, profile, has_data=True) if cell.simulated]
    assert simulated == ["procedural_s0", "procedural_s1"]
    assert not any(cell.simulated for cell in cells_of(protocol, profile))


def test_a_profile_chooses_its_baselines() -> None:
    protocol = protocol_with({"variant": ["SN"], "seed": [0]})
    profile = protocol.profiles["laptop"].model_copy(update={"baselines": ("vesselness",)})
    assert [cell.label for cell in cells_of(protocol, profile, has_data=True)] == ["real", "vesselness", "SN"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (None, 12),
        ("real", 2),
        ("s0", 5),
        ("SN and not MP", 2),
        ("(real or GP) and s1", 2),
        ("c-SN-MP", 2),
    ],
)
def test_selection_reads_words_and_or_not(expression: str | None, expected: int) -> None:
    found = cells({"variant": ["GP", "SN", "SN-MP", "c-SN-MP"], "seed": [0, 1]})
    assert len(select(found, expression)) == expected


@pytest.mark.parametrize("expression", ["SN and", "nothing-like-it", "()", "SN GP", "real (GP)"])
def test_a_selection_that_cannot_be_read_or_matches_nothing_is_refused(expression: str) -> None:
    with pytest.raises(InputError, match="-k"):
        select(cells({"variant": ["SN", "GP"], "seed": [0]}), expression)


def test_a_matrix_names_either_variants_or_norms() -> None:
    with pytest.raises(ValueError, match="either 'variant'"):
        Matrix(seed=[0])
    with pytest.raises(ValueError, match="either 'variant'"):
        Matrix(variant=["SN"], norm=["none"])
