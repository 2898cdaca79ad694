"""Stage folders: named by a hash of what they depend on, written atomically, locked, computed once.

``result.json`` is written last, with the hash of every other file: its presence alone means that a stage is done.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from benchmark.artifacts.leases import LeaseLocks
from benchmark.artifacts.locks import FileLocks, Locks, NoLocksError
from benchmark.artifacts.options import Runtime
from benchmark.artifacts.reading import REMEDY, read_json
from benchmark.artifacts.values import StageError, StageResult
from vesselgan.errors import InputError
from vesselgan.files import file_sha256, text_sha256, write_bytes, write_text
from vesselgan.processor import INSTRUCTION_LIMIT

__all__ = [
    "DamagedStageError",
    "Maps",
    "Spec",
    "StageLockedError",
    "Store",
    "canonical_json",
    "environment_for",
    "mapped",
]

T = TypeVar("T")
CHECKPOINTS = {"checkpoint.pt", "checkpoint.previous.pt"}
KEPT_ON_RETRY = {"spec.json", "lock", "log.txt", "steps.jsonl", "course.npz", "at", *CHECKPOINTS}
Maps = Sequence[tuple[str, str]]  # where a folder lies for whoever plans, and where for whoever computes
PLACES = ("folder", "weights")  # what is a path in a spec's `where`
NOT_HASHED = {"lock", "log.txt", "result.json", "error.json", *CHECKPOINTS}
SHARED = "shared.json"  # in the folder of a store on which several machines work; from then on leases lock it


class DamagedStageError(InputError):
    """A finished stage is not as it was written; made anew, it is."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class StageLockedError(RuntimeError):
    """Another process works on this stage."""


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Spec:
    """What a stage is: everything that its bytes depend on, and where its outside input lies (not hashed)."""

    stage: str
    version: int
    options: Mapping[str, object]  # plain JSON values; see `benchmark.artifacts.options`
    inputs: Mapping[str, str] = field(default_factory=dict)  # role -> key of the stage that fills it
    runtime: Runtime = field(default_factory=Runtime)
    where: Mapping[str, str] = field(default_factory=dict)
    # Numerics checks that must be done before. They are not hashed: what they found is, as part of `runtime`.
    checks: Sequence[str] = ()

    @property
    def needs(self) -> set[str]:
        """Keys of the stages that must be done before this one."""
        return {*self.inputs.values(), *self.checks}

    def options_as(self, kind: type[T]) -> T:
        """The options as those of its stage. The key is their hash, so they are as a plan wrote them."""
        return cast(T, self.options)

    @cached_property
    def key(self) -> str:
        """`stage-` and 12 hexadecimal digits."""
        hashed = ("stage", "version", "options", "inputs", "runtime")
        content = {name: getattr(self, name) for name in hashed}
        return f"{self.stage}-{text_sha256(canonical_json(content))[:12]}"


def environment_for(spec: Spec) -> dict[str, str]:
    """Environment variables that a process must start with to compute this stage."""
    instructions = spec.runtime.get("remedy", {}).get("instructions")
    variables = {INSTRUCTION_LIMIT: instructions} if instructions else {}
    if spec.runtime.get("deterministic") and spec.runtime.get("device") == "cuda":
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it, cuBLAS computes in no order
    return variables


