"""From run folders to the entries of results.json."""

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import make_run

from benchmark.artifacts.store import Spec, Store
from benchmark.metrics.registry import every
from benchmark.report.exports import write_tables
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run
from vesselgan.errors import InputError
from vesselgan.metrics.estimates import mean_with_interval
from vesselgan.recipe import PAPER_CODE, as_dict


def rows(*values: float, empty: int = 0, region: str = "all") -> list[str]:
    return [f"test,s{index},dsc/{region},{value},{empty}" for index, value in enumerate(values)]


def test_a_mean_carries_students_interval() -> None:
    entry = mean_with_interval([1.0, 2.0, 3.0], "seed")
    assert (entry["value"], entry["n"], entry["sd"]) == (2.0, 3, 1.0)
    # t(0.975, 2) = 4.302653 for a standard error of 1 / sqrt(3)
    assert entry["ci_high"] - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)


def test_an_interval_of_a_mean_stays_within_what_the_metric_can_be(tmp_path: Path) -> None:
    entry = mean_with_interval([0.9, 1.0, 1.0], "seed", (0.0, 1.0))
    assert (entry["ci_low"] < 0.9, entry["ci_high"]) == (True, 1.0)
    lines = [
        f"test,s{n},{name}/all,{value},0" for name in ("dsc", "betti_0_error") for n, value in enumerate((0.0, 1.0))
    ]
    make_run(tmp_path, {f"SN_f16_s{seed}": {"evaluate": {"rows": list(lines)}} for seed in (0, 1)})
    results = results_of(load_run(tmp_path, "r-p"))
    for holder in (*results["cells"], *results["groups"]):
        assert holder["metrics"]["dsc/all"]["ci_low"] >= 0
        assert holder["metrics"]["dsc/all"]["ci_high"] <= 1
    cell = results["cells"][0]["metrics"]
    assert (cell["dsc/all"]["ci_low"], cell["dsc/all"]["ci_high"]) == (0.0, 1.0)
    assert cell["betti_0_error/all"]["ci_low"] == 0.0
    assert cell["betti_0_error/all"]["ci_high"] > 1


def test_several_scans_of_a_person_count_as_one_test_subject(tmp_path: Path) -> None:
    persons = {"s0": "anna", "s1": "anna", "s3": "ben", "s4": "ben"}
    prepared = {
        **{"subjects": {"test": 5}, "people": {"test": 3}, "persons": persons, "patches": {}, "shapes": []},
        **{"spacings_mm": [], "vessel_share": 0.1, "with_brain_mask": 5, "brain_mask_computed": 0},
    }
    scans = rows(0.2, 0.4, 0.9, 0.5, 0.5)
    make_run(tmp_path, {"SN_f16_s0": {"data": prepared, "evaluate": {"rows": scans}}})
    results = results_of(load_run(tmp_path, "r-p"))
    entry = results["cells"][0]["metrics"]["dsc/all"]
    assert (entry["value"], entry["n"]) == (pytest.approx((0.3 + 0.9 + 0.5) / 3), 3)
    assert results["groups"][0]["over_subjects"]["dsc/all"]["subjects"] == pytest.approx(
        {"anna": 0.3, "ben": 0.5, "s2": 0.9}
    )
    assert results["split"] == {"test": 3}
    assert [row["subject"] for row in results["subjects"]] == ["s0", "s1", "s2", "s3", "s4"], "rows are of scans"


def test_one_value_has_no_interval_and_says_why() -> None:
    entry = mean_with_interval([0.5], "seed")
    assert entry["ci_low"] is entry["ci_high"] is entry["sd"] is None
    assert entry["reason"] == "no interval from one seed"


def test_subjects_are_averaged_per_cell_and_cells_over_seeds(tmp_path: Path) -> None:
    cells = {
        f"SN_f16_s{seed}": {"evaluate": {"rows": rows(*values)}} for seed, values in enumerate([(0.5, 0.7), (0.8, 1.0)])
    }
    make_run(tmp_path, cells)
    results = results_of(load_run(tmp_path, "r-p"))
    assert [cell["metrics"]["dsc/all"]["value"] for cell in results["cells"]] == pytest.approx([0.6, 0.9])
    (group,) = results["groups"]
    assert group["metrics"]["dsc/all"]["value"] == pytest.approx(0.75)
    assert group["metrics"]["dsc/all"]["n"] == 2
    assert len(results["subjects"]) == 4


