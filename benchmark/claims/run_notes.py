"""What to know of two runs before their differences are read: formats, data, machines, conditions. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.claims.run_changes import Change
from benchmark.results.earlier import EarlierResults
from benchmark.words import plural

__all__ = ["LEVEL", "notes_of"]

LEVEL = 0.05
# Of which the last digits of a training are others, with their names in a sentence.
CONDITIONS = {
    "threads": "threads",
    "deterministic": "deterministic",
    "machine.cpu": "processor",
    "machine.gpu": "GPU",
    "device": "device",
    "instructions": "instructions",
    "python": "Python",
}
COMPUTES_NOTHING = "versions.mlflow"


def notes_of(
    both: tuple[EarlierResults, EarlierResults],
    changes: Sequence[Change],
    other_data: str | None,
    *,
    other_machine: bool,
    tested: int,
) -> list[str]:
    """In sentences; `tested` is the number of paired tests."""
    notes = []
    if (formats := [side.get("format", 0) for side in both])[0] != formats[1]:
        notes.append(f"results.json has format {formats[0]} and {formats[1]}: what only one has is not compared")
    if any(side.get("is_trial") for side in both):
        notes.append("a trial, which only shows that every part works: its numbers, and so what moved, mean nothing")
    if other_data:
        notes.append(f"{other_data}: nothing is paired, and nothing is called a regression")
    if other_machine:
        notes.append("another machine: step time and memory are not judged")
    if conditions := list(_conditions(changes)):
        notes.append(f"computed under other conditions, from which a part may come: {'; '.join(conditions)}")
    for letter, side in zip("AB", both, strict=True):
        if len(several := side.get("conditions", [])) > 1:
            notes.append(f"{letter} itself was computed under {len(several)} conditions: {'; '.join(several)}")
    if tested:
        notes.append(f"{plural(tested, 'paired test')}: at 5 % about {LEVEL * tested:.0f} see a difference by chance")
    return notes


def _conditions(changes: Sequence[Change]) -> Iterator[str]:
    """What makes equal stages compute other digits: threads, processor, versions, and how wrong kernels are avoided."""
    for change in changes:
        name, values = change.name, (change.first, change.second)
        if change.group == "environment" and None in values:
            continue  # one of them does not tell
        if change.group in ("options", "environment") and name in CONDITIONS:
            yield f"{CONDITIONS[name]} {_both(values)}"
        elif change.group == "environment" and name.startswith("versions.") and name != COMPUTES_NOTHING:
            yield f"{name.removeprefix('versions.')} {_both(values)}"
        elif change.group == "kernels" and "all right" not in values:
            network, _, operation = name.partition(".")
            yield f"{operation} of a {network} computed {_both(values, 'as the library does')}"


def _both(values: tuple[Any, Any], nothing: str = "none") -> str:
    texts = (", ".join(map(str, each)) if isinstance(each, list) else each for each in values)
    return " and ".join(nothing if each is None else str(each) for each in texts)
