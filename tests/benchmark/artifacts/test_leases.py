"""Leases: who works on a stage, across machines, with clocks that stand still and owners that do."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.artifacts.leases import LeaseLocks, file_age_s
from benchmark.artifacts.locks import FileLocks
from benchmark.artifacts.store import Spec, StageLockedError, Store


class StoppedClock:
    """A clock of the file system that only the test moves."""

    def __init__(self) -> None:
        self.age_s = 0.0

    def __call__(self, path: Path) -> float:
        path.stat()
        return self.age_s


HOLDER = """
import os, time
from pathlib import Path
from benchmark.artifacts.leases import LeaseLocks
folder = Path({folder!r})
with LeaseLocks(folder / "leases"{options}).hold(folder / "stage/lock", wait=False) as held:
    {work}
"""
FOREIGN = json.dumps({"token": "t", "machine": "another", "process": "1", "started": "0"})


def no_heartbeat(folder: Path, clock: StoppedClock) -> LeaseLocks:
    return LeaseLocks(folder / "leases", heartbeat_s=600, expiry_s=60, age_s=clock, on_lost=lambda: None)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "leases").mkdir()


def elsewhere(lease: Path) -> None:
    """As if the owner were on another machine, of whose processes nothing is known."""
    lease.write_text(json.dumps(json.loads(lease.read_text()) | {"machine": "another"}))


def test_a_lease_is_held_by_one_and_free_again_when_let_go(tmp_path: Path) -> None:
    locks, path = no_heartbeat(tmp_path, StoppedClock()), tmp_path / "stage/lock"
    with locks.hold(path, wait=False) as first, locks.hold(path, wait=False) as second:
        assert (first, second) == (True, False)
    with locks.hold(path, wait=False) as again:
        assert again
    assert list((tmp_path / "leases").iterdir()) == []


def test_while_the_clock_stands_still_no_lease_expires_and_one_second_too_late_it_does(tmp_path: Path) -> None:
    clock, path = StoppedClock(), tmp_path / "stage/lock"
    (tmp_path / "leases/stage").write_text(FOREIGN)
    for age_s, taken in ((0.0, False), (59.9, False), (60.1, True)):
        clock.age_s = age_s
        with no_heartbeat(tmp_path, clock).hold(path, wait=False) as held:
            assert held is taken, age_s


def test_an_owner_of_this_machine_whose_process_is_gone_holds_nothing(tmp_path: Path) -> None:
    code = HOLDER.format(folder=str(tmp_path), options="", work="os._exit(0)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (tmp_path / "leases/stage").is_file(), "it was killed while it held it"
    with no_heartbeat(tmp_path, StoppedClock()).hold(tmp_path / "stage/lock", wait=False) as held:
        assert held
    # Of another machine's process of the same number nothing is known.
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    elsewhere(tmp_path / "leases/stage")
    with no_heartbeat(tmp_path, StoppedClock()).hold(tmp_path / "stage/lock", wait=False) as held:
        assert not held


def test_the_age_is_by_the_clock_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = tmp_path / "leases/stage"
    lease.touch()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a machine that has lost its time
    assert 0 <= file_age_s(lease) < 5
    moment = lease.stat().st_mtime - 100
    os.utime(lease, (moment, moment))
    assert 99 < file_age_s(lease) < 105
    assert list((tmp_path / "leases").iterdir()) == [lease]


def test_heartbeats_keep_a_lease_longer_than_it_would_last(tmp_path: Path) -> None:
    locks = LeaseLocks(tmp_path / "leases", heartbeat_s=0.05, expiry_s=1.0, on_lost=lambda: pytest.fail("lost"))
    with locks.hold(tmp_path / "stage/lock", wait=False):
        elsewhere(tmp_path / "leases/stage")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            with locks.hold(tmp_path / "stage/lock", wait=False) as held:
                assert not held
            time.sleep(0.1)


def test_an_owner_that_stood_still_too_long_ends_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    work = "print(held, flush=True); time.sleep(60)"
    code = HOLDER.format(folder=str(tmp_path), options=", heartbeat_s=0.1, expiry_s=0.5", work=work)
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        os.kill(owner.pid, signal.SIGSTOP)
        elsewhere(tmp_path / "leases/stage")
        (tmp_path / "stage/lock").unlink()  # the kernel's lock does not reach another machine
        time.sleep(0.6)
        locks = LeaseLocks(tmp_path / "leases", heartbeat_s=0.1, expiry_s=0.5, on_lost=lambda: pytest.fail("lost"))
        with locks.hold(tmp_path / "stage/lock", wait=False) as held:
            assert held
            os.kill(owner.pid, signal.SIGCONT)
            assert owner.wait(timeout=30) == 1
            assert (tmp_path / "leases/stage").is_file()
    finally:
        owner.kill()
        owner.communicate()


def test_of_many_contenders_for_an_expired_lease_one_wins(tmp_path: Path) -> None:
    clock, start = StoppedClock(), threading.Barrier(8)
    clock.age_s = 100.0
    for round_ in range(20):
        path = tmp_path / str(round_) / "lock"
        path.parent.mkdir()
        (tmp_path / "leases" / str(round_)).write_text(FOREIGN)
        ages = {"t": 100.0}
        locks = LeaseLocks(
            tmp_path / "leases",
            heartbeat_s=600,
            expiry_s=60,
            age_s=lambda lease, ages=ages: ages.get(json.loads(lease.read_text())["token"], 0.0),
        )
        winners, done = [], threading.Barrier(8)

        def contend(path: Path = path, locks: LeaseLocks = locks, winners: list = winners, done: object = done) -> None:
            start.wait()
            with locks.hold(path, wait=False) as held:
                winners.append(held)
                done.wait()

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert winners.count(True) == 1, round_


def test_a_shared_store_is_known_to_every_process_that_opens_it(tmp_path: Path) -> None:
    spec = Spec("prepare", 1, {})
    Store(tmp_path).plan(spec)
    shared = Store(tmp_path)
    shared.share()
    with shared.lock(spec.key):
        assert (tmp_path / "leases" / spec.key).is_file()
        with (
            pytest.raises(StageLockedError, match="another process works on this stage"),
            Store(tmp_path).lock(spec.key),
        ):
            pass
        with FileLocks().hold(shared.folder(spec.key) / "lock", wait=False) as held:
            assert not held, "one that opened it before, on this machine, is respected as well"
    assert shared.shared_id == Store(tmp_path).shared_id
    shared.share()
    assert shared.shared_id == Store(tmp_path).shared_id, "sharing it again changes nothing"
