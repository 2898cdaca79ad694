"""Files of a run, read with their types. What is torn, changed or of another type is told in one line."""

import json
import struct
import zipfile
import zlib
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vesselgan.errors import InputError
from vesselgan.files import file_sha256

__all__ = [
    "REMEDY",
    "Step",
    "as_kind",
    "map_array",
    "read_arrays",
    "read_json",
    "read_steps",
    "read_text",
    "refuse_changed",
]

T = TypeVar("T")
Step = Mapping[str, int | float | None]  # of a training: its number and its readings, null where one was no number

REMEDY = "the same 'run' command makes it anew"
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError, RuntimeError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, struct.error),
)
REMEMBERED_BYTES = 2**23  # the hash of a smaller file is quicker computed than looked up


def read_json(path: Path, kind: type[T]) -> T:
    """The content of a JSON file as it stands there, checked against `kind`. Raises InputError."""
    return as_kind(_parsed(path, read_text(path)), kind, path)


def read_steps(path: Path) -> list[Step]:
    """The lines of a step record. Raises InputError."""
    rows = [_parsed(path, line) for line in read_text(path).splitlines()]
    steps = as_kind(rows, list[dict[str, int | float | None]], path)
    if not all(isinstance(step.get("step"), int) for step in steps):
        raise InputError(f"{path}: a line has no step; {REMEDY}")
    return cast(list[Step], steps)


def read_arrays(path: Path, names: Sequence[str], *, optional: bool = False) -> dict[str, NDArray[Any]]:
    """These arrays of an `.npz`; where all are `optional` and the first is not there, none. Raises InputError."""
    try:
        # Of what is no archive numpy would leave the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if optional and names[0] not in arrays:
                return {}
            return {name: arrays[name] for name in names}
    except UNREADABLE as error:
        raise InputError(f"{path}: holds no such arrays ({_one_line(error)}); {REMEDY}") from None


def map_array(path: Path) -> NDArray[Any]:
    """The array of an `.npy`, which stays on disk. Raises InputError."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(f"{path}: holds no array ({_one_line(error)}); {REMEDY}") from None
    return array


def as_kind(content: object, kind: type[T], path: Path, within: str = "") -> T:
    """What was read from `path` (or stood `within` it) as `kind`, unchanged. Raises InputError."""
    try:
        _adapter(cast(Hashable, kind)).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (within, *first["loc"]) if within else first["loc"]))
        raise InputError(f"{path}: {f'{place}: ' if place else ''}{first['msg']}; {REMEDY}") from None
    return cast(T, content)


def refuse_changed(path: Path, sha256: str, remember: Path | None) -> None:
    """Raises InputError where a file has another content than its stage left; large ones are remembered."""
    large = path.stat().st_size >= REMEMBERED_BYTES
    if file_sha256(path, remember if large else None) != sha256:
        raise InputError(f"{path}: changed since its stage wrote it; {REMEDY}")


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def read_text(path: Path) -> str:
    """A text in UTF-8. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); {REMEDY}") from None


def _parsed(path: Path, text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({_one_line(error)}); {REMEDY}") from None


def _no_number(token: str) -> NoReturn:
    raise ValueError(f"{token} is no number")


def _one_line(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__
