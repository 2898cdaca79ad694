"""`results.json` of any format that there was, as far as two runs are compared by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from benchmark.artifacts.reading import as_kind, read_json
from benchmark.artifacts.values import NumericsFault
from benchmark.results.format import FORMAT
from benchmark.results.run_folder import Settings, run_names
from vesselgan.errors import InputError

__all__ = ["EarlierCell", "EarlierCheck", "EarlierResults", "EarlierValue", "FoundResults", "find_results"]


class EarlierValue(TypedDict):
    """A metric of a cell."""

    value: float | None
    n: int
    ci_low: NotRequired[float | None]
    ci_high: NotRequired[float | None]
    reason: NotRequired[str | None]
    extractor: NotRequired[str]
    reference: NotRequired[str]
    busy: NotRequired[str]


class EarlierCell(TypedDict):
    """A cell; of the first runs without its stages."""

    id: str
    label: str
    seed: int
    status: str
    error: NotRequired[str | None]
    recipe_options: NotRequired[dict[str, object]]
    norm: NotRequired[str | None]
    precision: NotRequired[str | None]
    filters: NotRequired[int | None]
    batch: NotRequired[int | None]
    stages: NotRequired[dict[str, str]]
    metrics: dict[str, EarlierValue]


class EarlierRow(TypedDict):
    """A metric of a subject; of the first runs without its split, which was the test's."""

    cell: str
    subject: str
    metric: str
    value: float | None
    split: NotRequired[str]


class EarlierClaim(TypedDict):
    """A claim with its verdict."""

    name: str
    verdict: str
    must_hold: NotRequired[bool]


class EarlierCheck(TypedDict):
    """A numerics check; without faults where all was right."""

    network: str
    precision: str
    faults: NotRequired[list[NumericsFault]]


class EarlierMachine(TypedDict, total=False):
    """What computed."""

    cpu: str
    gpu: str
    cores: int


class EarlierEnvironment(TypedDict, total=False):
    """Where numbers come from, and what the numerics checks found there."""

    machine: EarlierMachine
    commit: str | None
    dirty: bool | None
    numerics: list[EarlierCheck]


class EarlierPrepared(TypedDict, total=False):
    """Of the data: whose scan a subject is, where somebody has several."""

    persons: dict[str, str]


class EarlierResults(TypedDict):
    """What every format has, and what is compared where both sides have it."""

    format: NotRequired[int]
    protocol: str
    profile: str
    data: dict[str, object]
    environment: EarlierEnvironment
    settings: Settings
    cells: list[EarlierCell]
    subjects: list[EarlierRow]
    claims: list[EarlierClaim]
    split: NotRequired[dict[str, int]]
    prepared: NotRequired[EarlierPrepared | None]
    numerics: NotRequired[list[str]]
    conditions: NotRequired[list[str]]
    is_trial: NotRequired[bool]


@dataclass(frozen=True)
class FoundResults:
    """The content of a `results.json`, and where it stands."""

    path: Path
    results: EarlierResults

    @property
    def format(self) -> int:
        """0 is what came before there was a number."""
        return self.results.get("format", 0)


def find_results(source: str, out: Path) -> FoundResults:
    """Of a run by its name under `out`, of a folder with its report or its run, or of the file itself.

    Raises InputError: nothing there, several, damaged, of a later format, or of something else than a run.
    """
    path = _path(source, out)
    content = read_json(path, dict[str, object])
    number = content.get("format", 0)
    if not isinstance(number, int) or number > FORMAT:
        raise InputError(f"{path}: has format {number}, and this program reads up to {FORMAT}; update the program")
    if missing := [name for name in ("protocol", "profile", "cells", "settings") if name not in content]:
        raise InputError(f"{path}: is not of a run (it has no {missing[0]}); name a run or its report")
    return FoundResults(path, as_kind(content, EarlierResults, path))


def _path(source: str, out: Path) -> Path:
    place = Path(source)
    if place.is_file():
        return place
    for folder in (out / "reports" / source, place, place.parent.parent / "reports" / place.name):
        if (folder / "results.json").is_file():
            return folder / "results.json"
    inside = sorted(path for path in place.glob("reports/*/results.json") if _is_of_a_run(path))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(path.parent) for path in inside)
        raise InputError(f"{source}: holds several reports ({names}); name one of them")
    for runs, name in ((out / "runs", source), (place.parent, place.name)):
        if (runs / name / "run.json").is_file():
            raise InputError(f"{runs / name}: has no report yet; 'report {name} --out {runs.parent}' writes it")
    known = run_names(out / "runs") or "none"
    raise InputError(f"{source}: no run of {out} (there: {known}), no folder with a report, and no results.json")


def _is_of_a_run(path: Path) -> bool:
    content: Mapping[str, object] = read_json(path, dict[str, object])
    return "profile" in content
