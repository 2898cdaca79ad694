"""Baselines without learning and the answer: what is fitted where, what it is worth, and that bad news come first."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.store import Store
from benchmark.claims.answer import Kind, answer_of, summary_lines
from benchmark.claims.best_label import best_synthetic
from benchmark.claims.evidence import Evidence
from benchmark.claims.gain import gains_of
from benchmark.claims.realism import THRESHOLDS, cell_warning, realism_of, realism_sentence
from benchmark.commands.progress import RunDisplay
from benchmark.commands.run_log import RunLog
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of, kind_of
from benchmark.protocol.load import find_protocol, load_protocol
from benchmark.report.mlflow_content import answer_metrics
from benchmark.results.run_folder import load_run
from benchmark.run.engine import Event
from benchmark.run.scheduler import write_run_folder
from benchmark.stages import STAGES, Context
from vesselgan.data import LoadedSubject, VolumeStore, open_store, phantom_subjects, procedural_patches, write_store
from vesselgan.errors import InputError
from vesselgan.metrics import dice, real_gain_share

SPLITS = {"train": 2, "validation": 1, "test": 2}
PATCH = (16, 16, 16)


def cell(label: str, seed: int = 0, **more: Any) -> dict[str, Any]:
    rule = label if label in ("threshold", "vesselness") else None
    norm = "spectral" if label in ("A", "B") else None
    blank = {"external": None, "real_subjects": None, "mixed_with": None, "metrics": {}, "labels": None}
    names = {"id": f"{label}_s{seed}", "label": label, "seed": seed, "norm": norm, "untrained": rule}
    facts = names | blank | {"simulated": label == "procedural"} | more
    return facts | {"kind": kind_of(facts)}


def rows(values: Mapping[str, tuple[list[float], list[float]]], metric: str = "dsc/all", seed: int = 0) -> pd.DataFrame:
    """Label -> DSC of its validation and of its test subjects."""
    return pd.DataFrame(
        [
            {"cell": f"{label}_s{seed}", "label": label, "seed": seed, "split": split, "subject": f"{split}{index}"}
            | {"metric": metric, "value": value, "empty": 0}
            for label, sides in values.items()
            for split, column in zip(("validation", "test"), sides, strict=True)
            for index, value in enumerate(column)
        ]
    )


CELLS = [cell(label) for label in ("real", "threshold", "vesselness", "A", "B")]
VALUES = {
    "real": ([0.9, 0.9], [0.90, 0.85, 0.88, 0.87]),
    "threshold": ([0.5, 0.5], [0.70, 0.60, 0.65, 0.66]),  # better on test subjects only
    "vesselness": ([0.6, 0.6], [0.60, 0.50, 0.55, 0.58]),
    "A": ([0.7, 0.7], [0.75, 0.70, 0.72, 0.70]),
    "B": ([0.3, 0.3], [0.30, 0.20, 0.25, 0.20]),
}


def share_of(entries: list[dict[str, Any]], label: str) -> dict[str, Any]:
    (entry,) = (entry for entry in entries if entry["label"] == label)
    return entry


def test_the_share_is_over_the_rule_that_validation_subjects_prefer() -> None:
    entry = share_of(gains_of(CELLS, rows(VALUES)), "A")
    assert entry["untrained"] == "vesselness"
    assert entry["validation"] == pytest.approx({"threshold": 0.5, "vesselness": 0.6})
    expected = real_gain_share(synthetic=[VALUES["A"][1]], real=[VALUES["real"][1]], untrained=VALUES["vesselness"][1])
    assert (entry["value"], entry["ci_low"], entry["ci_high"]) == (expected.value, expected.low, expected.high)
    assert (entry["seeds"], entry["subjects"], entry["reason"]) == (1, 4, None)


def test_a_label_below_the_rule_has_a_negative_share() -> None:
    assert share_of(gains_of(CELLS, rows(VALUES)), "B")["value"] < 0


def test_the_share_is_of_seeds_and_subjects_that_all_have() -> None:
    second = rows({"A": ([0.7], [0.1] * 3), "real": ([0.9], [0.9] * 3)}, seed=1)
    third = rows({"A": ([0.7], [0.1] * 4)}, seed=2)
    entry = share_of(gains_of([*CELLS, cell("A", 1), cell("real", 1)], pd.concat([rows(VALUES), second, third])), "A")
    assert (entry["seeds"], entry["subjects"]) == (2, 3)


def test_without_a_rule_or_a_baseline_of_the_same_data_there_is_a_reason() -> None:
    without = [each for each in CELLS if not each["untrained"]]
    entry = share_of(gains_of(without, rows(VALUES)), "A")
    assert (entry["value"], entry["reason"]) == (None, "no rule without learning was scored")
    other = [each | {"recipe_options": {"intensity_scaling": each["label"]}} for each in CELLS]
    assert "no U-Net learned from the same real data" in share_of(gains_of(other, rows(VALUES)), "A")["reason"]


def test_phantoms_have_a_share_but_are_never_the_best_synthetic_label() -> None:
    cells, values = [*CELLS, cell("procedural")], rows(VALUES | {"procedural": VALUES["real"]})
    assert share_of(gains_of(cells, values), "procedural")["value"] == pytest.approx(1)
    best = best_synthetic(cells, values)
    assert best is not None
    assert (best["label"], set(best["validation"])) == ("A", {"A", "B"})
    assert Evidence(cells, values).rivals("A") == ["B"]


def test_a_rule_stands_beside_every_seed_of_a_label() -> None:
    cells = [*CELLS, cell("A", 1)]
    evidence = Evidence(cells, pd.concat([rows(VALUES), rows({"A": VALUES["A"]}, seed=1)]))
    for sides, of_rule in ((("A", "threshold"), 1), (("threshold", "A"), 0)):
        pairs = evidence.pairs("dsc/all", *sides, "training procedure")
        assert pairs.seeds == (0, 1)
        assert pairs.values[of_rule] == pytest.approx(np.array([VALUES["threshold"][1]] * 2))
    between = evidence.pairs("dsc/all", "threshold", "vesselness", "trained models")
    assert between.seeds == (0,)


def scored(label: str, fid: float, area: float, pieces: float = 2.0) -> dict[str, Any]:
    means = {"component_count": {"real": 2.0, "generated": pieces}}
    return cell(label, metrics={"fid": {"value": fid}, "prd_auc": {"value": area}}, labels={"means": means})


FLOOR = {"metrics": {"fid": 0.01, "prd_auc": 0.8}, "sd": {"fid": 0.001}, "warnings": []}


@pytest.mark.parametrize(
    ("fid", "area", "pieces", "failed"),
    [
        (0.079, 0.41, 2.9, []),
        (0.081, 0.41, 2.9, ["fid_over_floor"]),
        (0.079, 0.39, 2.9, ["prd_area_over_floor"]),
        (0.079, 0.41, 3.1, ["pieces_ratio"]),
        (0.079, 0.41, 1.3, ["pieces_ratio"]),
        (0.079, 0.41, 0.0, ["pieces_ratio"]),
    ],
)
def test_each_threshold_of_realism_is_judged_by_itself(fid: float, area: float, pieces: float, failed: list) -> None:
    realism = realism_of([scored("A", fid, area, pieces)], FLOOR)
    assert realism is not None
    assert realism["thresholds"] == THRESHOLDS
    assert realism["labels"]["A"]["failed"] == failed
    assert realism["realistic"] is (not failed)
    assert ("does not yet make realistic vessels" in realism_sentence(realism)) is bool(failed)


def test_what_was_not_measured_makes_nobody_realistic() -> None:
    realism = realism_of([scored("A", 0.01, 0.8)], None)
    assert realism is not None
    assert realism["realistic"] is None
    assert "cannot be said" in realism_sentence(realism)
    assert realism_of(CELLS, FLOOR) is None


def test_a_cell_that_fails_is_told_of_and_one_that_passes_is_not() -> None:
    warning = cell_warning(scored("A", 0.29, 0.1), FLOOR)
    assert warning is not None
    assert "FID 29 times that of real against real" in warning
    assert cell_warning(scored("A", 0.02, 0.7), FLOOR) is None


def results(values: Mapping[str, tuple[list[float], list[float]]], cells: list[dict[str, Any]]) -> dict[str, Any]:
    both = pd.concat([rows(values), rows(values, "dsc/intracranial")], ignore_index=True)
    found: dict[str, Any] = {"best": best_synthetic(cells, both), "gain": gains_of(cells, both), "floor": FLOOR}
    return found | {"realism": realism_of(cells, FLOOR)}


WITH_SCORES = [*CELLS[:3], scored("A", 0.29, 0.14, 6.2), scored("B", 0.3, 0.1)]


def test_the_answer_says_both_regions_and_the_floor() -> None:
    answer = answer_of(**results(VALUES, WITH_SCORES))
    assert answer is not None
    assert [region["metric"] for region in answer["regions"]] == ["dsc/intracranial", "dsc/all"]
    assert "For all vessels pairs of A cost 0.158 of DSC" in " ".join(answer["sentences"])
    (warning,) = answer["warnings"]
    assert warning == (
        "At this budget the generators do not yet make realistic vessels: the FID of A is 29 times the distance "
        "between two halves of the real subjects (0.29 against 0.01); its PRD area is 0.14 against 0.80; a label "
        "patch has 6.2 pieces of vessel against 2.0."
    )


def test_being_below_no_learning_at_all_is_said_first() -> None:
    low = VALUES | {"A": ([0.7, 0.7], [0.3] * 4)}
    answer = answer_of(**results(low, WITH_SCORES))
    assert answer is not None
    assert answer["warnings"][0].startswith("No better than no learning at all: what learned from A reaches")
    assert "where vesselness has 0.557" in answer["warnings"][0]
    assert summary_lines(answer)[0].startswith("! No better")
    assert "is \N{MINUS SIGN}0." in answer["sentences"][0]


def test_the_best_of_another_kind_of_generator_is_told_before_the_numbers_of_the_best() -> None:
    found = results(VALUES, WITH_SCORES)
    answer = answer_of(**found, kinds={"A": Kind("autoregressive generator", "has an atlas"), "B": Kind("WGAN")})
    assert answer is not None
    of_b = {gain["metric"]: gain for gain in found["gain"] if gain["label"] == "B"}
    inside = of_b["dsc/intracranial"]
    assert answer["warnings"][0].startswith(
        "What follows is about A, a 3D autoregressive generator, which has an atlas. Of the 3D WGANs B is the best "
        "on the validation subjects by the DSC of intracranial vessels, with a DSC "
        f"of {inside['means']['synthetic']:.3f} for intracranial vessels (share of the real gain "
        f"{inside['value']:.2f} [".replace("-", "\N{MINUS SIGN}")
    )
    (other,) = answer["others"]
    assert (other["label"], [region["share"]["value"] for region in other["regions"]]) == (
        "B",
        [of_b[metric]["value"] for metric in ("dsc/intracranial", "dsc/all")],
    )
    alike = answer_of(**found, kinds={"A": Kind("WGAN"), "B": Kind("WGAN")})
    assert alike is not None
    assert alike["others"] == []
    assert not any("Of the 3D" in text for text in alike["warnings"])


def test_the_best_of_another_kind_is_told_also_where_its_share_does_not_exist() -> None:
    found = results(VALUES | {"real": ([0.9, 0.9], [0.5] * 4)}, WITH_SCORES)
    answer = answer_of(**found, kinds={"A": Kind("autoregressive generator"), "B": Kind("WGAN")})
    assert answer is not None
    told = [text for text in answer["warnings"] if "Of the 3D WGANs B is the best" in text]
    assert "share of the real gain not defined: real data do not beat" in told[0]


def test_both_intervals_say_what_is_drawn_anew() -> None:
    twice = pd.concat([rows(VALUES, metric, seed) for metric in ("dsc/all", "dsc/intracranial") for seed in (0, 1)])
    cells = [*WITH_SCORES, *(each | {"id": f"{each['label']}_s1", "seed": 1} for each in WITH_SCORES)]
    for chosen, told in ((WITH_SCORES, ", these models]."), (cells, ", models trained anew].")):
        known = twice[twice["seed"] < len(chosen) / len(WITH_SCORES)]
        answer = answer_of(best_synthetic(chosen, known), gains_of(chosen, known), None, FLOOR)
        assert answer is not None
        assert answer["sentences"][0].endswith(told)


def test_where_one_region_alone_is_below_no_learning_the_sentence_begins_with_it() -> None:
    both = pd.concat([rows(VALUES | {"A": ([0.7, 0.7], [0.3] * 4)}), rows(VALUES, "dsc/intracranial")])
    answer = answer_of(best_synthetic(WITH_SCORES, both), gains_of(WITH_SCORES, both), None, FLOOR)
    assert answer is not None
    assert answer["warnings"] == [
        "For all vessels no better than no learning at all: what learned from A reaches a DSC of 0.300 where "
        "vesselness has 0.557."
    ]


def test_real_patches_that_teach_nothing_make_the_gap_meaningless() -> None:
    answer = answer_of(**results(VALUES | {"real": ([0.9, 0.9], [0.5] * 4)}, WITH_SCORES))
    assert answer is not None
    assert any("real patches teach no more than a rule" in text for text in answer["warnings"])
    assert "the share of the real gain is not defined" in " ".join(answer["sentences"])


def test_a_floor_of_fewer_patches_makes_the_ratio_a_least_one() -> None:
    found = results(VALUES, WITH_SCORES)
    found["realism"] = realism_of(
        WITH_SCORES, FLOOR | {"warnings": ["the floor has 3 patches a side and the scores 4: its FID is biased more"]}
    )
    answer = answer_of(**found)
    assert answer is not None
    assert "at least 29 times" in answer["warnings"][-1]


def test_mlflow_gets_the_answer_under_names_that_it_takes() -> None:
    found = results(VALUES, WITH_SCORES)
    names = {name: value for name, value, _ in answer_metrics(found)}
    assert names["fid_over_floor/A"] == pytest.approx(29)
    assert names["real_gain_share/all/B"] < 0
    found["gain"][0]["label"] = "A recipe=corrected+D8"
    assert any("A recipe_corrected_D8" in name for name, _, _ in answer_metrics(found))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("data"), lambda subject: subject)


def stored(folder: Path, change: Callable[[LoadedSubject], LoadedSubject], vessel: int = 2) -> Path:
    """A prepared store of five small phantoms."""
    subjects = [change(subject) for subject in phantom_subjects(sum(SPLITS.values()), (32, 32, 16), seed=3)]
    keys = iter(subject.key for subject in subjects)
    splits = {name: [next(keys) for _ in range(count)] for name, count in SPLITS.items()}
    rng = np.random.default_rng(0)
    write_store(folder / "store", subjects, splits=splits, patch_size=PATCH, grid=(2, 2, 1), vessel=vessel, rng=rng)
    return folder


def run_stage(name: str, folder: Path, options: Mapping[str, Any], **inputs: Path) -> dict[str, Any]:
    folder.mkdir()
    context = Context(options, inputs, {}, {}, folder, lambda done, total, what: None)
    return dict(STAGES[name].run(context))


def scores_of(folder: Path) -> dict[tuple[str, str], str]:
    with (folder / "subjects.csv").open() as file:
        return {(row["subject"], row["metric"]): row["value"] for row in csv.DictReader(file)}


def dsc_by_hand(store: VolumeStore, key: str, threshold: float, *, inside: bool) -> float:
    low, high = store.subject(key).intensity_range
    scaled = np.clip((np.asarray(store.image(key), np.float64) - low) / (high - low), 0, 1) * 2 - 1
    mask = store.mask(key)
    assert mask is not None
    region = mask if inside else np.ones_like(mask)
    return float(dice(store.label(key) & region, (scaled >= threshold) & region))


def test_each_region_is_scored_by_its_own_rule(data: Path, tmp_path: Path) -> None:
    fitted = run_stage("fit_untrained", tmp_path / "fit", {"method": "threshold"}, data=data)["rules"]
    assert fitted.keys() == {"all", "intracranial"}
    fitted["intracranial"]["threshold"] += 0.3  # on phantoms this small both rules may be the same
    (tmp_path / "fit/rules.json").write_text(json.dumps(fitted))
    values = run_stage("evaluate_untrained", tmp_path / "scores", {}, data=data, rules=tmp_path / "fit")
    assert values == {"subjects": {"validation": 1, "test": 2}, "reasons": {}}
    store, scores = open_store(data / "store"), scores_of(tmp_path / "scores")
    for key in (*store.keys("validation"), *store.keys("test")):
        for region, rule in fitted.items():
            expected = dsc_by_hand(store, key, rule["threshold"], inside=region == "intracranial")
            assert float(scores[key, f"dsc/{region}"]) == pytest.approx(expected, abs=2e-3)
    assert all(value for value in scores.values()), "every metric of every region has a value"
    assert {path.name for path in (tmp_path / "scores/predictions").iterdir()} == {
        f"{key}.nii.gz" for key in store.keys("test")
    }


def test_nothing_of_a_validation_or_test_subject_moves_a_rule(data: Path, tmp_path: Path) -> None:
    train = set(open_store(data / "store").keys("train"))

    def spoilt(subject: LoadedSubject) -> LoadedSubject:
        return subject if subject.key in train else replace(subject, label=~subject.label)

    other = stored(tmp_path / "other", spoilt)
    for method in ("threshold", "vesselness"):
        rules = [
            run_stage("fit_untrained", tmp_path / f"{method}{index}", {"method": method}, data=folder)
            for index, folder in enumerate((data, other))
        ]
        assert rules[0] == rules[1]


def test_without_brain_masks_the_other_region_has_a_reason(tmp_path: Path) -> None:
    data = stored(tmp_path / "data", lambda subject: replace(subject, mask=None))
    rules = run_stage("fit_untrained", tmp_path / "fit", {"method": "threshold"}, data=data)["rules"]
    assert rules.keys() == {"all"}
    values = run_stage("evaluate_untrained", tmp_path / "scores", {}, data=data, rules=tmp_path / "fit")
    assert "no training subject" in values["reasons"]["intracranial"]
    scores = scores_of(tmp_path / "scores")
    assert {value for (_, metric), value in scores.items() if metric.endswith("/intracranial")} == {""}


def test_labels_without_vessels_are_refused_in_a_line(tmp_path: Path) -> None:
    data = stored(tmp_path / "data", lambda subject: replace(subject, label=np.zeros_like(subject.label)), vessel=0)
    with pytest.raises(InputError, match="have no vessels"):
        run_stage("fit_untrained", tmp_path / "fit", {"method": "threshold"}, data=data)


def test_simulated_pairs_are_procedural_patches_in_a_random_order(data: Path, tmp_path: Path) -> None:
    options = {"subjects": 2, "patch": PATCH, "patches": {"grid": (2, 1, 1), "vessel": 2}, "seed": 7}
    values = run_stage("simulate_pairs", tmp_path / "pairs", options, data=data)
    images = decoded(np.load(tmp_path / "pairs/images.npy"))
    assert (values["pairs"], images.shape) == (8, (8, *PATCH))
    made = [
        image
        for subject in range(2)
        for image in procedural_patches(values["shape"], PATCH, subject=subject, seed=7, grid=(2, 1, 1), vessel=2)[0]
    ]
    places = [int(np.argmin([np.abs(image - other).max() for other in images])) for image in made]
    assert sorted(places) == list(range(8)) != places
    assert np.stack(made) == pytest.approx(images[places], abs=1e-4)


@pytest.fixture(scope="module")
def plan_of_scans(scans: Path) -> Plan:
    protocol = load_protocol(find_protocol("paper"))
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, scans)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile, has_data=True), source, "cpu")


def test_on_real_data_a_network_learns_from_phantoms_and_is_tested_on_patients(plan_of_scans: Plan) -> None:
    cells = {planned.cell.label: planned.stages for planned in plan_of_scans.cells}
    roles = cells["procedural"]
    unet = plan_of_scans.specs[roles["unet"]]
    assert unet.inputs == {"data": cells["real"]["data"], "pairs": roles["simulated_pairs"]}
    assert "real" not in unet.options
    assert "score" not in roles, "looks are drawn beyond what is realistic, so that distances mean nothing"
    simulated = plan_of_scans.specs[roles["simulated_pairs"]]
    assert simulated.options["subjects"] == len(plan_of_scans.source.split["train"])


def test_rules_share_the_data_and_need_neither_network_nor_check(plan_of_scans: Plan) -> None:
    for planned in plan_of_scans.cells:
        if planned.cell.untrained:
            assert planned.stages.keys() == {"data", "rules", "evaluate"}
            assert all("torch" not in plan_of_scans.specs[key].runtime for key in planned.stages.values())


def test_the_terminal_warns_as_soon_as_pairs_are_scored(tmp_path: Path) -> None:
    protocol_path = find_protocol("paper")
    protocol = load_protocol(protocol_path)
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, None)
    plan = build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")
    store = Store(tmp_path / "runs")
    write_run_folder(plan, store, tmp_path, protocol_path.read_text(encoding="utf-8"))
    stages = next(dict(planned.stages) for planned in plan.cells if planned.cell.label == "SN")
    store.finish(stages["reference"], FLOOR, {"seconds": 1.0})
    facts = {"samples": 4, "extractor": "random_resnet10", "reference": "held_out"}
    store.finish(stages["score"], {"metrics": {"fid": 0.29, "prd_auc": 0.7}, "facts": facts}, {"seconds": 1.0})
    text = io.StringIO()
    display = RunDisplay(plan, load_run(tmp_path, plan.name), RunLog(Console(file=text, width=200)), 1, 1)
    display.stage_started(stages["score"])
    display.stage_event(Event("done", stages["score"]))
    assert "warning SN_f16_s0: not yet realistic: FID 29 times that of real against real" in text.getvalue()


def test_claims_may_name_rules_but_not_call_them_the_best_synthetic_label(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    text = find_protocol("paper").read_text(encoding="utf-8").partition("\nclaims:")[0]
    path.write_text(
        text + "\nclaims:\n  - it helps: {greater: [dsc/all @ SN, dsc/all @ threshold]}\n", encoding="utf-8"
    )
    assert load_protocol(path).claims[0].sides == ("dsc/all @ SN", "dsc/all @ threshold")
    for label in ("threshold", "procedural"):
        path.write_text(text + f"\nclaims:\n  - wins: {{best: [dsc/all @ {label}]}}\n", encoding="utf-8")
        with pytest.raises(InputError, match="'best' compares a synthetic label"):
            load_protocol(path)


def test_results_of_the_smoke_run_have_both_rows_with_every_metric_in_both_regions(finished_smoke: Path) -> None:
    found = json.loads((finished_smoke / "reports/paper-smoke/results.json").read_text())
    groups = {group["label"]: group["metrics"] for group in found["groups"]}
    for label in ("threshold", "vesselness"):
        segmentation = {name for name in groups["real"] if name.endswith(("/all", "/intracranial"))}
        assert groups[label].keys() == segmentation
        assert all(entry["value"] is not None for entry in groups[label].values())
    assert {"real_gain_share/all", "real_gain_share/intracranial"} <= groups["c-SN-MP"].keys()
    table = (finished_smoke / "reports/paper-smoke/table.md").read_text()
    assert "| vesselness |" in table
    assert "share of the real gain, intracranial" in table
