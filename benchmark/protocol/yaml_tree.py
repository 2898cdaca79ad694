"""YAML text -> a tree, of which everything is refused that no model can mean, before any of it is built."""

import re
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from vesselgan.errors import InputError

__all__ = ["read_tree"]

MOST_BYTES = 128 * 1024  # such a file is a page; far beyond, reading it alone takes minutes
MOST_VALUES = 100_000  # an anchor repeats what it names, and so grows with each use of a use
# Beside line breaks and tabs these are for machines; half of a pair of surrogates cannot be written anywhere.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
KEYS = {"str", "int", "float", "merge"}
SCALARS = {*KEYS, "bool", "null"}


def read_tree(path: Path, name: str) -> Any:
    """The content of a YAML file that is a `name`, such as a protocol. Raises InputError, with line and column."""
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MOST_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}:1:1: cannot be read as UTF-8 text: {error}") from None
    if size > MOST_BYTES:
        raise InputError(f"{path}:1:1: has {size // 1024} KiB, and a {name} at most {MOST_BYTES // 1024}: shorten it")
    yaml = YAML(typ="rt")
    yaml.Constructor = _Checked
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an anchor whose name is used twice
            return yaml.load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        problem = str(error.problem).partition(" with value")[0]  # a duplicate key quotes the whole old value
        raise InputError(f"{path}:{place}: YAML: {problem}") from None
    except RecursionError:
        raise InputError(f"{path}:1:1: YAML: is nested too deep") from None
    except Exception as error:  # what nobody writes fails in many ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}:1:1: YAML: cannot be read ({reason})") from None


class _Checked(RoundTripConstructor):
    def construct_document(self, node: Node) -> Any:
        _Check().values(node)
        return super().construct_document(node)


class _Check:
    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}  # by node, of what was looked at
        self._open: set[int] = set()  # nodes of which some parts are still to be looked at

    def values(self, node: Node) -> int:
        """How many values a node stands for. Raises ConstructorError for what means nothing, or too much."""
        if id(node) in self._open:
            raise _wrong(node, "contains itself: an anchor cannot be used inside of what it names")
        if id(node) not in self._sizes:
            self._open.add(id(node))
            self._sizes[id(node)] = 1 + sum(self.values(part) for part in _parts(node))
            self._open.remove(id(node))
            if self._sizes[id(node)] > MOST_VALUES:
                raise _wrong(node, f"stands for more than {MOST_VALUES} values: its anchors repeat too much")
        return self._sizes[id(node)]


def _parts(node: Node) -> list[Node]:
    kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
    if isinstance(node, SequenceNode) and kind == "seq":
        return list(node.value)
    if isinstance(node, MappingNode) and kind == "map":
        for key, _ in node.value:
            if str(key.tag).rpartition(":")[2] not in KEYS:
                raise _wrong(key, "a key is text or a number; put it in quotes")
        return [part for pair in node.value for part in pair]
    if not isinstance(node, ScalarNode) or kind not in SCALARS:
        raise _wrong(node, f"a value of the kind {kind} means nothing here; put text in quotes, and leave tags out")
    text = node.value.replace("\a", "") if node.style == ">" else node.value  # ruamel's own mark of a folded line
    if found := UNPRINTABLE.search(text):
        raise _wrong(node, f"the character U+{ord(found[0]):04X} cannot be printed; leave it out")
    return []


def _wrong(node: Node, what: str) -> ConstructorError:
    return ConstructorError(None, None, what, node.start_mark)
