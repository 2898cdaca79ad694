"""A dataset folder, written in one stream that may break off at any moment: the same call goes on where it was.

While it is not finished it holds a folder ``UNFINISHED`` with what it is to become (``datasheet.json``), the checksums
of what is there already, and files that are being written. Each file is renamed into its place when it is whole. A
continued call reads the files that are there against their checksums, makes again what does not match, and ends in the
same bytes. ``SHA256SUMS``, for ``sha256sum -c``, comes last.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError
from vesselgan.export.layouts import File, Layout, as_json
from vesselgan.files import write_bytes

__all__ = ["CHECKSUMS", "SHEET", "UNFINISHED", "MakePairs", "PairSource", "Pairs", "write_dataset"]

UNFINISHED, CHECKSUMS, SHEET = "UNFINISHED", "SHA256SUMS", "datasheet.json"

Pairs = tuple[NDArray[Any], NDArray[np.bool_]]  # images as they are to be stored, labels; (B, X, Y, Z)
MakePairs = Callable[[range], Pairs]


@dataclass(frozen=True)
class PairSource:
    """Who makes the pairs, and how many.

    make: pairs of consecutive indices, a multiple of `batch` of them but for the last; called from several threads.
    count, batch: pairs in all, and pairs that are made together. workers: threads.
    """

    make: MakePairs
    count: int
    batch: int
    workers: int


def write_dataset(
    folder: Path,
    layout: Layout,
    source: PairSource,
    sheet: Mapping[str, Any],
    *,
    extra: Mapping[str, bytes] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write all pairs of a source; returns how many were written by this call, 0 where all was there.

    Memory does not grow with their number: at most two steps for each worker are in it.

    Args:
        folder: empty, absent, or from an earlier call with an equal `sheet`, whose `pairs` may have been fewer.
        layout: the files' names and bytes.
        source: the pairs.
        sheet: JSON content of ``datasheet.json``; whatever the bytes depend on must be in it.
        extra: more files for the end, by path.
        progress: called with the number of pairs that are there.

    Raises:
        InputError: the folder holds something else, is another dataset's, is being written, or cannot be written.
    """
    count, batch, workers = source.count, source.batch, source.workers
    if count < 1 or batch < 1 or workers < 1:
        raise InputError(f"{count} pairs in batches of {batch} by {workers} workers: each must be at least 1")
    try:
        _reopen(folder, layout, sheet, count, batch)
        if _is_finished(folder, sheet):
            return 0
        with _writing(folder, sheet):
            return _write(folder, layout, source, sheet, extra or {}, progress)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{error.filename or folder}: {reason}; once that is mended, the same command goes on where it stopped"
        ) from error


def _reopen(folder: Path, layout: Layout, sheet: Mapping[str, Any], count: int, batch: int) -> None:
    """Make a finished dataset of fewer pairs an unfinished one of `count`, of which its whole steps are there."""
    home = folder / UNFINISHED
    if (home / SHEET).is_file() or not ((folder / CHECKSUMS).is_file() and (folder / SHEET).is_file()):
        return
    wanted, there = json.loads(as_json(sheet)), _read(folder / SHEET)
    if not isinstance(there, dict) or not isinstance(there.get("pairs"), int) or there["pairs"] >= count:
        return
    fewer, first = there["pairs"], range(1)
    if _difference(there | {"pairs": count}, wanted, "") or layout.paths(first, fewer) != layout.paths(first, count):
        return
    at_once = layout.pairs_at_once(batch)
    whole = range(0, fewer - fewer % at_once, at_once)
    lines = sum(len(layout.paths(range(start, start + at_once), count)) for start in whole)
    journal = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
    home.mkdir(exist_ok=True)
    write_bytes(home / CHECKSUMS, "".join(journal).encode())
    write_bytes(home / SHEET, as_json(sheet))  # from here on the folder is an unfinished one
    (folder / CHECKSUMS).unlink()


