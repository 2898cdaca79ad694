"""Locks that reach across machines: a file beside the stage that says who works on it, and that its owner still lives.

An owner touches its file every few seconds. One that was not touched for long is taken over. How long is told by the
file system alone, whose server stamps both the lease and a file that the contender has just touched: machines need not
agree on the time, nor need their clocks go.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from benchmark.artifacts.locks import FileLocks, NoLocksError

__all__ = ["EXPIRY_S", "Clock", "LeaseLocks", "file_age_s"]

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0  # a dozen heartbeats: longer than a server of files stands still as a rule

Clock = Callable[[Path], float]  # seconds since a file was touched; raises OSError where it is not there


def file_age_s(path: Path) -> float:
    """By the clock of the file system. Raises OSError where there is no such file."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with probe.open("w") as now, path.open() as then:  # NFS answers `open` with fresh times
            return os.fstat(now.fileno()).st_mtime - os.fstat(then.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)


@dataclass(frozen=True)
class LeaseLocks:
    """Locks for processes on several machines that share a folder, NFS included.

    A lease ends when its owner lets go of it, at once where it is seen on the owner's machine that its process is
    gone, and else `expiry_s` after its last heartbeat. An owner that stood still for longer finds that it lost the
    lease, and calls `on_lost`: whatever it goes on to write would be in the way of the new owner's.

    Leases are in a `folder` of their own, named after the folders that they lock: what contenders put beside them is
    no content of a stage.
    """

    folder: Path
    heartbeat_s: float = HEARTBEAT_S
    expiry_s: float = EXPIRY_S
    age_s: Clock = file_age_s
    on_lost: Callable[[], object] = lambda: os._exit(1)

    @contextmanager
    def hold(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """As `Locks` says. Processes that lock the file itself, without a lease, are respected on their machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lease, token = self.folder / path.parent.name, uuid.uuid4().hex
        pause = threading.Event()
        while not (held := self._taken(lease, token)) and wait:
            pause.wait(min(1.0, self.heartbeat_s))
        if not held:
            yield False
            return
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(lease, token, ended), daemon=True)
        try:
            with _alone_here(path, wait=wait) as alone:
                beating.start()
                yield alone
        finally:
            ended.set()
            if beating.ident is not None:
                beating.join()
            if _token(lease) == token:
                lease.unlink(missing_ok=True)

    def _taken(self, lease: Path, token: str) -> bool:
        self._remove_expired(lease)
        mine = lease.with_name(f"{lease.name}.{token}")
        mine.write_text(json.dumps({"token": token, **_me()}), encoding="utf-8")
        try:
            with suppress(FileExistsError):  # NFS may have done it and lost the answer: the number of links tells
                os.link(mine, lease)
            return mine.stat().st_nlink == 2
        finally:
            mine.unlink()

    def _remove_expired(self, lease: Path) -> None:
        owner = _owner(lease)
        if owner is None:
            return
        with suppress(OSError):  # it was let go of meanwhile
            if not _is_gone(owner) and self.age_s(lease) < self.expiry_s:
                return
            aside = lease.with_name(f"{lease.name}.{uuid.uuid4().hex}")
            lease.rename(aside)
            if _token(aside) != owner["token"]:  # another was quicker, and this is its new one: put it back
                with suppress(FileExistsError):
                    os.link(aside, lease)
            aside.unlink()

    def _beat(self, lease: Path, token: str, ended: threading.Event) -> None:
        while not ended.wait(self.heartbeat_s):
            found = _owner(lease)
            if found is None and not lease.parent.is_dir():
                continue  # the whole folder is out of reach: what the stage writes fails by itself
            if found is None or found["token"] != token:
                if not ended.is_set():
                    self.on_lost()
                return
            with suppress(OSError):
                os.utime(lease)


@contextmanager
def _alone_here(path: Path, *, wait: bool) -> Iterator[bool]:
    """The lock on the file itself; of a file system without such locks the lease alone has to do."""
    with ExitStack() as held:
        try:
            alone = held.enter_context(FileLocks().hold(path, wait=wait))
        except NoLocksError:
            alone = True
        yield alone


def _owner(lease: Path) -> Mapping[str, str] | None:
    """What a lease says; of one that is just being made, or is torn, an owner that nobody is."""
    try:
        text = lease.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    try:
        found = json.loads(text)
        return {name: str(found[name]) for name in ("token", "machine", "process", "started")}
    except (ValueError, KeyError, TypeError):
        return dict.fromkeys(("token", "machine", "process", "started"), "")


def _token(lease: Path) -> str | None:
    owner = _owner(lease)
    return None if owner is None else owner["token"]


def _is_gone(owner: Mapping[str, str]) -> bool:
    """Whether the owner is a process of this machine that ended; of other machines nothing is known."""
    if owner["machine"] != _machine():
        return False
    try:
        return str(psutil.Process(int(owner["process"])).create_time()) != owner["started"]
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError):
        return False


def _me() -> dict[str, str]:
    process = psutil.Process()
    return {"machine": _machine(), "process": str(process.pid), "started": str(process.create_time())}


@cache
def _machine() -> str:
    """This boot of this machine, and the table of processes that this one sees: containers have one each."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(facts)