def test_subjects_keep_their_names_whatever_these_look_like(tmp_path: Path) -> None:
    names = ("007", "NA", "1e3")
    lines = [f"test,{name},dsc/all,{value},0" for name, value in zip(names, (0.5, 0.7, 0.6), strict=True)]
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": lines}}})
    results = results_of(load_run(tmp_path, "r-p"))
    assert [row["subject"] for row in results["subjects"]] == list(names)
    assert [entry["subject"] for entry in results["subject_ranking"]] == ["007", "1e3", "NA"]


def test_a_group_has_each_subject_over_seeds_and_their_spread(tmp_path: Path) -> None:
    cells = {f"SN_f16_s{seed}": {"evaluate": {"rows": rows(*v)}} for seed, v in enumerate([(0.5, 0.7), (0.7, 0.9)])}
    make_run(tmp_path, cells)
    (group,) = results_of(load_run(tmp_path, "r-p"))["groups"]
    over = group["over_subjects"]["dsc/all"]
    assert over["subjects"] == pytest.approx({"s0": 0.6, "s1": 0.8})
    assert (over["value"], over["sd"]) == pytest.approx((0.7, np.sqrt(0.02)))
    assert (group["done"], group["test_subjects"]) == (2, 2)
    assert group["metrics"]["dsc/all"]["segmentations"] == 4


def test_a_ratio_of_costs_is_round_by_round_and_none_of_emulated_or_busy_times(tmp_path: Path) -> None:
    def measured(label: str, **more: object) -> dict:
        times = {"SN": [10.0, 20.0, 30.0], "SN-MP": [5.0, 20.0, 60.0]}[label]
        return {"step_time_ms": times, "peak_memory_mib": 8.0, "emulated": False, "steps_timed": 3} | more

    for more, ratio, why in (({}, 1.0, None), ({"emulated": True}, None, "emulated"), ({"busy": "load"}, None, "load")):
        both = {"SN": measured("SN"), "SN-MP": measured("SN-MP", **more)}
        values = {"configurations": both, "memory_definition": "bytes", "threads": 1}
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        make_run(out, {"SN_f16_s0": {"measure": dict(values)}, "SN-MP_f16_s0": {"measure": dict(values)}})
        path = out / "runs/r-p/cells/SN-MP_f16_s0.json"
        record = json.loads(path.read_text())
        record["cell"] |= {"label": "SN-MP", "precision": "bf16"}
        path.write_text(json.dumps(record))
        (found,) = results_of(load_run(out, "r-p"))["cost_ratios"]
        assert (found["mixed"], found["full"], found["peak_memory"]) == ("SN-MP", "SN", 1.0)
        if ratio is None:
            assert found["step_time"]["value"] is None
            assert why in found["step_time"]["reason"]
        else:  # the geometric mean of 1/2, 1 and 2
            assert found["step_time"]["value"] == pytest.approx(ratio)
            assert found["step_time"]["ci_low"] < ratio < found["step_time"]["ci_high"]


def test_validation_subjects_do_not_enter_a_cells_mean(tmp_path: Path) -> None:
    lines = [*rows(0.5, 0.7), "validation,v0,dsc/all,0.0,0"]
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": lines}}})
    metric = results_of(load_run(tmp_path, "r-p"))["cells"][0]["metrics"]["dsc/all"]
    assert (metric["value"], metric["n"]) == (pytest.approx(0.6), 2)


def test_a_region_without_values_is_null_with_a_reason(tmp_path: Path) -> None:
    lines = [*rows(0.5, 0.7), "test,s0,dsc/intracranial,,0", "test,s1,dsc/intracranial,,0"]
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": lines}}})
    results = results_of(load_run(tmp_path, "r-p"))
    metric = results["cells"][0]["metrics"]["dsc/intracranial"]
    assert metric["value"] is None
    assert "brain mask" in metric["reason"]
    json.dumps(results, allow_nan=False)  # strict JSON


