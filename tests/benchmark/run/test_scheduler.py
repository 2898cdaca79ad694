"""The scheduler with an engine that only pretends: order, reuse, failure, exclusiveness, exit status."""

import json
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT

from benchmark.artifacts.store import Store, environment_for
from benchmark.datasets.source import choose_source
from benchmark.environment import Node
from benchmark.plan import CellPlan, Findings, Plan, Resources, build_plan
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import load_protocol
from benchmark.run.capacity import capacity_of
from benchmark.run.devices import Device
from benchmark.run.engine import Engine, Event
from benchmark.run.forecast import predict
from benchmark.run.memory import stage_memory, weighed
from benchmark.run.run_stage import run_stage
from benchmark.run.scheduler import Outcome, execute, first_stages, write_run_folder
from vesselgan.errors import InputError
from vesselgan.recipe import as_dict, resolve_recipe

PAPER = ROOT / "protocols" / "paper.yaml"


class PretendEngine(Engine):
    """Finishes stages in the order in which they came, except those that it is told to fail."""

    def __init__(self, store: Store, workers: int = 2, fail: dict[str, str] | None = None) -> None:
        self.store, self.workers, self.fail = store, workers, fail or {}
        self.running: deque[str] = deque()
        self.order: list[str] = []
        self.together: list[set[str]] = []
        self.alone = False

    def free(self, resources: Resources) -> bool:
        if resources.exclusive or self.alone:
            return not self.running
        return len(self.running) < self.workers

    def submit(self, key: str, resources: Resources) -> None:
        assert self.free(resources)
        self.alone = resources.exclusive
        missing = [need for need in self.store.spec(key).needs if not self.store.done(need)]
        assert not missing, f"{key} was started before {missing}"
        self.running.append(key)
        self.together.append(set(self.running))

    def next_event(self) -> Event:
        key = self.running.popleft()
        self.order.append(key)
        stage = key.rpartition("-")[0]
        if how := self.fail.get(stage) or self.fail.get(key):
            return Event(how, key, text=f"{stage} broke")
        self.store.finish(key, {}, {"seconds": 0.0})
        return Event("done", key)

    def close(self) -> None: ...


class Listener:
    def __init__(self) -> None:
        self.cells: dict[str, str] = {}

    def stage_started(self, key: str) -> None: ...
    def stage_event(self, event: Event) -> None: ...
    def cell_finished(self, cell: CellPlan, status: str) -> None:
        assert cell.cell.id not in self.cells, "a cell ends once"
        self.cells[cell.cell.id] = status


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    protocol = load_protocol(PAPER)
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, None)
    return build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")


def run(plan: Plan, out: Path, **engine: object) -> tuple[Outcome, PretendEngine, Listener]:
    store = Store(out / "runs")
    write_run_folder(plan, store, out, "")
    pretend, listener = PretendEngine(store, **engine), Listener()
    return execute(plan, plan.cells, store, pretend, listener), pretend, listener


def test_everything_is_computed_once_and_then_reused(plan: Plan, tmp_path: Path) -> None:
    outcome, engine, listener = run(plan, tmp_path)
    assert sorted(outcome.computed) == sorted(plan.specs) == sorted(engine.order)
    assert set(listener.cells.values()) == {"done"}
    assert outcome.exit_status == 0
    again, engine, listener = run(plan, tmp_path)
    assert (again.computed, sorted(again.reused), engine.order) == ([], sorted(plan.specs), [])
    assert len(listener.cells) == len(plan.cells)


def test_the_cost_measurement_has_the_machine_for_itself(plan: Plan, tmp_path: Path) -> None:
    _, engine, _ = run(plan, tmp_path, workers=4)
    crowds = [keys for keys in engine.together if any(key.startswith("measure") for key in keys)]
    assert [len(keys) for keys in crowds] == [1]
    assert max(len(keys) for keys in engine.together) > 1


def test_the_plan_says_what_each_stage_takes_while_it_runs(plan: Plan) -> None:
    threads = plan.profile.threads
    assert plan.resources.keys() == plan.specs.keys()
    for key, spec in plan.specs.items():
        taken = plan.resources[key]
        assert taken.exclusive == (spec.stage == "measure")
        assert taken.cpus == (plan.profile.measure.threads if taken.exclusive else spec.runtime.get("threads", 1))
        assert taken.gpus == 0
    assert {plan.resources[key].cpus for key in plan.specs if key.startswith("train")} == {threads}
    on_gpu = elsewhere(plan, device="cuda")
    with_gpu = {spec.stage for key, spec in on_gpu.specs.items() if on_gpu.resources[key].gpus}
    without = {spec.stage for key, spec in on_gpu.specs.items() if not on_gpu.resources[key].gpus}
    assert "train_gan" in with_gpu
    assert without == {"prepare", "fit_untrained", "evaluate_untrained"}
    assert (PretendEngine.default_workers(on_gpu), PretendEngine.default_workers(plan) >= 1) == (1, True)


