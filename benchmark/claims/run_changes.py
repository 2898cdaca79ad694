"""What is not the same in two runs: options, environment, data, and what the numerics checks found. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.artifacts.store import canonical_json
from benchmark.results.earlier import EarlierCell, EarlierCheck, EarlierResults

__all__ = ["Change", "changes_of"]

Group = Literal["options", "environment", "data", "kernels"]
AXES = ("norm", "precision", "filters", "batch", "recipe_options")
# Options that are words, or about the cells, which are compared one by one.
NOT_COMPARED = ("about", "matrix", "arms", "baselines")


@dataclass(frozen=True)
class Change:
    """Something that is not the same on both sides; None is "not there"."""

    group: Group
    name: str
    first: object
    second: object


def changes_of(
    first: EarlierResults, second: EarlierResults, pairs: Sequence[tuple[EarlierCell, EarlierCell]]
) -> Iterator[Change]:
    """Cells come in pairs of one label and seed."""
    both = (first, second)
    yield from _changed("options", *({"protocol": side["protocol"], "profile": side["profile"]} for side in both))
    yield from _changed("options", *(_without(side["settings"], NOT_COMPARED) for side in both))
    for one, two in pairs:
        for change in _changed("options", *({axis: cell.get(axis) for axis in AXES} for cell in (one, two))):
            yield Change("options", f"{two['id']}: {change.name}", change.first, change.second)
    yield from _changed("environment", *(_without(side["environment"], ("numerics",)) for side in both))
    yield from _changed("kernels", *(_kernels(side["environment"].get("numerics")) for side in both))
    known = [name for name in first["data"] if name in second["data"] and name != "mispaired"]
    yield from _changed("data", *({name: side["data"][name] for name in known} for side in both))
    if "split" in first and "split" in second:
        yield from _changed("data", {"split": first["split"]}, {"split": second["split"]})


def _changed(group: Group, first: Mapping[str, object], second: Mapping[str, object]) -> Iterator[Change]:
    """The leaves of two trees that differ. What only one of them knows is told where it says something."""
    leaves = [dict(_leaves(tree)) for tree in (first, second)]
    for name in {**leaves[0], **leaves[1]}:
        one, two = leaves[0].get(name), leaves[1].get(name)
        says_nothing = (name in leaves[0]) != (name in leaves[1]) and not (one or two)
        if canonical_json(one) != canonical_json(two) and not says_nothing:
            yield Change(group, name, one, two)


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _kernels(checks: Sequence[EarlierCheck] | None) -> dict[str, object]:
    """What the numerics checks found wrong, by network and format; nothing of a run that made none."""
    found: dict[str, dict[str, str]] = {}
    for check in checks or []:
        faults = {fault["operation"]: fault["way"] for fault in check.get("faults", [])}
        found.setdefault(f"{check['network']} in {check['precision']}", {}).update(faults)
    return {name: faults or "all right" for name, faults in found.items()}


def _without(tree: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: value for name, value in tree.items() if name not in names}
