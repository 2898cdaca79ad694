"""YAML -> Protocol, with every error at once as `file:line:column: key: what, did you mean`."""

import typing
from collections.abc import Iterable, Sequence
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from benchmark.cells import REAL, labels_of
from benchmark.claims.language import CHOSEN, Claim, did_you_mean, split_side
from benchmark.protocol import AXES, Protocol
from vesselgan.errors import InputError

__all__ = ["find_protocol", "load_protocol"]


def find_protocol(name: str) -> Path:
    """A path as given, or the packaged protocol of that name (`paper` finds `paper.yaml`).

    Raises InputError if there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{name}: is a folder; name a protocol file in it")
    packaged = sorted(_packaged_protocols())
    for candidate in packaged:
        # "protocols/paper.yaml" as in the README also works outside a checkout.
        if name in (candidate.stem, candidate.name, f"protocols/{candidate.name}"):
            return candidate
    known = ", ".join(candidate.stem for candidate in packaged) or "none"
    raise InputError(f"{name}: no such protocol file, nor a packaged protocol of that name (packaged: {known})")


def load_protocol(path: Path) -> Protocol:
    """Read and validate a protocol. Raises InputError with one line per error."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}:1:1: cannot be read as UTF-8 text: {error}") from None
    try:
        tree = YAML(typ="rt").load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        problem = str(error.problem).partition(" with value")[0]  # a duplicate key quotes the whole old value
        raise InputError(f"{path}:{place}: YAML: {problem}") from None
    except YAMLError as error:
        raise InputError(f"{path}:1:1: YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, CommentedMap):
        raise InputError(f"{path}:1:1: a protocol is a mapping that starts with 'protocol: NAME'")
    try:
        protocol = Protocol.model_validate(_plain(tree))
    except ValidationError as error:
        lines = sorted({_line(path, tree, detail) for detail in error.errors()})
        raise InputError("\n".join(text for _, text in lines)) from None
    problems = list(_inconsistencies(protocol))
    if problems:
        raise InputError("\n".join(f"{path}:{_place(tree, loc)[2]}: {what}" for loc, what in problems))
    return protocol


def _packaged_protocols() -> Iterable[Path]:
    """In a wheel the files are package data; in a checkout they stand at the top level."""
    packaged = Path(str(files("benchmark"))) / "protocols"
    checkout = Path(str(files("benchmark"))).parent / "protocols"
    folder = packaged if packaged.is_dir() else checkout
    return folder.glob("*.yaml")


def _plain(node: Any) -> Any:
    if isinstance(node, CommentedMap):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    return node


def _place(tree: Any, loc: Sequence[int | str]) -> tuple[int, int, str]:
    """Line and column (from 1) of the deepest part of `loc` that stands in the file."""
    node, line, column = tree, 0, 0
    for step in loc:
        if isinstance(node, CommentedMap) and step in node:
            line, column = node.lc.key(step)[:2]
        elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
            line, column = node.lc.item(step)[:2]
            child = node[step]
            if isinstance(child, CommentedMap) and len(child) == 1 and next(iter(child)) not in loc:
                # A claim stands under its name, which the model does not have as a level.
                node = next(iter(child.values()))
                continue
        else:
            continue  # a level that pydantic adds, such as the branch of a union
        node = node[step]
    return line + 1, column + 1, f"{line + 1}:{column + 1}"


def _line(path: Path, tree: Any, error: ErrorDetails) -> tuple[tuple[int, int], str]:
    loc = error["loc"]
    line, column, place = _place(tree, loc)
    key = ".".join(str(step) for step in loc if step != "[key]") or "protocol"
    if error["type"] == "extra_forbidden":
        what = "unknown key" + did_you_mean(str(loc[-1]), _siblings(Protocol, loc[:-1]))
    elif error["type"] == "missing":
        what = "is required"
    else:
        what = error["msg"].removeprefix("Value error, ")
        what = what[:1].lower() + what[1:]
        if error["type"] not in ("value_error", "too_short") and not isinstance(error["input"], dict):
            what += f", not {error['input']!r}"
    return (line, column), f"{path}:{place}: {key}: {what}"


def _siblings(model: Any, loc: Sequence[int | str]) -> list[str]:
    """Field names of the model that stands at `loc`."""
    for step in loc:
        candidates = [part for part in _models_in(model) if isinstance(step, str) and step in part.model_fields]
        if candidates:
            model = candidates[0].model_fields[str(step)].annotation
    return [name for part in _models_in(model) for name in part.model_fields if name != "name"]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _inconsistencies(protocol: Protocol) -> Iterable[tuple[tuple[int | str, ...], str]]:
    """What no single field can know."""
    if protocol.default_profile not in protocol.profiles:
        hint = did_you_mean(protocol.default_profile, list(protocol.profiles))
        yield ("default_profile",), f"default_profile: no profile {protocol.default_profile!r}{hint}"
    matrices = [profile.matrix or protocol.matrix for profile in protocol.profiles.values()]
    for index, rule in enumerate(protocol.exclude):
        for axis, value in rule.items():
            if axis not in AXES:
                yield ("exclude", index, axis), f"exclude.{index}: unknown axis {axis!r}{did_you_mean(axis, AXES)}"
                continue
            for one in value if isinstance(value, list) else [value]:
                if not any(one in (getattr(matrix, axis) or []) for matrix in matrices):
                    yield (
                        ("exclude", index, axis),
                        f"exclude.{index}: no cell has {axis} {one!r}; give values of the axis",
                    )
    try:
        labels = labels_of(protocol)
    except InputError as error:
        yield (), str(error)
        return
    names = [claim.name for claim in protocol.claims]
    for index, claim in enumerate(protocol.claims):
        if names.index(claim.name) != index:
            yield ("claims", index), f"claims.{index}: {claim.name!r} stands there twice; give each claim its name"
        where = f"claims.{index}: {claim.name}"
        yield from _unknown_labels(("claims", index), where, claim.sides, [*labels, CHOSEN])
        if problem := _unanswerable(claim, labels, list(protocol.reference)):
            yield ("claims", index), f"{where}: {problem}"
    for side in protocol.reference:
        yield from _unknown_labels(("reference", side), f"reference.{side}", [side], labels)


def _unanswerable(claim: Claim, labels: Sequence[str], published: Sequence[str]) -> str | None:
    """What a claim lacks in the rest of the protocol, if anything."""
    side = claim.sides[0]
    if claim.kind == "compatible" and side not in published:
        return f"'reference' has no published {side!r}{did_you_mean(side, published)}"
    label = split_side(side)[1]
    rivals = [name for name in labels if name != label and not _is_real(name)]
    if claim.kind == "best" and label in labels and (_is_real(label) or not rivals):
        return "'best' compares a synthetic label with other synthetic ones" + (
            "" if rivals else ", and there are none"
        )
    return None


def _is_real(label: str) -> bool:
    return label.split()[0] == REAL


def _unknown_labels(
    loc: tuple[int | str, ...], where: str, sides: Iterable[str], labels: Sequence[str]
) -> Iterable[tuple[tuple[int | str, ...], str]]:
    for side in sides:
        label = split_side(side)[1]
        if label not in labels:
            yield loc, f"{where}: no cell has the label {label!r}{did_you_mean(label, labels)}"