def _is_finished(folder: Path, sheet: Mapping[str, Any]) -> bool:
    """Whether all is there. Raises InputError where something else is there, or an unfinished other dataset."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder")
    unfinished = (folder / UNFINISHED / SHEET).is_file()
    finished = not unfinished and (folder / CHECKSUMS).is_file()
    known = folder / UNFINISHED / SHEET if unfinished else folder / SHEET
    if unfinished or (finished and known.is_file()):
        there, wanted = _read(known), json.loads(as_json(sheet))
        # Their number comes last: another generator's folder is not mended by another number.
        alike = {**there, "pairs": wanted.get("pairs")} if isinstance(there, dict) and "pairs" in there else there
        if difference := _difference(alike, wanted, "") or _difference(there, wanted, ""):
            raise InputError(f"{known}: {difference}; choose another folder, or remove this one")
    elif any(path.name != UNFINISHED for path in folder.iterdir()):
        raise InputError(f"{folder}: holds other files; choose an empty or new folder")
    if finished:
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)  # of a call that was killed in its last moment
    return finished


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove the folder and write it again") from None


def _difference(there: Any, wanted: Any, name: str) -> str | None:
    """The first value in which two JSON contents differ, in words."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in there if key not in wanted)]:
            inside = f"{name}.{key}" if name else key
            if difference := _difference(there.get(key), wanted.get(key), inside):
                return difference
        return None
    return None if there == wanted else f"{name} is {_short(there)} there, not {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _writing(folder: Path, sheet: Mapping[str, Any]) -> Iterator[None]:
    """The folder ``UNFINISHED``, held alone; the kernel lets go of it when the process dies."""
    home = folder / UNFINISHED
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is writing there; wait for it, or choose another") from None
        except OSError as error:  # a file system without locks names no file
            error.filename = lock.name
            raise
        for path in home.iterdir():  # what a killed call was just writing
            if path.name not in ("lock", SHEET, CHECKSUMS):
                path.unlink()
        if not (home / SHEET).is_file():
            write_bytes(home / SHEET, as_json(sheet))
        yield


def _write(
    folder: Path,
    layout: Layout,
    source: PairSource,
    sheet: Mapping[str, Any],
    extra: Mapping[str, bytes],
    progress: Callable[[int], None],
) -> int:
    count, at_once = source.count, layout.pairs_at_once(source.batch)
    home, (kept, length) = folder / UNFINISHED, _whole_steps(folder, layout, count, at_once)

    def step(first: int) -> str:
        pairs = range(first, min(first + at_once, count))
        images, labels = source.make(pairs)
        return "".join(_saved(folder, file) for file in layout.files(pairs, count, images, labels))

    with (home / CHECKSUMS).open("a", encoding="utf-8") as journal:
        journal.truncate(length)
        progress(done := kept)
        for lines in _in_order(step, range(kept, count, at_once), source.workers):
            journal.write(lines)  # in the order of the pairs, so that what is known to be there is always a beginning
            journal.flush()
            progress(done := min(done + at_once, count))
        for file in [(SHEET, as_json(sheet)), *extra.items(), *layout.closing_files(count)]:
            journal.write(_saved(folder, file))
    os.sync()  # one for all: a flush for each of thousands of files would take longer than making them
    (home / CHECKSUMS).replace(folder / CHECKSUMS)
    (home / SHEET).unlink()
    shutil.rmtree(home)
    return count - kept


def _whole_steps(folder: Path, layout: Layout, count: int, at_once: int) -> tuple[int, int]:
    """How many pairs, from the first on, are there with the right checksums; how long their part of the journal is."""
    pairs, length = 0, 0
    try:
        with (folder / UNFINISHED / CHECKSUMS).open(encoding="utf-8") as journal:
            for first in range(0, count, at_once):
                step = range(first, min(first + at_once, count))
                lines = ""
                for path in layout.paths(step, count):
                    if (line := journal.readline()) != _line(path, (folder / path).read_bytes()):
                        return pairs, length
                    lines += line
                pairs, length = step.stop, length + len(lines.encode())
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    return pairs, length


def _in_order(step: Callable[[int], str], firsts: range, workers: int) -> Iterator[str]:
    """The results of all steps in their order, few of them at work or waiting at any time."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[str]] = deque()
    try:
        for first in firsts:
            waiting.append(pool.submit(step, first))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _saved(folder: Path, file: File) -> str:
    """Write a file whole and return its line of checksums."""
    path, content = file
    temporary, target = folder / UNFINISHED / f"part--{path.replace('/', '--')}", folder / path
    try:
        temporary.write_bytes(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
    except OSError as error:
        error.filename = str(target)  # a write that fails does not name the file
        raise
    return _line(path, content)


def _line(path: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path}\n"
