"""What the Ray engine says before it runs anything."""

import subprocess
import sys

import pytest
from paths import ROOT

from benchmark.run.engine import HERE, Site
from benchmark.run.engines import engine_of
from benchmark.run.engines.ray import RayEngine
from vesselgan.errors import InputError


def test_ray_is_not_needed_until_it_is_asked_for() -> None:
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