class Store:
    """The stages of one `runs/` folder.

    `maps` says where folders outside of it lie that its specs name: here, by where they lie for whoever planned.
    """

    def __init__(self, root: Path, locks: Locks | None = None, maps: Maps = ()) -> None:
        self.root = root
        self.stages = root / "stages"
        self._own_locks = locks
        self._maps = maps
        self._read: dict[str, tuple[tuple[int, int, int], StageResult]] = {}  # with what told that a file is the same

    @property
    def shared_id(self) -> str | None:
        """By what machines know that they see the same folder; None while one machine works alone. Raises OSError."""
        try:
            return str(json.loads((self.root / SHARED).read_text(encoding="utf-8"))["id"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def share(self) -> None:
        """Let several machines work on it, from now on."""
        if self.shared_id is None:
            write_text(self.root / SHARED, json.dumps({"id": uuid.uuid4().hex}))

    def folder(self, key: str) -> Path:
        """Where a stage's files are."""
        return self.stages / key

    def find(self, key: str) -> str:
        """The full key for a full key or the unambiguous start of one. Raises InputError."""
        matches = sorted(path.name for path in self.stages.glob("*-*") if path.name.startswith(key))
        if len(matches) != 1 and key not in matches:
            what = f"is ambiguous ({', '.join(matches)})" if matches else "is no stage there"
            raise InputError(f"{self.stages}: {key!r} {what}; a run plans its stages, --dry-run lists them")
        return key if key in matches else matches[0]

    def plan(self, spec: Spec) -> None:
        """Write the stage's `spec.json`, so that `stage KEY` can run it in any process.

        Places in the folder that holds `runs/` are relative to it, so that another machine may see it elsewhere.
        """
        base = self.root.resolve().parent
        content = asdict(spec)
        for name in spec.where.keys() & PLACES:
            place = Path(spec.where[name]).resolve()
            content["where"][name] = str(place.relative_to(base) if place.is_relative_to(base) else place)
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()
        path = self.folder(spec.key) / "spec.json"
        # The location may move between runs while the content, and so the key, stays.
        if not path.is_file() or path.read_bytes() != text:
            write_bytes(path, text)

    def spec(self, key: str) -> Spec:
        """The spec that `plan` wrote. Raises InputError."""
        path, base = self.folder(key) / "spec.json", self.root.resolve().parent
        try:
            spec = Spec(**json.loads(path.read_text(encoding="utf-8")))
            where = {
                name: mapped(base / place, self._maps) if name in PLACES else place
                for name, place in spec.where.items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a stage specification ({error}); plan it again with 'run'") from None
        if spec.key != key:
            raise InputError(f"{path}: was edited: its content belongs to {spec.key}; remove the folder and run again")
        return replace(spec, where=where)

    def result(self, key: str) -> StageResult | None:
        """The content of `result.json`, or None while the stage is not done, has lost a file or a part of one."""
        try:
            return self.sound_result(key)
        except InputError:
            return None

    def sound_result(self, key: str) -> StageResult | None:
        """The same for whoever makes nothing anew: what is torn or of another size is told. Raises InputError."""
        folder = self.folder(key)
        try:
            facts = (folder / "result.json").stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        state = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        known = self._read.get(key)
        result = known[1] if known and known[0] == state else read_json(folder / "result.json", StageResult)
        self._read[key] = (state, result)
        for name, entry in result["files"].items():
            if not (folder / name).is_file():
                return None
            if (folder / name).stat().st_size != entry["bytes"]:
                raise InputError(f"{folder / name}: changed since its stage wrote it; {REMEDY}")
        return result

    def discard_damaged(self, key: str) -> str | None:
        """Compare every file of a finished stage with its hash; undo the stage and name the first that differs."""
        folder, result = self.folder(key), self.result(key)
        for name, facts in (result["files"] if result else {}).items():
            if file_sha256(folder / name, None) != facts["sha256"]:
                self.undo(key)
                return str(folder / name)
        return None

    def undo(self, key: str) -> None:
        """Take back that a stage is done, so that the next run makes it anew."""
        (self.folder(key) / "result.json").unlink(missing_ok=True)

    def done(self, key: str) -> bool:
        """Whether the stage has a result and all of its files."""
        return self.result(key) is not None

    def error(self, key: str) -> StageError | None:
        """The content of `error.json` of a stage that failed and was not retried, or None where it cannot be read."""
        try:
            return self.sound_error(key)
        except InputError:
            return None

    def sound_error(self, key: str) -> StageError | None:
        """The same for whoever does not try again. Raises InputError where there is one that cannot be read."""
        path = self.folder(key) / "error.json"
        return read_json(path, StageError) if path.is_file() else None

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the stage alone. Raises StageLockedError."""
        path, leases = self.folder(key) / "lock", LeaseLocks(self.root / "leases")
        locks = self._own_locks or (FileLocks() if self.shared_id is None else leases)
        with ExitStack() as held:
            try:
                alone = held.enter_context(locks.hold(path, wait=False))
            except NoLocksError:  # whoever else works in this folder finds the same
                alone = held.enter_context(leases.hold(path, wait=False))
            if not alone:
                raise StageLockedError(f"{key}: another process works on this stage")
            yield

    def clear(self, key: str) -> None:
        """Remove what an earlier attempt left, but for its log and checkpoint."""
        for path in self.folder(key).iterdir():
            if path.name not in KEPT_ON_RETRY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def finish(self, key: str, values: Mapping[str, object], facts: Mapping[str, object]) -> None:
        """Write `result.json`: the stage's values, facts about the run, and every file's size and SHA-256."""
        folder = self.folder(key)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_HASHED)
        for path in paths:
            _flush(path)
        files = {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_sha256(path, None)}
            for path in paths
        }
        result = {"values": values, "facts": facts, "files": files}
        write_text(folder / "result.json", json.dumps(result, indent=1, sort_keys=True, allow_nan=False))
        for name in CHECKPOINTS:  # the finished stage needs them no more
            (folder / name).unlink(missing_ok=True)

    def fail(self, key: str, message: str, traceback: str) -> None:
        """Write `error.json`; a re-run retries."""
        content = {"message": message, "traceback": traceback}
        write_text(self.folder(key) / "error.json", json.dumps(content, indent=1))


def mapped(path: Path, maps: Maps) -> str:
    """Where a path lies under the first of the mounts that it is in."""
    for here, there in maps:
        if path.is_relative_to(here):
            return str(Path(there) / path.relative_to(here))
    return str(path)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
