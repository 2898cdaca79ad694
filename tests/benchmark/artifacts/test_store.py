"""Stage folders: keys, what counts as done, locks, specs."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.artifacts.store import Spec, StageLockedError, Store, mapped
from vesselgan.errors import InputError

SPEC = Spec("prepare", 1, {"patch": [32, 32, 16]})


def finished(root: Path) -> tuple[Store, str]:
    store = Store(root)
    store.plan(SPEC)
    (store.folder(SPEC.key) / "data.npy").write_bytes(b"12345")
    store.finish(SPEC.key, {"n": 1}, {"seconds": 0.0})
    return store, SPEC.key


def test_the_key_depends_on_everything_but_where_files_lie() -> None:
    base = Spec("train_gan", 1, {"steps": 2}, {"data": "prepare-1"}, {"threads": 1})
    others = [
        Spec("train_gan", 2, {"steps": 2}, {"data": "prepare-1"}, {"threads": 1}),
        Spec("train_gan", 1, {"steps": 3}, {"data": "prepare-1"}, {"threads": 1}),
        Spec("train_gan", 1, {"steps": 2}, {"data": "prepare-2"}, {"threads": 1}),
        Spec("train_gan", 1, {"steps": 2}, {"data": "prepare-1"}, {"threads": 2}),
    ]
    assert len({base.key, *(other.key for other in others)}) == 5
    assert Spec("train_gan", 1, {"steps": 2}, {"data": "prepare-1"}, {"threads": 1}, {"folder": "x"}).key == base.key


def test_a_stage_is_done_only_with_its_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.plan(SPEC)
    assert not store.done(SPEC.key)
    store, key = finished(tmp_path)
    assert store.done(key)
    assert store.result(key)["files"]["data.npy"]["bytes"] == 5


@pytest.mark.parametrize("damage", ["remove", "truncate", "garbage", "no values"])
def test_a_stage_that_lost_a_file_is_not_done(tmp_path: Path, damage: str) -> None:
    store, key = finished(tmp_path)
    if damage == "remove":
        (store.folder(key) / "data.npy").unlink()
    elif damage == "truncate":
        (store.folder(key) / "data.npy").write_bytes(b"123")
    else:
        (store.folder(key) / "result.json").write_text("{" if damage == "garbage" else '{"files": {}}')
    assert not store.done(key)


def test_a_changed_file_undoes_its_stage(tmp_path: Path) -> None:
    store, key = finished(tmp_path)
    assert store.discard_damaged(key) is None
    (store.folder(key) / "data.npy").write_bytes(b"54321")  # of the same size, which alone does not tell
    assert store.done(key)
    assert store.discard_damaged(key) == str(store.folder(key) / "data.npy")
    assert not store.done(key)


def test_a_retry_keeps_the_checkpoint_and_the_record_up_to_it_and_removes_the_rest(tmp_path: Path) -> None:
    store, key = finished(tmp_path)
    kept = ("checkpoint.pt", "steps.jsonl", "course.npz")
    for name in (*kept, "generator.json"):
        (store.folder(key) / name).write_bytes(b"state")
    store.fail(key, "no", "")
    store.clear(key)
    assert {path.name for path in store.folder(key).iterdir()} == {"spec.json", *kept}


def test_places_below_the_folder_of_a_run_are_kept_relative_to_it(tmp_path: Path) -> None:
    """So that a machine that sees the folder elsewhere finds them. What lies outside keeps its place."""
    where = {"folder": str(tmp_path / "here/scans"), "weights": "/elsewhere/w.pth", "layout": "folder"}
    spec = replace(SPEC, where=where)
    Store(tmp_path / "here/runs").plan(spec)
    assert Store(tmp_path / "here/runs").spec(spec.key).where == where
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Store(tmp_path / "there/runs").spec(spec.key)
    assert moved.where == {**where, "folder": str(tmp_path / "there/scans")}
    assert moved.key == SPEC.key


def test_a_place_outside_of_the_folder_may_lie_under_another_mount_elsewhere(tmp_path: Path) -> None:
    spec = replace(SPEC, where={"folder": "/home/me/data/scans", "weights": "/opt/w.pth", "layout": "/home/me/data"})
    Store(tmp_path / "runs").plan(spec)
    there = Store(tmp_path / "runs", maps=(("/home/me/data", "/mnt/data"),)).spec(spec.key)
    assert there.where == {"folder": "/mnt/data/scans", "weights": "/opt/w.pth", "layout": "/home/me/data"}
    assert mapped(Path("/home/me/database"), (("/home/me/data", "/mnt/data"),)) == "/home/me/database"


def test_a_store_locks_by_whatever_locks_it_is_given(tmp_path: Path) -> None:
    class Taken:
        @contextmanager
        def hold(self, path: Path, *, wait: bool) -> Iterator[bool]:
            yield wait

    _, key = finished(tmp_path)
    with pytest.raises(StageLockedError), Store(tmp_path, Taken()).lock(key):
        pass


def test_only_one_process_at_a_time_holds_a_stage(tmp_path: Path) -> None:
    store, key = finished(tmp_path)
    with store.lock(key), pytest.raises(StageLockedError), store.lock(key):
        pass
    with store.lock(key):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_the_file_system_has_no_locks_a_stage_is_held_by_a_lease(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch, number)
    store, key = finished(tmp_path)
    with store.lock(key), pytest.raises(StageLockedError), Store(tmp_path).lock(key):
        pass
    with store.lock(key):
        assert [path.name for path in (tmp_path / "leases").iterdir()] == [key]
    assert not list((tmp_path / "leases").iterdir())


def test_a_lock_that_fails_otherwise_is_told_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, errno.EIO)
    store, key = finished(tmp_path)
    with pytest.raises(OSError, match="Input/output error") as failure, store.lock(key):
        pass
    assert failure.value.filename == str(store.folder(key) / "lock")


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_an_edited_spec_is_refused(tmp_path: Path) -> None:
    store, key = finished(tmp_path)
    path = store.folder(key) / "spec.json"
    content = json.loads(path.read_text())
    content["options"]["patch"] = [16, 16, 16]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was edited"):
        store.spec(key)


def test_a_key_is_found_by_its_unambiguous_start(tmp_path: Path) -> None:
    store, key = finished(tmp_path)
    assert store.find(key[:12]) == key
    store.plan(Spec("prepare", 2, {}))
    with pytest.raises(InputError, match="ambiguous"):
        store.find("prepare-")
    with pytest.raises(InputError, match="no stage there"):
        store.find("train")
