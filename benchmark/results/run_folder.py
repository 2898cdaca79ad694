"""A run folder: which cells it has, and what their finished stages say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from benchmark.artifacts.options import RecipeValue
from benchmark.artifacts.reading import REMEDY, as_kind, read_json, refuse_changed
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import DamagedStageError, Store
from benchmark.artifacts.values import NumericsCheck, PreparedValues, StageEnvironment, StageResult
from benchmark.environment import Environment
from benchmark.scoring.conventions import BothEmpty
from vesselgan.errors import InputError

__all__ = [
    "CellFacts",
    "CellRecord",
    "DataFacts",
    "PublishedValue",
    "Run",
    "RunEnvironment",
    "RunPlan",
    "Settings",
    "Status",
    "UNetSettings",
    "load_run",
    "run_names",
]

T = TypeVar("T")
Status = Literal["done", "failed", "unfinished"]


@with_config(ConfigDict(allow_inf_nan=False))
class CellFacts(TypedDict):
    """A cell as it was planned: fields of `benchmark.protocol.cells.Cell`. Earlier runs lack those of later arms."""

    id: str
    label: str
    seed: int
    recipe_name: str
    recipe: dict[str, RecipeValue]
    variant: str | None
    norm: str | None
    precision: str | None
    filters: int | None
    batch: int | None
    family: NotRequired[str | None]
    external: NotRequired[str | None]
    real_subjects: NotRequired[int | None]
    mixed_with: NotRequired[str | None]
    untrained: NotRequired[str | None]
    simulated: NotRequired[bool]


class CellRecord(TypedDict):
    """A file of `cells/`: the cell and the keys of its stages by role."""

    cell: CellFacts
    stages: dict[str, str]


class DataFacts(TypedDict):
    """What a run is on; `mispaired` subjects had the label of another one under D6."""

    description: str
    phantom: bool
    sha256: NotRequired[str]
    mispaired: NotRequired[int]


@with_config(ConfigDict(allow_inf_nan=False))
class PublishedValue(TypedDict):
    """A number that somebody published, and where."""

    value: float
    source: str


@with_config(ConfigDict(extra="allow", allow_inf_nan=False))
class SettingsPart(TypedDict):
    """What a profile says, as far as others read it: the rest is passed on whole."""


class ScoreSettings(SettingsPart, total=False):
    """Of the distances."""

    weights: str | None


class AugmentationSettings(SettingsPart, total=False):
    """Of the U-Nets' patches."""

    flips: list[str]
    rotation: float
    gamma: float
    contrast: float
    brightness: float
    noise: float


class UNetSettings(SettingsPart, total=False):
    """Of the U-Nets."""

    steps: int
    batch: int
    validate_every: int
    patience: int
    ema: float | None
    threshold: float | Literal["validation"]
    augmentation: AugmentationSettings | None


class Settings(SettingsPart, total=False):
    """A profile, as far as others read it; every option of it is there, see the JSON Schema of protocols.

    Earlier runs lack options that came later.
    """

    about: str
    split: dict[str, int]  # subjects, and the seed
    patch: list[int]
    pairs: int
    threads: int
    ema: float | None
    score: ScoreSettings
    unet: UNetSettings
    families: dict[str, dict[str, object]]


class RunPlan(TypedDict):
    """`run.json`: the protocol as it was resolved for this run."""

    protocol: str
    profile: str
    title: str
    about: NotRequired[str]
    only: NotRequired[Literal["costs"] | None]
    data: DataFacts
    device: str
    settings: Settings
    cells: list[str]
    metrics: NotRequired[Mapping[str, Mapping[str, object]]]  # options of those asked for; later than the first runs
    vessels: NotRequired[Sequence[int] | None]  # values of label maps; None where labels are masks
    both_empty: NotRequired[BothEmpty]  # what a segmentation counts in which there is nothing to compare
    claims: list[dict[str, object]]  # of the protocol's language, see `benchmark.protocol.claim`
    reference: dict[str, PublishedValue]


class RunEnvironment(Environment):
    """`environment.json`: the machine, and what the numerics checks found on it."""

    numerics: NotRequired[list[NumericsCheck]]


