"""`run --explain`: which option, input or version differs from the nearest finished stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from typer.testing import CliRunner

from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.commands import app
from benchmark.datasets.source import choose_source
from benchmark.plan import Plan, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.explain import reasons

FACTS = {"seconds": 1.0}


def plan_of(**changes: Any) -> Plan:
    protocol = load_protocol(ROOT / "protocols/paper.yaml")
    profile = protocol.profiles["smoke"].model_copy(update=changes)
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")


def finish(store: Store, plan: Plan) -> None:
    for spec in plan.specs.values():
        store.plan(spec)
        store.finish(spec.key, {}, FACTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def why(store: Store, plan: Plan, stage: str) -> list[str]:
    told = reasons(plan, store, plan.specs)
    return [told[key] for key in told if key.startswith(f"{stage}-")]


def test_what_is_done_needs_no_reason_and_what_was_never_done_has_one(store: Store) -> None:
    plan = plan_of()
    assert set(why(store, plan, "prepare")) == {"no prepare is finished here"}
    finish(store, plan)
    assert reasons(plan, store, plan.specs) == {}


def test_an_option_an_input_and_a_version_are_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of()
    finish(store, before)
    after = plan_of(pairs=24)
    (one, *_) = why(store, after, "synthesise")
    assert one.startswith("differs from synthesise-")
    assert f"(24; there {before.profile.pairs})" in one
    assert not why(store, after, "train_gan"), "which does not depend on it"
    (score, *_) = why(store, after, "score")
    assert "input pairs (synthesise-" in score
    assert "to be made first; there synthesise-" in score
    monkeypatch.setitem(STAGE_VERSIONS, "score", 99)
    (score, *_) = why(store, plan_of(), "score")
    assert "version of the stage (99; there " in score


def test_of_several_finished_stages_the_nearest_is_compared(store: Store) -> None:
    base = Spec("prepare", 1, {"seed": 0, "patch": [16, 16, 16], "source": {"phantom": {"subjects": 3}}})
    far = replace(base, options={"seed": 7, "patch": [8, 8, 8], "source": {"phantom": {"subjects": 9}}})
    near = replace(base, options={**base.options, "seed": 7})
    for spec in (far, near):
        store.plan(spec)
        store.finish(spec.key, {}, FACTS)
    plan = plan_of()
    plan.specs = {base.key: base}
    assert reasons(plan, store, [base.key]) == {base.key: f"differs from {near.key} in option seed (0; there 7)"}


def test_what_became_of_an_earlier_attempt_is_told(store: Store) -> None:
    plan = plan_of()
    finish(store, plan)
    failed, stopped, lost, changed = list(plan.specs)[:4]
    for key in (failed, stopped):
        store.undo(key)
    store.fail(failed, "ValueError: no\nmore", "")
    (store.folder(stopped) / "checkpoint.previous.pt").write_bytes(b"")
    for key in (lost, changed):
        (store.folder(key) / "a.npy").write_bytes(b"abc")
        store.finish(key, {}, FACTS)
    (store.folder(lost) / "a.npy").unlink()
    (store.folder(changed) / "a.npy").write_bytes(b"ab")
    told = reasons(plan, store, plan.specs)
    assert told.keys() == {failed, stopped, lost, changed}
    assert told[failed] == "failed before: ValueError: no"
    assert told[stopped] == "was stopped, and goes on from its checkpoint"
    assert told[lost] == f"{store.folder(lost)}: was done, but a file of it is gone"
    assert told[changed] == f"{store.folder(changed) / 'a.npy'}: changed since its stage wrote it"


def test_the_command_tells_and_runs_nothing(tmp_path: Path) -> None:
    command = ["run", "paper", "--profile", "smoke", "--explain", "-k", "real", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert ": no prepare is finished here" in result.output
    assert list(tmp_path.iterdir()) == []
