"""The stages of a generator that is no WGAN: trained, resumed, kept, sampled, checked and timed as the others are."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.artifacts.generators import (
    load_generator,
    numerics_config,
    numerics_options,
    step_config,
    step_options,
    trained_config,
    training_options,
)
from benchmark.artifacts.store import KEPT_ON_RETRY
from benchmark.stages import STAGES, Context
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES
from vesselgan.recipe import CORRECTED, PAPER_CODE
from vesselgan.training import loop

SPLIT = {"train": ["phantom-000", "phantom-001"], "validation": ["phantom-002"], "test": ["phantom-003"]}
SETTINGS = {"patch_size": [32, 32, 16], "steps": 20, "filters": 8, "batch": 6, "precision": "bf16", "seed": 3}
FAMILY = FAMILIES["autoregressive"]
OPTIONS = training_options(FAMILY, SETTINGS, CORRECTED)


def run(folder: Path, stage: str, options: dict[str, Any], inputs: dict[str, Path], progress: Any = None) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    quiet = progress or (lambda done, total, what: None)
    values = STAGES[stage].run(Context(options, inputs, {"device": "cpu", "threads": 1}, {}, folder, quiet))
    return json.loads(json.dumps(values, allow_nan=False))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("prepare")
    options = {
        "source": {"phantom": {"shape": [48, 48, 32], "spacing_mm": None, "seed": 0, "subjects": 4}},
        "split": SPLIT,
        "patch": [32, 32, 16],
        "patches": {"grid": [1, 1, 2], "vessel": 6},
        "seed": 0,
        "recipe": {},
    }
    run(folder, "prepare", options, {})
    return {"data": folder}


@pytest.fixture(scope="module")
def trained(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    values = run(folder, "train_gan", OPTIONS, data)
    assert (values["steps"], values["pairs_seen"]) == (20, 120)
    assert values["native_precision"] in (True, False)
    assert values["steps_rejected"] == {"not finite": 0, "absurd": 0, "loss scale": 0}
    assert values["mean_of_last_tenth"].keys() == {f"nll/{level}" for level in range(5)}
    return folder


def test_its_readings_are_in_the_record_of_steps(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20))
    readings = {*(f"nll/{level}" for level in range(5)), "gradient_norm", "loss_scale", "outcome", "step"}
    assert all(line.keys() == readings and None not in line.values() for line in lines)
    with np.load(trained / "course.npz") as course:
        assert course["steps"].tolist() == list(range(1, 21))
        assert course["images"].shape == course["labels"].shape == (20, 2, 32, 32)


def test_seven_steps_and_thirteen_after_a_kill_equal_twenty_to_the_bit(
    data: dict[str, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def killed(done: int, total: int, what: str) -> None:
        if done == 8:
            raise KilledError

    def seconds() -> Iterator[float]:
        yield from (31.0 * tick for tick in range(1000))

    ticks = seconds()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))  # a checkpoint after every step
    monkeypatch.setattr("benchmark.stages.train_gan.throttled", lambda progress: progress)
    with pytest.raises(KilledError):
        run(tmp_path, "train_gan", OPTIONS, data, killed)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint.pt", "checkpoint.previous.pt", "steps.jsonl", "course.npz"} <= KEPT_ON_RETRY
    seen: list[int] = []
    run(tmp_path, "train_gan", OPTIONS, data, lambda done, total, what: seen.append(done))
    assert seen[0] == 8, "seven were done"
    for name in ("generator.safetensors", "generator.json", "steps.jsonl", "course.npz"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


@pytest.mark.parametrize("name", ["autoregressive", "wgan"])
def test_a_generator_that_is_kept_on_its_way_is_that_of_the_shorter_training(
    data: dict[str, Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the learning rate does not depend on the end; and the training goes on as if nothing had been kept."""
    monkeypatch.setattr("vesselgan.settings.AutoregressiveConfig.decay", lambda config, step: 1.0)
    family = FAMILIES[name]
    settings = SETTINGS | {"steps": 8} | ({"norm": "spectral", "privacy": None} if name == "wgan" else {})
    options = {steps: training_options(family, {**settings, "steps": steps}, CORRECTED) for steps in (4, 8)}
    values = run(tmp_path / "kept", "train_gan", {**options[8], "kept": [0.5]}, data)
    assert values["kept"] == {"0.5": 4}
    assert values["step_flops"] > 0
    for folder, steps in (("kept", 8), ("kept/at/0.5", 4)):
        alone = run(tmp_path / f"alone{steps}", "train_gan", options[steps], data)
        assert "kept" not in alone
        kept, single = (tmp_path / place / "generator.safetensors" for place in (folder, f"alone{steps}"))
        assert kept.read_bytes() == single.read_bytes()
    made = {"pairs": 5, "seed": 0, "batch": 4, "recipe": {}}
    run(tmp_path / "pairs", "synthesise", {**made, "at": 0.5}, {"gan": tmp_path / "kept"})
    run(tmp_path / "same", "synthesise", made, {"gan": tmp_path / "alone4"})
    assert (tmp_path / "pairs/images.npy").read_bytes() == (tmp_path / "same/images.npy").read_bytes()