def test_empty_predictions_are_counted(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": rows(0.0, 0.0, empty=1)}}})
    assert results_of(load_run(tmp_path, "r-p"))["cells"][0]["metrics"]["dsc/all"]["empty"] == 2


def test_segmentations_without_anything_to_compare_are_counted_wherever_the_mean_is(tmp_path: Path) -> None:
    lines = ["test,s0,dsc/all,0.5,0", "test,s1,dsc/all,,1", "test,s2,dsc/all,,1"]
    make_run(tmp_path, {f"SN_f16_s{seed}": {"evaluate": {"rows": lines}} for seed in range(2)})
    results = results_of(load_run(tmp_path, "r-p"))
    of_cell, of_group = (results[part][0]["metrics"]["dsc/all"] for part in ("cells", "groups"))  # type: ignore[literal-required]
    assert (of_cell["value"], of_cell["n"], of_cell["left_out"]) == (0.5, 1, 2)
    assert (of_group["value"], of_group["left_out_segmentations"], of_group["empty_segmentations"]) == (0.5, 4, 0)
    write_tables(results, tmp_path)
    line = "SN, DSC, all vessels: 4 segmentations left out, where truth and prediction are both empty"
    assert line in (tmp_path / "summary.txt").read_text().splitlines()


def test_a_protocol_may_take_what_there_is_nothing_to_compare_in_for_perfect(tmp_path: Path) -> None:
    mm = next(name for name, named in every("subject").items() if named.metric.unit == "mm" and name.endswith("/all"))
    lines = ["test,s0,dsc/all,0.5,0", "test,s1,dsc/all,,1", "test,s0,bavd_voxel/all,3.0,0", "test,s1,bavd_voxel/all,,1"]
    lines += [
        "test,s0,dsc/intracranial,,0",
        "test,s1,dsc/intracranial,,0",
        f"test,s1,{mm},,1",
    ]  # no mask, no voxel size
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": lines}}})
    path = tmp_path / "runs/r-p/run.json"
    plan = json.loads(path.read_text())
    assert results_of(load_run(tmp_path, "r-p"))["cells"][0]["metrics"]["dsc/all"]["value"] == 0.5
    path.write_text(json.dumps(plan | {"both_empty": "perfect"}))
    results = results_of(load_run(tmp_path, "r-p"))
    metrics = results["cells"][0]["metrics"]
    assert (metrics["dsc/all"]["value"], metrics["dsc/all"]["n"], metrics["dsc/all"]["empty"]) == (0.75, 2, 1)
    assert "left_out" not in metrics["dsc/all"]
    assert metrics["bavd_voxel/all"]["value"] == 1.5
    assert metrics["dsc/intracranial"]["value"] is None
    assert metrics[mm]["value"] is None
    assert results["conventions"]["masks"]["both_empty"] == "perfect"


def test_where_tools_differ_the_choice_stands_in_the_results(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {}})
    path = tmp_path / "runs/r-p/run.json"
    plan = json.loads(path.read_text())
    plan |= {"metrics": {"prd": {"clusters": 10, "runs": 2}, "contours": {"neighbours": 26}}, "vessels": [1, 2]}
    path.write_text(json.dumps(plan))
    cell = tmp_path / "runs/r-p/cells/SN_f16_s0.json"
    content = json.loads(cell.read_text())
    content["cell"] |= {"recipe_name": "paper_code", "recipe": as_dict(PAPER_CODE)}
    cell.write_text(json.dumps(content))
    chosen = results_of(load_run(tmp_path, "r-p"))["conventions"]
    assert chosen["metrics"] == {"prd": {"clusters": 10, "runs": 2}, "contours": {"neighbours": 26}}
    assert chosen["patches"]["paper_code"]["nearly_empty"] == "counted"
    assert "D9" in chosen["patches"]["paper_code"]["zeros"]
    masks = chosen["masks"]
    assert (masks["vessels"], masks["both_empty"], masks["contours"]) == ([1, 2], "leave-out", 26)
    assert "6 neighbours" in masks["hd95"]