def elsewhere(plan: Plan, **facts: object) -> Plan:
    """The same plan for another node."""
    cells = [cell.cell for cell in plan.cells]
    return build_plan(plan.protocol, "smoke", plan.profile, cells, plan.source, replace(plan.node, **facts))


def test_the_machine_in_a_key_is_the_one_that_computes(plan: Plan) -> None:
    """And it is in the keys of what is timed or checked on it alone."""
    assert elsewhere(plan).specs.keys() == plan.specs.keys()
    other = elsewhere(plan, machine={**plan.node.machine, "cpu": "another"})
    changed = {spec.stage for key, spec in plan.specs.items() if key not in other.specs}
    assert changed == {"verify", "measure"}
    machines = {spec.runtime["machine"]["cpu"] for spec in other.specs.values() if "machine" in spec.runtime}
    assert machines == {"another"}


def test_the_memory_of_trainings_is_counted_for_engines_that_place_by_it(plan: Plan) -> None:
    keys = [key for key in plan.specs if key.startswith(("train_gan", "prepare"))]
    taken = weighed(plan, keys)
    assert taken.keys() == {key for key in keys if key.startswith("train_gan")}
    most = max(resources.memory_mib for resources in taken.values())
    assert most == pytest.approx(1024 * predict(plan, keys).memory_gib)
    assert len({resources.memory_mib for resources in taken.values()}) > 1, "variants differ"
    key = next(iter(taken))
    assert replace(taken[key], memory_mib=0.0) == plan.resources[key]


