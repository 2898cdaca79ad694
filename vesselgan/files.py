"""Files that are either whole or absent, whatever happens while they are written."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vesselgan.errors import InputError

__all__ = ["atomic_path", "file_sha256", "full_disk", "not_the_file", "text_sha256", "write_bytes", "write_text"]

_WRITTEN_IN_PART = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success flush it to disk and rename it to `path`.

    The same folder, since a rename is atomic only within one file system.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since several writers choose the format (or add a suffix) by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if full := full_disk(error):
            full.filename = str(path)
            raise full from None
        # A write that fails, on a full disk, does not name its file. One without a number is not the system's.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # a read-only file system refuses even this, and what came first is told
            temporary.unlink(missing_ok=True)


def full_disk(error: Exception) -> OSError | None:
    """What the system would have said where NumPy says only how much of an array it could write."""
    if isinstance(error, OSError) and error.errno is None and _WRITTEN_IN_PART.fullmatch(str(error)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8; names of files that are not UTF-8 keep their bytes."""
    write_bytes(path, content.encode(errors="surrogateescape"))


def text_sha256(text: str) -> str:
    """The SHA-256 of a text in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path, remember: Path | None) -> str:
    """The file's SHA-256, remembered by path, size and modification time in the folder `remember`.

    Raises InputError for what is no file, or cannot be read.
    """
    if not path.is_file():  # a named pipe would be waited for
        raise InputError(f"{path}: is no file (missing, a folder, a broken link or a device); name an existing one")
    try:
        facts = path.stat()
        place = str(path.resolve())
        identity = [place, facts.st_size, facts.st_mtime_ns]
        note = remember / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.json" if remember else None
        known = _remembered(note)
        if known.get("identity") == identity:
            return str(known["sha256"])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if note:
        write_text(note, json.dumps({"identity": identity, "sha256": digest}))
    return digest


def _remembered(note: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text(encoding="utf-8")) if note else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def not_the_file(head: bytes) -> str:
    """What stands in place of a file of any format by its first bytes, and what helps; nothing where none of that."""
    text = head.lstrip()[:200].lower()
    if not head:
        return "is empty (0 bytes); copy or download it again"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; fetch it with git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page (a log-in, or an error), not the file itself; download it again"
    return ""
