"""YAML -> a validated model, with every error at once as `file:line:column: key: what, did you mean`."""

import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.scalarbool import ScalarBoolean

from benchmark.protocol.yaml_tree import read_tree
from vesselgan.errors import InputError, did_you_mean

__all__ = ["read_model"]

Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model], name: str) -> tuple[Model, Callable[[Sequence[int | str]], str]]:
    """A YAML file as a `model`, and a function from a place in the model to `line:column` in the file.

    `name` is the file's first key, which says what kind of file it is. Raises InputError with one line per error.
    """
    tree = read_tree(path, name)
    if not isinstance(tree, CommentedMap):
        raise InputError(f"{path}:1:1: a {name} is a mapping that starts with '{name}: NAME'")
    try:
        value = model.model_validate(_plain(tree))
    except ValidationError as error:
        lines = sorted({_line(path, tree, model, name, detail) for detail in error.errors()})
        raise InputError("\n".join(text for _, text in lines)) from None
    return value, lambda loc: _place(tree, loc)[2]


def _plain(node: Any) -> Any:
    if isinstance(node, CommentedMap):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # what an anchor makes of true, which is a number to Python
        return bool(node)
    return node.value if isinstance(node, TaggedScalar) else node  # !!str 1


def _place(tree: Any, loc: Sequence[int | str]) -> tuple[int, int, str]:
    """Line and column (from 1) of the deepest part of `loc` that stands in the file."""
    node, line, column = tree, 0, 0
    for step in loc:
        if isinstance(node, CommentedMap) and step in node:
            if step in (node.lc.data or ()):  # else it comes from an anchor, and stands where that is merged
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


def _in_file(tree: Any, loc: Sequence[int | str]) -> Iterator[str]:
    """The steps of `loc`, but for those that the model has above what stands in the file."""
    for at, step in enumerate(loc):
        known = isinstance(tree, CommentedMap) and step in tree
        above = isinstance(tree, CommentedMap) and any(later in tree for later in loc[at + 1 :])
        if step != "[key]" and (known or not above):
            yield str(step)
        if known or (isinstance(tree, CommentedSeq) and isinstance(step, int) and step < len(tree)):
            tree = tree[step]


def _line(path: Path, tree: Any, model: type[BaseModel], name: str, error: ErrorDetails) -> tuple[tuple[int, int], str]:
    loc = error["loc"]
    line, column, place = _place(tree, loc)
    key = ".".join(_in_file(tree, loc)) or name
    if error["type"] == "extra_forbidden":
        what = "unknown key" + did_you_mean(str(loc[-1]), _siblings(model, loc[:-1]))
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
    # A model whose keys are other ones in a file says so.
    keys = (getattr(part, "keys_in_file", lambda part=part: part.model_fields)() for part in _models_in(model))
    return [name for names in keys for name in names if name != "name"]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]
