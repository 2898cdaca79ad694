"""What the registry takes and refuses, and what becomes of metrics of every kind."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import make_run

from benchmark.claims.evidence import Evidence
from benchmark.metrics import Audits, FeatureSets, LabelPair, MaskPair, Metric, Options, StepCosts, metric
from benchmark.metrics.asking import default_options, values_of
from benchmark.metrics.registry import MEASUREMENTS, find, names, range_of
from benchmark.report.exports import write_tables
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run
from benchmark.scoring.patch_sets import audit_memory, compare_features, compare_labels
from vesselgan.metrics import SetScores, label_statistics

EMPTY = MaskPair(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool), None)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """As it was, once a test is over."""
    before = dict(MEASUREMENTS)
    yield
    MEASUREMENTS.clear()
    MEASUREMENTS.update(before)


def own(key: str, kind: Any, function: Any, **facts: Any) -> None:
    metric(Metric(key, f"the {key}", better="lower", **facts), kind=kind)(function)


def test_unfit_keys_and_taken_ones_are_refused() -> None:
    for key in ("Toy", "a toy", "toy@home", "toy/part/", "töy"):
        with pytest.raises(ValueError, match="a key is made of small letters"):
            own(key, "set", len)
    for key, kind in (("fid", "set"), ("dsc", "subject"), ("kid", "labels")):
        with pytest.raises(ValueError, match="there is one of that key"):
            own(key, kind, len)
    own("toy", "set", len)
    own("toy2", "subject", len)
    with pytest.raises(ValueError, match="there is one of that name"):
        metric(Metric("other", "other", better=None), kind="set", name="prd")(len)


def test_one_of_ones_own_is_computed_where_it_is_asked_for_and_its_options_have_defaults() -> None:
    with pytest.raises(ValueError, match="is computed where a protocol names it"):
        metric(Metric("toy", "toy", better=None), kind="set", always=True)(len)

    class Wants(Options):
        scale: float

    with pytest.raises(ValueError, match="scale"):
        metric(Metric("toy", "toy", better=None), kind="set", options=Wants)(len)
    assert "toy" not in MEASUREMENTS


def test_a_metric_of_unknown_name_has_no_limits() -> None:
    assert find("toy") is None
    assert range_of("toy") == (-np.inf, np.inf)
    assert (range_of("dsc/all"), range_of("kid"), range_of("fid")) == ((0, 1), (-np.inf, np.inf), (0, np.inf))


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "metric toy: is nan"), ({"tay": 1.0}, "metric toy: gave tay, declared toy")],
)
def test_a_value_that_is_no_number_or_of_another_name_is_an_error(value: Any, message: str) -> None:
    own("toy", "subject", lambda _: value)
    with pytest.raises(ValueError, match=message):
        values_of("subject", EMPTY, default_options("subject"))


def test_a_metric_may_have_no_value() -> None:
    own("toy", "subject", lambda _: None)
    assert "toy" not in values_of("subject", EMPTY, default_options("subject"))


def test_a_plain_number_of_sets_has_no_interval_and_an_interval_stays_within_the_limits() -> None:
    rng = np.random.default_rng(0)
    own("plain", "set", lambda sets: float(len(sets.real)))
    own("limited", "set", lambda sets: sets.jackknifed(lambda real, _: float(real.mean())), limits=(-0.01, 0.01))
    own("beside", "set", lambda sets: SetScores({"beside": sets.jackknifed(lambda *_: 1.0)}, ("beside: few",)))
    found = compare_features(
        rng.normal(size=(40, 3)),
        rng.normal(size=(40, 3)),
        {name: {"version": 1, "options": {}} for name in ("plain", "limited", "beside")},
        real_subjects=np.arange(40) // 4,
        seed=0,
    )
    assert found.metrics.keys() == {"plain", "limited", "beside"}
    assert (found.metrics["plain"], found.intervals.keys()) == (40.0, {"limited", "beside"})
    assert found.intervals["limited"] == (-0.01, 0.01)
    assert found.warnings[0] == "beside: few"


def test_equal_sets_are_what_a_metric_that_depends_on_counts_is_given() -> None:
    counts = []

    def counted(sets: FeatureSets) -> float:
        counts.append([(len(each.real), len(each.generated)) for each in (sets, sets.equal)])
        return 0.0

    own("toy", "set", counted)
    rng = np.random.default_rng(0)
    wanted = {"toy": {"version": 1, "options": {}}}
    compare_features(rng.normal(size=(30, 3)), rng.normal(size=(20, 3)), wanted, real_subjects=None, seed=0)
    assert counts == [[(30, 20), (20, 20)]]


def test_labels_and_audits_can_have_metrics_of_ones_own() -> None:
    def longest(labels: LabelPair) -> float:
        return float(labels.generated.branch_count.max() - labels.real.branch_count.max())

    own("longest", "labels", longest)
    own("nearly_copied", "audit", lambda audits: audits.images.near_zero, decimals=0)
    labels = np.zeros((3, 8, 8, 8), bool)
    labels[:, 2:6, 4, 4] = True
    options = default_options("labels", "audit")
    metrics, _ = compare_labels(label_statistics(labels), label_statistics(labels), options)
    assert metrics["longest"] == 0
    assert metrics["label_branch_count"] == 0
    rng = np.random.default_rng(0)
    sets = [{"features": rng.normal(size=(12, 3)), "blocks": rng.normal(size=(12, 2, 2, 2))} for _ in range(3)]
    audits = audit_memory(training=sets[0], held_out=sets[1], generated=sets[0])
    assert isinstance(audits, Audits)
    assert values_of("audit", audits, options)["nearly_copied"] == 12, "every patch is a copy"


def test_a_cost_of_ones_own_stands_beside_the_others(tmp_path: Path) -> None:
    def seconds(costs: StepCosts) -> list[float]:
        return [time / 1000 for time in costs.step_times_ms]

    own("step_time_s", "cost", seconds, unit="s")
    own("kib", "cost", lambda costs: 1024 * costs.peak_memory_mib)
    measured = {"step_time_ms": [10.0, 20.0], "peak_memory_mib": 5.0, "emulated": True, "busy": "busy"}
    values = {"configurations": {"SN": {**measured, "steps_timed": 2}}, "memory_definition": "bytes", "threads": 1}
    make_run(tmp_path, {"SN_f16_s0": {"measure": values}})
    results = results_of(load_run(tmp_path, "r-p"))
    (cell,) = results["cells"]
    assert cell["metrics"]["step_time_s"]["rounds"] == [0.01, 0.02]
    assert cell["metrics"]["step_time_s"]["value"] == pytest.approx(np.sqrt(0.01 * 0.02))
    assert (cell["metrics"]["step_time_s"]["emulated"], cell["metrics"]["step_time_s"]["busy"]) == (True, "busy")
    assert (cell["metrics"]["kib"]["value"], cell["metrics"]["kib"]["reason"]) == (5120, "an exact count")
    assert cell["metrics"]["peak_memory_mib"]["reason"] == "bytes"
    write_tables(results, tmp_path / "tables")
    assert "| the step_time_s (s) | 0.014 ± 0.007 |" in (tmp_path / "tables/table.md").read_text()


def test_missing_values_could_have_been_as_far_as_the_limits_or_the_run_go() -> None:
    own("toy", "set", len, limits=(-np.inf, 3.0))
    cells = [
        {"label": "SN", "kind": "synthetic", "id": f"SN{seed}", "seed": seed, "metrics": {"toy": {"value": value}}}
        for seed, value in enumerate((-2.0, 1.0))
    ]
    assert Evidence(cells, []).limits("toy") == (-2.0, 3.0)  # type: ignore[arg-type]


def test_names_stand_in_the_order_in_which_a_reader_asks_for_them() -> None:
    own("toy", "subject", len)
    assert names("subject")[:3] == ["dsc/all", "dsc/intracranial", "cldice/all"]
    assert names("subject")[-2:] == ["toy/all", "toy/intracranial"]
    assert names("set", "subject") == [*names("subject"), *names("set")]
    assert names("set")[:3] == ["fid", "fid_infinite", "frd"]


def test_an_empty_mask_is_one_that_holds_nothing_on_either_side() -> None:
    full = np.ones((2, 2, 2), bool)
    assert EMPTY.has_empty
    assert replace(EMPTY, truth=full).has_empty
    assert not replace(EMPTY, truth=full, prediction=full).has_empty
