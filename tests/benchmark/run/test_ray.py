"""The Ray engine on a cluster of this machine alone; `test_ray_cluster.py` has several nodes."""

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from small_protocol import PROTOCOL, made, metrics

from benchmark.run.engine import HERE, Site
from benchmark.run.engines import engine_of
from benchmark.run.engines.ray import RayEngine
from vesselgan.errors import InputError


def run(folder: Path, engine: str, *more: str) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(PROTOCOL)
    command = [sys.executable, "-m", "benchmark", "run", "small.yaml", "--device", "cpu", "--engine", engine, *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_a_run_on_ray_gives_the_same_bytes_and_the_same_results(tmp_path: Path) -> None:
    for engine in ("local", "ray"):
        done = run(tmp_path / engine, engine)
        assert (done.returncode, done.stderr) == (0, "")
        assert "done SN_f16_s0: FID" in done.stdout
    assert made(tmp_path / "ray") == made(tmp_path / "local")
    assert metrics(tmp_path / "ray") == metrics(tmp_path / "local")
    assert list((tmp_path / "ray/runs/leases").iterdir()) == []


def test_ray_is_not_needed_until_it_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None; import benchmark.run.engines as engines\n"
        "from benchmark.run.engine import HERE\n"
        "from vesselgan.errors import InputError\n"
        "assert 'ray' in engines.engine_names()\n"
        "try: engines.engine_of('ray').node('cpu')\n"
        "except InputError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.stdout == "--engine ray needs Ray: pip install 'ray[client]>=2.40,<3' (the extra [cluster])\n", (
        told.stderr
    )


def test_options_that_an_engine_does_not_know_are_refused() -> None:
    engine_of("local").check(Site(gpus=2), "local")
    engine_of("ray").check(Site(address="auto", map=(("/a", "/b"),)), "ray")
    with pytest.raises(InputError, match="--address: --engine local has no such option; leave it out"):
        engine_of("local").check(Site(address="auto"), "local")
    with pytest.raises(InputError, match="--device cuda:1: Ray gives each stage a GPU of its own; use --device cuda"):
        RayEngine.node("cuda:1", HERE)
