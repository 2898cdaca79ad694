"""What the Ray engine says before it runs anything."""

import subprocess
import sys
from dataclasses import asdict

import pytest
from paths import ROOT

from benchmark.environment import Machine, Node
from benchmark.run.engine import HERE, Site
from benchmark.run.engines import engine_of
from benchmark.run.engines.ray import RayEngine
from benchmark.run.placement import Place
from benchmark.run.ray_cluster import most_frequent, place_of
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


def node(cpu: str, gib: float = 64.0, gpu: str | None = None) -> Node:
    machine: Machine = {"cpu": cpu, "cores": 8, "memory_gib": gib, "system": "Linux x86_64"}
    if gpu is not None:
        machine |= {"gpu": gpu, "gpu_memory_gib": 80.0}
    return Node("cpu" if gpu is None else "cuda", "2.13", machine, {"PyTorch": "2.13.0"}, ["AVX2"])


def test_a_plan_is_for_the_kind_of_node_that_there_is_most_of() -> None:
    """Nodes that differ by a little memory are of one kind; one GPU counts more than any number of CPUs."""
    places = [
        Place("1", "1", node("X"), 8),
        Place("2", "2", node("Y"), 8),
        Place("3", "3", node("Y", gib=63.8), 8),
    ]
    first = most_frequent(places)
    assert (first.machine["cpu"], [other.machine["cpu"] for other in first.others]) == ("Y", ["X"])
    cards = [Place("1", "1", node("X", gpu="A"), 256, 1), Place("2", "2", node("X", gpu="B"), 8, 2)]
    assert most_frequent(cards).machine["gpu"] == "B"
    assert most_frequent(places[:1]).others == []


def test_what_nodes_tell_of_themselves_becomes_places() -> None:
    facts = asdict(node("X", gpu="A"))
    told = {"NodeID": "abcdef123", "NodeManagerHostname": "host", "Resources": {"CPU": 8.0, "GPU": 4.0}}
    place = place_of(told, facts)
    assert (place.id, place.name, place.cpus, place.gpus) == ("abcdef123", "host/abcdef", 8, 4)
    assert place.node == node("X", gpu="A")
    assert place_of(told, asdict(node("X"))).gpus == 0, "its PyTorch does not use them"
