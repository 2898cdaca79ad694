"""Which node takes a stage: what must be alone, what is about one machine, which card is large enough."""

from dataclasses import replace

import pytest

from benchmark.environment import Machine, Node
from benchmark.plan import Resources
from benchmark.run.placement import Place, Placement
from vesselgan.errors import InputError


def node(gpu_gib: float | None = None, cpu: str = "a processor", memory_gib: float = 64.0) -> Node:
    machine: Machine = {"cpu": cpu, "cores": 8, "memory_gib": memory_gib, "system": "Linux x86_64"}
    if gpu_gib is not None:
        machine |= {"gpu": f"a card of {gpu_gib} GiB", "gpu_memory_gib": gpu_gib}
    return Node("cpu" if gpu_gib is None else "cuda", "2.13", machine, {"PyTorch": "2.13.0"}, ["AVX2"])


def cluster(*places: Place) -> Placement:
    return Placement(places)


def put(placement: Placement, key: str, resources: Resources) -> str | None:
    place = placement.room(resources)
    if place is None:
        return None
    placement.put(key, resources, place)
    return place.id


def test_stages_spread_over_nodes_until_their_cpus_are_taken() -> None:
    placement = cluster(Place("a", "a", node(), 4), Place("b", "b", node(), 4))
    two = Resources(cpus=2)
    assert [put(placement, str(index), two) for index in range(5)] == ["a", "b", "a", "b", None]
    placement.ended("1")
    assert put(placement, "5", two) == "b"


def test_what_must_be_alone_has_its_node_for_itself_and_not_the_cluster() -> None:
    placement = cluster(Place("a", "a", node(), 4), Place("b", "b", node(), 4))
    alone, beside = Resources(cpus=2, exclusive=True), Resources(cpus=1)
    assert put(placement, "beside", beside) == "a"
    assert put(placement, "alone", alone) == "b"
    assert put(placement, "alone too", alone) is None
    assert [put(placement, str(index), beside) for index in range(4)] == ["a", "a", "a", None]
    assert placement.place_of("alone").cpus_for(alone) == 4, "all of them, so that other drivers keep away as well"


def test_a_node_takes_a_stage_of_more_threads_than_it_has_cpus() -> None:
    assert put(cluster(Place("a", "a", node(), 2)), "wide", Resources(cpus=8)) == "a"


def test_what_is_about_a_machine_goes_to_such_a_machine() -> None:
    first, second = node(), node(cpu="another")
    placement = cluster(Place("a", "a", first, 4), Place("b", "b", second, 4))
    assert put(placement, "measure", Resources(machine=second.machine, exclusive=True)) == "b"
    with pytest.raises(InputError, match=r"needs a machine with yet another and 8 cores; there is a processor, 4 CPUs"):
        placement.room(Resources(machine={**second.machine, "cpu": "yet another"}))


def test_checked_kernels_are_right_on_like_nodes_whose_memory_differs_a_little() -> None:
    here = node(memory_gib=64.0)
    placement = cluster(Place("a", "a", node(cpu="another"), 4), Place("b", "b", node(memory_gib=63.9), 4))
    assert put(placement, "train", Resources(checked=[here])) == "b"
    assert put(placement, "train too", Resources(checked=[here, node(cpu="another")])) == "a"
    assert not here.like(replace(here, instructions=["AVX512"]))


def test_a_cell_goes_to_the_smallest_card_that_it_fits_and_one_stage_has_a_card() -> None:
    placement = cluster(Place("small", "s", node(16.0), 8, 1), Place("large", "l", node(80.0), 8, 2))
    small, large = Resources(gpus=1, memory_mib=8 * 1024), Resources(gpus=1, memory_mib=40 * 1024)
    assert put(placement, "1", large) == "large"
    assert put(placement, "2", small) == "small"
    assert put(placement, "3", small) == "large", "the small card is taken"
    assert put(placement, "4", small) is None
    with pytest.raises(InputError, match=r"needs a GPU and 97\.7 GiB of memory; there is .*80\.0 GiB"):
        placement.room(Resources(gpus=1, memory_mib=100_000))


def test_memory_of_a_node_without_cards_is_shared_by_what_runs_there() -> None:
    placement = cluster(Place("a", "a", node(memory_gib=10.0), 8))
    four = Resources(memory_mib=4 * 1024)
    assert [put(placement, str(index), four) for index in range(3)] == ["a", "a", None]


def test_a_node_that_went_takes_nothing_and_one_that_failed_a_stage_gets_it_last() -> None:
    placement = cluster(Place("a", "a", node(), 4), Place("b", "b", node(), 4))
    assert placement.room(Resources(), frozenset({"a"})) is placement.places["b"]
    placement.lose("b")
    assert placement.room(Resources(), frozenset({"a"})) is placement.places["a"]
    placement.lose("a")
    with pytest.raises(InputError, match="none is left"):
        placement.room(Resources())
    placement.add(Place("c", "c", node(), 4))
    assert put(placement, "1", Resources()) == "c"