def test_a_family_that_keeps_nothing_on_its_way_is_told(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vesselgan.families.Task.keep", lambda steps_done, sampler: None)
    monkeypatch.setattr("benchmark.stages.train_gan.save_generator", lambda folder, family, sampler: None)
    with pytest.raises(RuntimeError, match=r"no generator was kept after 0\.5 of the training"):
        run(tmp_path, "train_gan", {**OPTIONS, "kept": [0.5]}, data)


def test_pairs_are_made_by_the_family_that_the_files_name(trained: Path, tmp_path: Path) -> None:
    options = {"pairs": 5, "seed": 0, "batch": 4, "recipe": {}}
    run(tmp_path, "synthesise", options, {"gan": trained})
    family, sampler = load_generator(trained, CORRECTED, "cpu")
    assert family is FAMILY
    labels = np.concatenate([pairs.labels for pairs in sampler.sample(5, seed=0, batch=4)])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels)


def test_a_kind_that_is_not_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "generator.json").write_text('{"kind": "autoregresive"}')
    with pytest.raises(InputError, match="unknown kind of generator 'autoregresive', did you mean 'autoregressive'"):
        load_generator(tmp_path, CORRECTED, "cpu")


def test_an_update_of_garbage_is_rejected_and_counted(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = FAMILY.train.__globals__["real_batches"]

    def spoiled(*arguments: Any) -> Any:
        batch = make(*arguments)

        def with_garbage(step: int) -> tuple[torch.Tensor, torch.Tensor]:
            pairs, places = batch(step)
            return (pairs * float("nan") if step == 4 else pairs), places

        return with_garbage

    monkeypatch.setitem(FAMILY.train.__globals__, "real_batches", spoiled)
    values = run(tmp_path, "train_gan", OPTIONS, data)
    assert values["steps_rejected"] == {"not finite": 1, "absurd": 0, "loss scale": 0}


def test_its_step_is_timed_and_counted_beside_that_of_a_wgan(tmp_path: Path) -> None:
    pace = {"critic_steps": 1, "lr_generator": 2e-4, "lr_critic": 4e-4}
    sn = {"precision": "fp32", "filters": 16, "batch": 2, "recipe": {}, "privacy": None, "ema": None, **pace}
    options = {
        "configurations": {"SN": {**sn, "norm": "spectral"}, "AR": step_options(FAMILY, SETTINGS, CORRECTED)},
        "patch": [32, 32, 16],
        "penalty_weight": 10.0,
        "rounds": 3,
        "steps": 1,
        "warmup": 1,
    }
    measured = run(tmp_path, "measure", options, {})["configurations"]
    for costs in measured.values():
        assert len(costs["step_time_ms"]) == costs["steps_timed"] == 3
        assert costs["peak_memory_mib"] > 0
    assert measured["AR"]["peak_memory_mib"] != measured["SN"]["peak_memory_mib"]


def test_its_operations_are_checked(tmp_path: Path) -> None:
    options = numerics_options(FAMILY, SETTINGS, CORRECTED, 8)
    values = run(tmp_path, "verify", options, {})
    assert (values["network"], values["precision"]) == ("autoregressive", "bf16")
    rows = json.loads((tmp_path / "operations.json").read_text())
    assert values["operations"] == len(rows) > 50
    assert {row["format"] for row in rows} == {"bf16", "fp32"}


def test_what_changes_no_shape_is_in_no_key_of_a_check() -> None:
    other = {**SETTINGS, "seed": 4, "steps": 90, "lr": 1e-3, "anywhere": 0.5, "flips": []}
    assert numerics_options(FAMILY, SETTINGS, PAPER_CODE, 8) == numerics_options(FAMILY, other, CORRECTED, 8)
    wider = {**SETTINGS, "filters": 16}
    assert numerics_options(FAMILY, SETTINGS, CORRECTED, 8) != numerics_options(FAMILY, wider, CORRECTED, 8)


def test_only_the_deviations_that_it_reads_are_in_its_keys() -> None:
    assert OPTIONS["recipe"] == {"intensity_scaling": "volume"}
    assert training_options(FAMILY, SETTINGS, PAPER_CODE)["recipe"] == {"intensity_scaling": "patch"}


@pytest.mark.parametrize(
    "privacy", [None, {"noise_multiplier": 1.0, "clip_norm": 1.0, "weight_clip": 0.1, "delta": 0.1}]
)
def test_a_wgans_settings_come_back_from_all_three_of_its_specifications(privacy: dict[str, float] | None) -> None:
    """In the form that runs of earlier versions have."""
    wgan = {
        **{"patch_size": [32, 32, 16], "filters": 16, "norm": "none", "precision": "bf16", "batch": 5, "seed": 2},
        **{"steps": None, "epochs": 3, "flips": ["x"], "penalty_weight": 5.0, "ema": 0.9, "max_bad_steps": 7},
        **{"privacy": privacy, "critic_steps": 2, "lr_generator": 1e-4, "lr_critic": 2e-4},
    }
    family = FAMILIES["wgan"]
    spec = training_options(family, wgan, PAPER_CODE)
    assert spec["wgan"] == wgan
    assert ("dp_updates" in spec["recipe"]) == (privacy is not None)
    found, config, recipe = trained_config(json.loads(json.dumps(spec)), patches=16)
    assert found is family
    # A private epoch has whole batches on average; the paper's ends with a short one (D13).
    assert config.steps == 3 * (3 if privacy else 4)
    assert (config.flips, config.penalty_weight, config.max_bad_steps, config.seed) == (("x",), 5.0, 7, 2)
    assert config.recipe == recipe
    assert recipe.penalty_norm == "batch"
    common = {"patch": wgan["patch_size"], "penalty_weight": 5.0}
    _, step = step_config(step_options(family, wgan, PAPER_CODE), common)
    assert (step.norm, step.lr_critic, step.penalty_weight, step.ema) == ("none", 2e-4, 5.0, 0.9)
    assert (step.privacy is None) == (privacy is None)
    checked = numerics_options(family, wgan, PAPER_CODE, 8)
    assert checked.keys() == {
        *("network", "patch", "filters", "norm", "precision", "batch", "synthesis_batch", "private", "recipe")
    }
    _, shapes = numerics_config(checked)
    assert (shapes.filters, shapes.batch, shapes.recipe.interpolate) == (16, 5, "attached")
    assert (shapes.privacy is None) == (privacy is None)
