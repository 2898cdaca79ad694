"""Who may write: one process at a time holds a lock, and one that dies holds none."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

__all__ = ["FileLocks", "Locks", "NoLocksError"]

UNKNOWN = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Locks(Protocol):
    """A way of locking; all processes that share a store use the same."""

    def hold(self, path: Path, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold the lock at `path`; yields whether it is held, which without `wait` may be False.

        The lock of a holder that died, however it died and wherever it ran, is free again: at once, or after a time
        in which a living holder would have shown that it lives.
        """


class NoLocksError(OSError):
    """The file system knows no locks, as some that are mounted over a network."""


class FileLocks:
    """Locks of the kernel on open files, which end with their process; for processes that share a machine.

    Raises NoLocksError where the file system has none.
    """

    @contextmanager
    def hold(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """As `Locks` says."""
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            except OSError as error:
                kind = NoLocksError if error.errno in UNKNOWN else OSError
                raise kind(error.errno, error.strerror, str(path)) from None
            else:
                yield True