@dataclass(frozen=True, eq=False)
class Run:
    """The cells of one run folder with what their finished stages say.

    Where a file is torn, changed or of another type, whatever asks for it raises InputError: DamagedStageError where it
    is a stage's. `is_running` is for a run that goes on, in which what is damaged counts as not made.
    """

    store: Store
    folder: Path
    environment: RunEnvironment
    plan: RunPlan
    cells: Sequence[CellRecord]
    is_running: bool = False
    _sound: set[tuple[Path, int, int]] = field(default_factory=set, init=False, repr=False)  # files, with size and time
    _results: dict[str, StageResult | None] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, folder: Path, *, is_running: bool = False) -> "Run":
        """Read a run folder, with the stages beside it. Raises InputError."""
        plan = read_json(folder / "run.json", RunPlan)
        cells = [_record(folder / "cells" / f"{cell}.json", cell) for cell in plan["cells"]]
        environment = read_json(folder / "environment.json", RunEnvironment)
        return cls(Store(folder.parent), folder, environment, plan, cells, is_running)

    @property
    def name(self) -> str:
        """Of its folders under `runs/` and `reports/`."""
        return self.folder.name

    def values(self, record: CellRecord, role: str, kind: type[T]) -> T | None:
        """The values of a cell's stage as their kind, or None where it is not done."""
        key = record["stages"].get(role)
        result = self._result(key) if key else None
        if key is None or result is None:
            return None
        values, path = result["values"], self.store.folder(key) / "result.json"
        return self._told(key, lambda: as_kind(values, kind, path, "values"))

    def first_values(self, role: str, kind: type[T]) -> T | None:
        """Those of the first cell that has them, of a stage that all cells share."""
        found = (values for record in self.cells if (values := self.values(record, role, kind)) is not None)
        return next(found, None)

    def file(self, record: CellRecord, role: str, name: str) -> Path | None:
        """A file of a cell's finished stage, with the content that the stage gave it; None where there is none."""
        key = record["stages"].get(role)
        result = self._result(key) if key else None
        if key is None or result is None or name not in result["files"]:
            return None
        path, sha256 = self.store.folder(key) / name, result["files"][name]["sha256"]
        return self._told(key, lambda: self._unchanged(path, sha256))

    def files(self, record: CellRecord, role: str, folder: str) -> Path | None:
        """A folder of a cell's finished stage, every file of it as the stage left it; None where there is none."""
        key = record["stages"].get(role)
        result = self._result(key) if key else None
        names = [name for name in result["files"] if name.startswith(f"{folder}/")] if result else []
        for name in names:
            self.file(record, role, name)
        return self.store.folder(key) / folder if key and names else None

    def seconds(self, record: CellRecord) -> dict[str, float]:
        """Wall time of each of the cell's finished stages by role, those shared with other cells included."""
        results = {role: self._result(key) for role, key in record["stages"].items()}
        return {role: round(float(result["facts"]["seconds"]), 1) for role, result in results.items() if result}

    def subjects(self) -> Mapping[str, int]:
        """Subjects per split as prepared, or as planned where the data stage has not finished."""
        prepared = self.first_values(Role.DATA, PreparedValues)
        if prepared is None:
            return self.plan["settings"].get("split", {})
        return prepared.get("people", prepared["subjects"])

    def persons(self) -> Mapping[str, str]:
        """Whose scan a subject is, of those people who have several."""
        prepared = self.first_values(Role.DATA, PreparedValues)
        return prepared.get("persons", {}) if prepared else {}

    def status(self, record: CellRecord) -> Status:
        """Of a cell: all of its stages are done, one has failed, or neither."""
        if all(self._result(key) for key in record["stages"].values()):
            return "done"
        return "failed" if self.failure(record) else "unfinished"

    def failure(self, record: CellRecord) -> str | None:
        """The message of the first stage of the cell that failed."""
        for role, key in record["stages"].items():
            if self._result(key):
                continue
            if error := self.store.error(key) if self.is_running else self.store.sound_error(key):
                return f"{role}: {error['message']}"
        return None

    def stage_environment(self, key: str) -> StageEnvironment | None:
        """Where a finished stage was computed; None where it is not done, or of a version that did not say."""
        result = self._result(key)
        return result["facts"].get("environment") if result else None

    def _result(self, key: str) -> StageResult | None:
        if self.is_running:
            return self._told(key, lambda: self.store.sound_result(key))
        if key not in self._results:
            self._results[key] = self._told(key, lambda: self.store.sound_result(key))
        return self._results[key]

    def _unchanged(self, path: Path, sha256: str) -> Path:
        state = (path, path.stat().st_size, path.stat().st_mtime_ns)
        if state not in self._sound:
            refuse_changed(path, sha256, self.store.root / "fingerprints")
            self._sound.add(state)
        return path

    def _told(self, key: str, read: Callable[[], T]) -> T | None:
        """What is read of a stage; where that fails, whose it is."""
        try:
            return read()
        except InputError as error:
            if self.is_running:
                return None
            raise DamagedStageError(key, str(error)) from None


def load_run(out: Path, name: str, *, is_running: bool = False) -> Run:
    """The run folder `runs/NAME`. Raises InputError where there is none, or one that is damaged."""
    folder = out / "runs" / name
    if not (folder / "run.json").is_file():
        known = run_names(out / "runs") or "none"
        raise InputError(f"{folder}: no run there; runs here: {known} (--out names another folder)")
    return Run.open(folder, is_running=is_running)


def run_names(runs: Path) -> str:
    """The runs in this folder, with commas between; empty where there is none."""
    return ", ".join(sorted(path.parent.name for path in runs.glob("*/run.json")))


def _record(path: Path, cell: str) -> CellRecord:
    record = read_json(path, CellRecord)
    if record["cell"]["id"] != cell:
        raise InputError(f"{path}: is of cell {record['cell']['id']}; {REMEDY}")
    return record
