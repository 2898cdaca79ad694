"""A training in two processes that torchrun started, over gloo: what it computes, and what is refused."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from data_parallel_step import SIZE, gradients
from paths import HELPERS

from vesselgan.errors import InputError
from vesselgan.recipe import resolve_recipe
from vesselgan.settings import Privacy, WGANConfig
from vesselgan.training.data_parallel import DataParallelTrainer, refuse_unfit

CONFIG = WGANConfig(patch_size=SIZE, steps=9, seed=3, filters=16, batch=4)


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
    print(worst(both[0], alone, "critic"), worst(both[0], alone, "generator"))
    assert worst(both[0], alone, "critic") < 1e-6
    assert worst(both[0], alone, "generator") < 1e-6


@pytest.mark.slow
def test_batch_norms_over_each_process_s_samples_are_another_training(tmp_path: Path) -> None:
    alone, both = gradients("spectral", "float64", None), in_two_processes(tmp_path, "spectral", "float64", "local")
    assert worst(both[0], alone, "generator") > 0.01
    assert worst(both[1], both[0], "generator") < 1e-12, "but both processes take the same step"
    assert worst(both[1], both[0], "buffer") > 0.001


def test_a_static_graph_is_refused_since_its_gradients_are_wrong_without_an_error(tmp_path: Path) -> None:
    alone, both = gradients("spectral", "float64", None), in_two_processes(tmp_path, "spectral", "float64", "static")
    assert worst(both[0], alone, "critic") > 0.01
    print(worst(both[0], alone, "critic"), worst(both[1], both[0], "critic"))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match="static_graph: gradients of a penalised critic would not be summed up"):
            DataParallelTrainer(CONFIG, "cpu", batch_norm="sync", static_graph=True)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("config", "told"),
    [
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
        refuse_unfit(config, 2)
    refuse_unfit(CONFIG, 2)
