"""The house as ARCHITECTURE.md draws it: which rooms there are, and who may import whom."""

import ast
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

# From the roof to the ground. `vesselgan` alone is its `__init__`, and so is `benchmark` alone, which has the version.
FLOORS = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("```floors\n")[2].partition("```")[0]

Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    paths = (path for package in ("benchmark", "vesselgan") for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(source: str, known: Collection[str | None]) -> Iterator[str]:
    """The modules among `known` that a file imports, wherever in it: also inside of functions, and for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "an import that does not say where from"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                name = whole if whole in known else node.module
                if name in known:
                    yield name


def import_graph() -> dict[str, set[str]]:
    """Each module, and those that it imports."""
    known = modules()
    return {name: set(imported(path.read_text(encoding="utf-8"), known)) for name, path in known.items()}


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def between_rooms(graph: Graph) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, others in graph.items():
        rooms[room(name)] |= {room(other) for other in others} - {room(name)}
    return rooms


def floors() -> dict[str, int]:
    """Each room's floor, counted from the ground."""
    lines = [line.split() for line in FLOORS.splitlines()]
    return {name: floor for floor, line in enumerate(reversed(lines)) for name in line}


def upward(rooms: Graph, floor: Mapping[str, int]) -> list[str]:
    return [
        f"{name} -> {other}"
        for name, others in sorted(rooms.items())
        for other in sorted(others)
        if floor[other] >= floor[name]
    ]


def test_every_room_has_a_floor_and_no_floor_a_room_that_is_not_there() -> None:
    assert sorted(FLOORS.split()) == sorted(between_rooms(import_graph()))


def test_a_room_imports_rooms_below_it_only() -> None:
    assert upward(between_rooms(import_graph()), floors()) == []


def test_an_arrow_upwards_or_along_a_floor_would_be_seen() -> None:
    floor = {"benchmark.plan": 1, "benchmark.report": 1, "benchmark.claims": 0}
    rooms = {
        "benchmark.plan": {"benchmark.claims", "benchmark.report"},
        "benchmark.report": set(),
        "benchmark.claims": {"benchmark.plan"},
    }
    assert upward(rooms, floor) == ["benchmark.claims -> benchmark.plan", "benchmark.plan -> benchmark.report"]


def test_imports_are_seen_wherever_they_stand() -> None:
    source = """
        from benchmark.results import summary
        from benchmark.plan import build_plan
        import benchmark.words
        def late():
            from benchmark.run.engine import Engine
    """
    known = {
        "benchmark.results",
        "benchmark.results.summary",
        "benchmark.plan",
        "benchmark.words",
        "benchmark.run.engine",
    }
    assert set(imported("if True:" + source, known)) == known - {"benchmark.results"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_library_never_imports_the_harness() -> None:
    for name, others in import_graph().items():
        if name.startswith("vesselgan"):
            assert not [other for other in others if other.startswith("benchmark")], name


def test_benchmark_is_rooms_and_no_pile_of_modules() -> None:
    """What stands beside the rooms is the way in, and what every room needs. Whatever is new belongs to a room."""
    beside = {path.stem for path in (ROOT / "benchmark").glob("*.py")}
    assert beside == {"__init__", "__main__", "cli", "environment", "words"}


MOST_PARAMETERS = 8
# `ctx` is to the functions of an autograd operation what `self` is to a method.
OWNERS = ("self", "cls", "ctx")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    return sum(argument.arg not in OWNERS for argument in every)


def functions_with_many_parameters(source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and parameters(node) > MOST_PARAMETERS
    ]


def test_a_function_takes_at_most_eight_parameters() -> None:
    """Beyond that they are settings, and travel as one object: a command's options, too."""
    found = {
        f"{name}.{function}"
        for name, path in modules().items()
        for function in functions_with_many_parameters(path.read_text(encoding="utf-8"))
    }
    assert not found


def test_parameters_of_every_kind_are_counted() -> None:
    many = "def eight(self, a, /, b, c, *, d, e, f, g, h): ...\ndef nine(a, b, c, d, e, f, g, *more, **options): ..."
    assert functions_with_many_parameters(many) == ["nine"]