def test_a_training_in_several_processes_has_a_key_and_resources_of_its_own(plan: Plan) -> None:
    cells = [cell.cell for cell in plan.cells if cell.cell.label == "SN"]

    def planned(node: Node = plan.node, found: Findings | None = None, **settings: object) -> Plan:
        profile = plan.profile.model_copy(update=settings)
        return build_plan(plan.protocol, "smoke", profile, cells, plan.source, node, {}, found or {})

    def training(built: Plan) -> str:
        return next(key for key in built.specs if key.startswith("train_gan"))

    both, local = planned(processes=2, batch_norm="sync"), planned(processes=2, batch_norm="local")
    usual = {key for key in planned().specs if not key.startswith("measure")}  # which is of fewer cells
    assert usual < plan.specs.keys(), "one process says nothing of it"
    assert len({training(built) for built in (planned(), both, local)}) == 3
    assert both.specs[training(both)].options["wgan"]["batch_norm"] == "sync"
    check = both.specs[both.specs[training(both)].checks[0]]
    assert check.options["batch"] == plan.profile.batch // 2, (
        "kernels are checked at the size that each calls them with"
    )
    cuda = replace(plan.node, device="cuda")
    on_gpu = planned(cuda, processes=2, batch_norm="sync")
    smaller = [replace(cell, batch=plan.profile.batch // 2) for cell in cells]
    halves = build_plan(plan.protocol, "smoke", plan.profile, smaller, plan.source, cuda)
    half = stage_memory(halves, training(halves))
    assert half is not None
    assert stage_memory(on_gpu, training(on_gpu)) == half, "a card has the share of its process"
    (step,) = [step for step in capacity_of(on_gpu, Device("cuda")).steps if step.labels == ("SN",)]
    assert step.needed_bytes == half, "which is what `plan` tells, too"
    assert on_gpu.resources[training(on_gpu)].gpus == 2
    assert both.resources[training(both)].cpus == 2 * plan.profile.threads
    with pytest.raises(InputError, match="processes 2: say batch_norm: sync"):
        planned(processes=2)
    wrong = {check.key: {"remedy": {"operations": {"convolution": "float32"}}}}
    with pytest.raises(InputError, match="wrong kernels are got round in one process alone; use processes: 1"):
        planned(found=wrong, processes=2, batch_norm="sync")


def test_a_worker_refuses_what_is_about_another_machine(plan: Plan, tmp_path: Path) -> None:
    store, other = Store(tmp_path), elsewhere(plan, machine={**plan.node.machine, "cores": 999})
    write_run_folder(other, store, tmp_path, "")
    assert json.loads((tmp_path / "runs/paper-smoke/environment.json").read_text())["machine"]["cores"] == 999
    with pytest.raises(InputError, match=r"verify-.*about another machine .*999 cores"):
        run_stage(store, other.checks[0])


def test_a_numerics_check_that_fails_stops_only_what_computes_so(plan: Plan, tmp_path: Path) -> None:
    mixed = {key for key, spec in plan.specs.items() if spec.stage == "verify" and spec.options["precision"] == "bf16"}
    assert len(mixed) == 2
    found = {key: {"refused": "bf16 is wrong"} for key in mixed}
    cells = [cell.cell for cell in plan.cells]
    plan = build_plan(plan.protocol, "smoke", plan.profile, cells, plan.source, "cpu", {}, found)
    outcome, engine, listener = run(plan, tmp_path, fail=dict.fromkeys(mixed, "failed"))
    done = {cell for cell, status in listener.cells.items() if status == "done"}
    assert done == {"real_s0", "threshold", "vesselness", "GP_f16_s0", "SN_f16_s0"}
    trained = {plan.specs[key].options["wgan"]["precision"] for key in engine.order if key.startswith("train_gan")}
    assert trained == {"fp32"}
    (measured,) = (spec for spec in plan.specs.values() if spec.stage == "measure")
    assert measured.options["configurations"].keys() == {"GP", "SN"}
    assert outcome.exit_status == 1


def test_what_gets_round_a_wrong_kernel_is_in_the_key_of_what_computes_so(plan: Plan) -> None:
    def planned(found: dict[str, dict[str, object]]) -> Plan:
        cells = [cell.cell for cell in plan.cells]
        return build_plan(plan.protocol, "smoke", plan.profile, cells, plan.source, "cpu", {}, found)

    checks = {key: spec for key, spec in plan.specs.items() if spec.stage == "verify"}
    mixed = next(key for key, spec in checks.items() if spec.options["precision"] == "bf16")
    right = {key: {"remedy": None, "faults": []} for key in checks}
    assert planned(right).specs.keys() == plan.specs.keys(), "right kernels leave every key as it was"
    way = {"operations": {"convolution, bf16": "float32"}}
    other = planned(right | {mixed: {"remedy": way, "faults": []}})
    for before, after in zip(plan.cells, other.cells, strict=True):
        own = mixed in before.stages.values()
        changed = {role for role in before.stages if before.stages[role] != after.stages[role]}
        behind = {"gan", "pairs", "score", "unet", "evaluate"} if own else set()
        assert changed == behind | ({"measure"} if before.cell.has_generator else set())
    spec = next(spec for spec in other.specs.values() if spec.stage == "train_gan" and mixed in spec.checks)
    assert spec.runtime["remedy"] == way
    narrow = planned({key: {"remedy": {"instructions": name}} for key, name in zip(checks, ["AVX2"] * 9, strict=False)})
    trained = [spec for spec in narrow.specs.values() if spec.stage == "train_unet"]
    assert all(environment_for(spec) == {"ONEDNN_MAX_CPU_ISA": "AVX2"} for spec in trained)


def test_what_another_run_works_on_is_left_to_it_while_others_have_their_turn(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run holds the first training, and is done with it once this one has done all that it could."""
    monkeypatch.setattr("benchmark.run.scheduler.LOCK_WAIT_S", 0.01)
    store = Store(tmp_path / "runs")
    write_run_folder(plan, store, tmp_path, "")
    theirs = next(key for key in plan.specs if key.startswith("train_gan"))

    class Beside(PretendEngine):
        refused = 0

        def next_event(self) -> Event:
            if self.running[0] != theirs:
                return super().next_event()
            self.refused += 1
            self.running.popleft()
            if not self.running and self.refused > 3:
                store.finish(theirs, {}, {"seconds": 0.0})
            return Event("locked", theirs)

    engine, listener = Beside(store), Listener()
    outcome = execute(plan, plan.cells, store, engine, listener)
    assert outcome.exit_status == 0
    assert theirs not in engine.order, "computed by the other run"
    assert set(engine.order) == plan.specs.keys() - {theirs}
    assert {key.rpartition("-")[0] for key in engine.order[-4:]} == {"synthesise", "score", "train_unet", "evaluate"}
    assert set(listener.cells.values()) == {"done"}


def test_nodes_of_another_kind_are_checked_too_and_compute_where_the_checks_agree(plan: Plan, tmp_path: Path) -> None:
    cells = [cell.cell for cell in plan.cells]
    other = replace(plan.node, machine={**plan.node.machine, "cpu": "another"})
    both = replace(plan.node, others=[other])

    def planned(found: dict[str, dict[str, object]]) -> Plan:
        return build_plan(plan.protocol, "smoke", plan.profile, cells, plan.source, both, {}, found)

    unknown = planned({})
    assert unknown.specs.keys() > plan.specs.keys(), "the same keys, and more checks"
    more = unknown.specs.keys() - plan.specs.keys()
    assert {unknown.resources[key].machine["cpu"] for key in more} == {"another"}
    assert len(more) == len(plan.checks)
    assert more <= {key for cell in first_stages(unknown, unknown.cells) for key in cell.stages.values()}
    training = next(key for key in plan.specs if key.startswith("train_gan"))
    (check,) = plan.specs[training].checks
    (same,) = unknown.same_check[check]
    right, wrong = {"remedy": None}, {"remedy": {"operations": {"convolution": "float32"}}}
    for theirs, nodes in (
        ({}, [both]),
        ({same: right}, [both, other]),
        ({same: wrong}, [both]),
        ({same: {"refused": "wrong"}}, [both]),
    ):
        assert planned({check: right, **theirs}).resources[training].checked == nodes
    assert unknown.resources[next(key for key in plan.specs if key.startswith("measure"))].machine == both.machine


def test_a_failed_stage_stops_only_what_needs_it(plan: Plan, tmp_path: Path) -> None:
    outcome, _, listener = run(plan, tmp_path, fail={"synthesise": "failed"})
    assert {listener.cells.pop(cell) for cell in ("real_s0", "threshold", "vesselness")} == {"done"}
    assert set(listener.cells.values()) == {"failed"}
    assert len(outcome.failed) == 4
    assert {key.rpartition("-")[0] for key in outcome.not_run} == {"score", "train_unet", "evaluate"}
    assert outcome.exit_status == 1


def test_a_failure_is_retried_by_the_next_run(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path, fail={"score": "failed"})
    outcome, engine, _ = run(plan, tmp_path)
    assert {key.rpartition("-")[0] for key in engine.order} == {"score"}
    assert outcome.exit_status == 0


def test_bad_input_found_by_a_stage_ends_with_status_two(plan: Plan, tmp_path: Path) -> None:
    outcome, _, _ = run(plan, tmp_path, fail={"prepare": "bad_input"})
    assert outcome.bad_input == ["prepare broke"]
    assert outcome.exit_status == 2


def test_only_the_chosen_cells_are_computed(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    write_run_folder(plan, store, tmp_path, "")
    real = [cell for cell in plan.cells if cell.cell.is_real]
    outcome = execute(plan, real, store, PretendEngine(store), Listener())
    assert {key.rpartition("-")[0] for key in outcome.computed} == {"prepare", "verify", "train_unet", "evaluate"}


def test_one_cell_alone_is_computed_with_the_checks_of_all_that_are_timed_beside_it(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    write_run_folder(plan, store, tmp_path, "")
    chosen = [cell for cell in plan.cells if cell.cell.label == "SN-MP"]
    outcome = execute(plan, chosen, store, PretendEngine(store), Listener())
    kinds = [key.rpartition("-")[0] for key in outcome.computed]
    assert (kinds.count("train_gan"), kinds.count("measure"), kinds.count("verify")) == (1, 1, 6)
    assert outcome.exit_status == 0


def test_a_run_that_could_never_end_is_an_error(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    write_run_folder(plan, store, tmp_path, "")
    idle = PretendEngine(store, workers=0)  # takes nothing
    with pytest.raises(RuntimeError, match="what they need is not in the plan"):
        execute(plan, plan.cells, store, idle, Listener())


def test_cells_share_what_is_equal(plan: Plan) -> None:
    kinds = [spec.stage for spec in plan.specs.values()]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts["prepare"] == counts["reference"] == counts["measure"] == 1
    assert counts["train_gan"] == counts["synthesise"] == counts["score"] == 4
    assert counts["train_unet"] == counts["evaluate"] == 5


def test_the_resolved_recipe_is_in_the_specs(plan: Plan, tmp_path: Path) -> None:
    """Every option stands in the spec of each stage that reads it, with its value; on files, D6 too."""
    source = replace(plan.source, listed_options={"files": {}})
    for name in ("corrected", "paper_code", "corrected+D6"):
        profile = plan.profile.model_copy(update={"recipe": name, "filters": 16})
        matrix = plan.protocol.matrix.model_copy(update={"variant": ["DP"], "seed": [0]})
        cells = cells_of(plan.protocol, profile.model_copy(update={"matrix": matrix}))
        built = build_plan(plan.protocol, "smoke", profile, cells, source, "cpu")
        options: dict[str, object] = {}
        for spec in built.specs.values():
            recipe = spec.options.get("recipe") or {}
            assert all(options.get(key, value) == value for key, value in recipe.items())
            options |= recipe
        assert options == as_dict(resolve_recipe(name))


def test_private_settings_replace_those_of_the_profile(plan: Plan) -> None:
    matrix = plan.protocol.matrix.model_copy(update={"variant": ["SN", "DP"], "seed": [0]})
    profile = plan.profile.model_copy(update={"matrix": matrix, "lr_critic": 1.0, "ema": 0.99, "max_bad_steps": 5})
    cells = cells_of(plan.protocol, profile)
    built = build_plan(plan.protocol, "smoke", profile, cells, plan.source, "cpu")
    plain, private = (spec.options["wgan"] for spec in built.specs.values() if spec.stage == "train_gan")
    patches = plan.source.training_patches(plan.profile)
    assert plain["privacy"] is None
    expected = {"noise_multiplier": 0.3, "clip_norm": 1.0, "weight_clip": 0.01, "delta": 1 / patches}
    assert private["privacy"] == expected
    assert (plain["lr_critic"], plain["critic_steps"]) == (1.0, 1)
    assert (private["lr_critic"], private["critic_steps"]) == (1e-4, 5)
    assert plain["ema"] == private["ema"] == 0.99
    assert {spec.options["unet"]["max_bad_steps"] for spec in built.specs.values() if "unet" in spec.options} == {5}


def test_the_dp_variant_without_opacus_is_refused_before_anything_runs(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = plan.protocol.matrix.model_copy(update={"variant": ["DP"]})
    cells = cells_of(plan.protocol, plan.profile.model_copy(update={"matrix": matrix}))
    monkeypatch.setattr("benchmark.plan.build.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs opacus .* pip install 'opacus>=1\.5\.4,<2'"):
        build_plan(plan.protocol, "smoke", plan.profile, cells, plan.source, "cpu")


def test_a_protocol_of_costs_plans_one_measurement_and_nothing_else() -> None:
    protocol = load_protocol(PAPER.with_name("precision.yaml"))
    profile = protocol.profiles["smoke"]
    source = choose_source("smoke", profile, None, scored=False)
    built = build_plan(protocol, "smoke", profile, cells_of(protocol, profile), source, "cpu")
    assert {spec.stage for spec in built.specs.values()} == {"verify", "measure"}
    (key,) = (key for key, spec in built.specs.items() if spec.stage == "measure")
    assert all(cell.stages["measure"] == key for cell in built.cells)
    assert len(built.specs[key].options["configurations"]) == len(built.cells) == 8


def test_the_deviations_are_switched_one_at_a_time_beside_both_recipes() -> None:
    protocol = load_protocol(PAPER.with_name("deviations.yaml"))
    for name, profile in protocol.profiles.items():
        cells = [cell for cell in cells_of(protocol, profile) if cell.has_generator and cell.seed == 0]
        recipes = {(cell.variant, cell.recipe_name) for cell in cells}
        alone = {("DP" if number == 14 else "SN-MP", f"corrected+D{number}") for number in range(1, 16)}
        both = {(variant, recipe) for variant in ("SN-MP", "DP") for recipe in ("corrected", "paper_code")}
        assert recipes == alone | both, name


def test_a_deviation_changes_only_the_stages_that_read_it(plan: Plan, tmp_path: Path) -> None:
    def keys(recipe: dict[str, object]) -> dict[str, str]:
        profile = plan.profile.model_copy(update={"recipe": {"base": "corrected", **recipe}})
        cells = cells_of(plan.protocol, profile)
        source = choose_source("smoke", profile, None)
        built = build_plan(plan.protocol, "smoke", profile, cells, source, "cpu")
        return dict(next(cell for cell in built.cells if cell.cell.label == "SN").stages)

    def changed(recipe: dict[str, object]) -> set[str]:
        before, after = keys({}), keys(recipe)
        return {role for role in before if before[role] != after[role]}

    everything_behind = {"pairs", "score", "unet", "evaluate"}
    assert changed({"penalty_norm": "batch"}) == {"gan", "measure", *everything_behind}
    assert changed({"drop_last": False}) == {"gan", *everything_behind}
    assert changed({"resume_state": "nets_only"}) == {"gan", *everything_behind}
    assert changed({"label_metrics": "none"}) == {"score"}
    assert changed({"pairing": "listing_order"}) == set()  # the phantom has no files
    assert changed({"dp_updates": "two"}) == set()  # nor SN privacy
    assert changed({"generation_statistics": "batch"}) == everything_behind
    assert changed({"prd_arguments": "swapped"}) == {"score"}
    assert changed({"reference": "train"}) == {"reference", "score"}
    assert changed({"intensity_scaling": "patch"}) == {"gan", "reference", *everything_behind}