def test_failed_and_unfinished_cells_stay_in_the_results(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {"gan": "RuntimeError: no"}, "SN_f16_s1": {"gan": {}}})
    store = Store(tmp_path / "runs")
    key = Spec("gan", 1, {"cell": "SN_f16_s1"}).key
    (store.folder(key) / "result.json").unlink()
    failed, unfinished = results_of(load_run(tmp_path, "r-p"))["cells"]
    assert (failed["status"], failed["error"]) == ("failed", "gan: RuntimeError: no")
    assert (unfinished["status"], unfinished["error"]) == ("unfinished", None)


def test_costs_are_in_both_directions_and_marked_when_emulated(tmp_path: Path) -> None:
    measured = {"step_time_ms": [10.0, 20.0], "peak_memory_mib": 5.0, "emulated": True, "steps_timed": 2}
    values = {"configurations": {"SN": measured}, "memory_definition": "bytes", "threads": 1}
    make_run(tmp_path, {"SN_f16_s0": {"measure": values}})
    metrics = results_of(load_run(tmp_path, "r-p"))["cells"][0]["metrics"]
    assert metrics["step_time_ms"]["value"] == pytest.approx(np.sqrt(10 * 20))
    assert metrics["step_time_ms"]["ci_low"] > 0
    assert metrics["patches_per_s"]["rounds"] == [400, 200]  # batch 4
    assert metrics["step_time_ms"]["emulated"]
    write_tables(results_of(load_run(tmp_path, "r-p")), tmp_path / "tables")
    assert "SN: emulated precision" in (tmp_path / "tables/summary.txt").read_text()
    assert "emulated" not in metrics["peak_memory_mib"]


def test_tables_hold_each_metric_and_survive_missing_ones(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {"evaluate": {"rows": rows(0.5, 0.7)}}, "SN_f16_s1": {"gan": "no"}})
    results = results_of(load_run(tmp_path, "r-p"))
    write_tables(results, tmp_path / "tables")
    assert "0.600" in (tmp_path / "tables/table.md").read_text()
    summary = (tmp_path / "tables/summary.txt").read_text()
    assert "inconclusive   c" in summary
    assert "SN_f16_s1: gan: no" in summary


def test_mlflow_gets_the_whole_recipe_and_what_privacy_rests_on(tmp_path: Path) -> None:
    from benchmark.report.mlflow_content import cell_params

    spent = {"epsilon": 3.5, "delta": 1e-3, "noise_multiplier": 0.3, "clip_norm": 1.0, "sample_rate": 0.1}
    spent |= {"noisy_updates": 9, "accountant": "RDP", "unit": "one patch", "caveats": []}
    make_run(tmp_path, {"SN_f16_s0": {"gan": {"steps": 9, "privacy": spent}}, "SN_f16_s1": {"gan": {"steps": 9}}})
    path = tmp_path / "runs/r-p/cells/SN_f16_s0.json"
    record = json.loads(path.read_text())
    record["cell"]["recipe"] = as_dict(PAPER_CODE)
    path.write_text(json.dumps(record))
    private, plain = results_of(load_run(tmp_path, "r-p"))["cells"]
    assert private["privacy"] == spent
    assert plain["privacy"] is None
    params = cell_params(private)
    assert {key: params[f"recipe.{key}"] for key in as_dict(PAPER_CODE)} == as_dict(PAPER_CODE)
    assert params.items() >= {f"privacy.{key}": value for key, value in spent.items()}.items()
    assert not any(key.startswith("privacy") for key in cell_params(plain))


def test_steps_that_were_not_applied_are_counted_by_training(tmp_path: Path) -> None:
    counts = {"not finite": 1, "absurd": 2, "loss scale": 0}
    unet = {"steps": 8, "best_step": 4, "training_samples": {"synthetic": 3}, "history": []}
    gan = {"steps": 9, "steps_rejected": counts}
    make_run(tmp_path, {"SN_f16_s0": {"gan": gan, "unet": unet}, "SN_f16_s1": {"gan": {"steps": 9}}})
    counted, earlier = results_of(load_run(tmp_path, "r-p"))["cells"]
    assert counted["steps_rejected"] == {"gan": counts}
    assert earlier["steps_rejected"] == {}, "of a version that did not count them"


def test_a_run_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    make_run(tmp_path, {"SN_f16_s0": {}})
    with pytest.raises(InputError, match="runs here: r-p"):
        load_run(tmp_path, "other")
