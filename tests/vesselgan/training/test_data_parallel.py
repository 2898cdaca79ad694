"""A training in two processes that torchrun started, over gloo: what it computes, and what is refused."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from data_parallel_step import SIZE, gradients
from paths import HELPERS

from vesselgan.data import VolumeStore, open_store, phantom_subjects, write_store
from vesselgan.errors import InputError
from vesselgan.families import WGAN, Task
from vesselgan.recipe import resolve_recipe
from vesselgan.settings import Privacy, WGANConfig
from vesselgan.training.data_parallel import DataParallelTrainer

CONFIG = WGANConfig(patch_size=SIZE, steps=9, seed=3, filters=16, batch=4, processes=2, batch_norm="sync")


def in_two_processes(folder: Path, *options: str) -> list[dict[str, torch.Tensor]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(HELPERS / "data_parallel_step.py"), str(folder), *options]
    done = subprocess.run([*command, *script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def worst(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], kind: str) -> float:
    """The largest difference of any entry, over the largest magnitude of all: biases before a batch norm have none."""
    assert one.keys() == other.keys()
    names = [name for name in other if name.startswith(kind)]
    largest = max(float(other[name].abs().max()) for name in names)
    return max(float((one[name] - other[name]).abs().max()) for name in names) / largest


@pytest.mark.parametrize("norm", ["spectral", pytest.param("instance", marks=pytest.mark.slow)])
def test_gradients_are_those_of_a_single_process(norm: str, tmp_path: Path) -> None:
    """With gradient penalty, after two whole steps; in double precision, so that nothing hides in rounding."""
    alone, both = gradients(norm, "float64", None), in_two_processes(tmp_path, norm, "float64", "sync")
    for kind in ("critic", "generator", "buffer", "reading"):
        assert worst(both[0], alone, kind) < (1e-9 if kind != "reading" else 1e-6), kind
        assert worst(both[1], both[0], kind) < 1e-12, kind


@pytest.mark.slow
def test_gradients_are_those_of_a_single_process_in_single_precision(tmp_path: Path) -> None:
    alone, both = gradients("spectral", "float32", None), in_two_processes(tmp_path, "spectral", "float32", "sync")
    apart = {kind: worst(both[0], alone, kind) for kind in ("critic", "generator")}
    assert apart["critic"] < 1e-6, apart
    assert apart["generator"] < 1e-5, apart  # whose last layers one process computes as one operation


@pytest.mark.slow
def test_batch_norms_over_each_process_s_samples_are_another_training(tmp_path: Path) -> None:
    alone, both = gradients("spectral", "float64", None), in_two_processes(tmp_path, "spectral", "float64", "local")
    assert worst(both[0], alone, "generator") > 0.01
    assert worst(both[1], both[0], "generator") < 1e-12, "but both processes take the same step"
    assert worst(both[1], both[0], "buffer") > 0.001


@pytest.mark.slow
def test_with_a_static_graph_gradients_are_wrong_without_an_error(tmp_path: Path) -> None:
    """They are those of each process's own samples, or worse: which is why it is refused."""
    alone, both = gradients("spectral", "float64", None), in_two_processes(tmp_path, "spectral", "float64", "static")
    assert worst(both[0], alone, "critic") > 0.1
    assert worst(both[1], both[0], "critic") > 0.1


def test_a_static_graph_is_refused_and_so_is_a_group_of_another_size(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match="static_graph: gradients of a penalised critic would not be summed up"):
            DataParallelTrainer(replace(CONFIG, processes=1, batch_norm=None), "cpu", static_graph=True)
        with pytest.raises(InputError, match="processes 2: the group has 1"):
            DataParallelTrainer(CONFIG, "cpu")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (replace(CONFIG, batch_norm=None), "processes 2: say batch_norm: sync "),
        (replace(CONFIG, processes=1), "batch_norm sync: is a choice of several processes; leave it out"),
        (replace(CONFIG, batch=3), "batch 3 in 2 processes: give a multiple of 2"),
        (replace(CONFIG, norm="none", privacy=Privacy()), "privacy does not fit a training in 2 processes"),
        (replace(CONFIG, plain=True), "the paper's own step does not fit"),
        (replace(CONFIG, recipe=resolve_recipe("corrected", {"penalty_norm": "batch"})), "penalty_norm batch does not"),
        (replace(CONFIG, recipe=resolve_recipe("corrected", {"interpolate": "attached"})), "interpolate attached does"),
        (replace(CONFIG, recipe=resolve_recipe("corrected", {"drop_last": False})), "drop_last off does not fit"),
    ],
)
def test_what_several_processes_would_compute_otherwise_is_refused(config: WGANConfig, told: str) -> None:
    with pytest.raises(InputError, match=told):
        config.check()
    CONFIG.check()


@pytest.mark.slow
def test_a_training_in_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Of the whole family, with the loop, the store and the other process that it starts."""
    subjects = list(phantom_subjects(4, (48, 48, 32), seed=1))
    splits = {"train": [subject.key for subject in subjects[:3]], "validation": [subjects[3].key]}
    options = {"patch_size": SIZE, "grid": None, "vessel": 6, "rng": np.random.default_rng(0)}
    write_store(tmp_path / "store", subjects, splits=splits, **options)
    store = open_store(tmp_path / "store")
    alone = trained(store, replace(CONFIG, processes=1, batch_norm=None), tmp_path / "alone.pt")
    both = trained(store, CONFIG, tmp_path / "both.pt")
    assert both.steps == alone.steps == list(range(9))
    # Adam begins with the signs of gradients, also of those that are rounding; so weights part a little.
    assert worst(both.weights, alone.weights, "") < 2e-3


class Training(NamedTuple):
    weights: dict[str, torch.Tensor]
    steps: list[int]


def trained(store: VolumeStore, config: WGANConfig, checkpoint: Path) -> Training:
    steps: list[int] = []

    def on_step(step: int, values: Mapping[str, float]) -> None:
        steps.append(step)

    task = Task(store, config.recipe, "cpu", checkpoint=checkpoint, on_step=on_step, observe=lambda step, pairs: None)
    sampler = WGAN().train(config, task).sampler
    weights = {name: each for name, each in sampler.network.state_dict().items() if "tracked" not in name}
    return Training(weights, steps)
