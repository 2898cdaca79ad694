"""What MLflow is to show of a run and of each cell: values, tags, notes, files, models. It knows no MLflow."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from benchmark.artifacts.options import RecipeValue
from benchmark.artifacts.reading import read_json, read_steps
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import canonical_json
from benchmark.artifacts.values import StageResult, UNetValues
from benchmark.claims.realism import THRESHOLDS, realism_of
from benchmark.metrics.gain import GAIN
from benchmark.report.exports import flatten
from benchmark.report.mlflow_words import cell_note, dataset_facts, environment_tags, filter_tags, run_note
from benchmark.results.format import CellResult, Results
from benchmark.results.run_folder import CellRecord, Run, Status
from vesselgan.files import file_sha256, text_sha256
from vesselgan.settings.wgan import WGANOptions

__all__ = ["Artifact", "Content", "Model", "Point", "answer_metrics", "cell_params", "contents_of"]

Point = tuple[str, float, int]  # name, value, step
CURVE_POINTS = 200  # per curve: enough to see it, few enough for a page that opens fast
AXES = ("label", "family", "variant", "norm", "precision", "filters", "batch", "seed", "recipe")
# Options of a profile that say how it is planned, or of arms that a cell is not.
NOT_OF_A_CELL = ("about", "trial", "requires", "matrix", "arms", "baselines", "dp", "losses", "families", "recipe")
OF_GENERATORS = {*(option.name for option in fields(WGANOptions)), "pairs"} - {"batch", "filters"}
REPORT = (
    "index.html",
    "results.json",
    "summary.txt",
    "table.md",
    "cells.csv",
    "groups.csv",
    "subjects.csv",
    "claims.csv",
)


@dataclass(frozen=True)
class Artifact:
    """A file that MLflow keeps a copy of: its place there, the hash of what decides it, and what writes it."""

    place: str
    sha256: str
    write: Callable[[Path], object]


@dataclass(frozen=True)
class Model:
    """A trained network: which of the two, the stage that made it, and the files that it is loaded from."""

    kind: Literal["generator", "unet"]
    stage: str
    sha256: str  # of the weights
    files: Sequence[Path]
    patch: Sequence[int]
    recipe: Mapping[str, RecipeValue]  # which also says how a generator makes pairs


@dataclass(frozen=True)
class Content:
    """Of a cell, or of the whole run, which is no cell. `span`: when it began, and how long it took, in seconds."""

    cell: str
    name: str
    params: Mapping[str, object]
    metrics: Sequence[Point]
    tags: Mapping[str, str]
    note: str
    status: Status
    span: tuple[float, float]
    data: Mapping[str, str]
    artifacts: Sequence[Artifact] = ()
    models: Sequence[Model] = ()
    system: Sequence[Point] = ()
    system_times: Mapping[int, float] = field(default_factory=dict)  # step -> seconds since 1970

    @property
    def sha256(self) -> str:
        """Of all that, if it changes, is written anew."""
        files = [[each.place, each.sha256] for each in self.artifacts] + [
            [each.kind, each.sha256] for each in self.models
        ]
        values = [self.params, self.metrics, self.system, self.tags, self.note, self.status, self.data, files]
        return text_sha256(canonical_json(values))


def contents_of(run: Run, results: Results, report: Path) -> Iterator[Content]:
    """The whole run, then its cells; `report` is the folder of its page and tables."""
    cells = results["cells"]
    tags = filter_tags(results)
    times = [_times(run, record) for record in run.cells]
    planned = (run.folder / "run.json").stat().st_mtime
    data = dataset_facts(results)
    drawn = [figure for figure in (_prd(run, results),) if figure]
    statuses = {cell["status"] for cell in cells}
    system, times_of_system = _system(run)
    yield Content(
        cell="",
        name=run.name,
        params={"data": results["data"]["description"]} | dict(_settings(results)),
        metrics=[*_run_metrics(results), *answer_metrics(results)],
        tags=tags | environment_tags(results) | {"level": "run"},
        note=run_note(results),
        status="failed" if "failed" in statuses else "unfinished" if "unfinished" in statuses else "done",
        span=_span([time for of_cell in times for time in of_cell], planned),
        data=data,
        system=system,
        system_times=times_of_system,
        artifacts=[*(_copy(report / name, f"report/{name}") for name in REPORT if (report / name).is_file()), *drawn],
    )
    for record, cell, of_cell in zip(run.cells, cells, times, strict=True):
        yield Content(
            cell=cell["id"],
            name=cell["id"],
            params=cell_params(cell) | _options(cell, results),
            metrics=[*_values(cell, results), *_courses(run, record)],
            tags=tags | {"level": "cell", "status": cell["status"], "variant": cell["variant"] or cell["label"]},
            note=cell_note(cell, results),
            status=cell["status"],
            span=_span(of_cell, planned),
            data=data,
            artifacts=[each for each in (_prd(replace(run, cells=[record]), results), _samples(run, record)) if each],
            models=list(_models(run, record, results["settings"].get("patch", ()))),
        )


def cell_params(cell: CellResult) -> dict[str, object]:
    """What a cell is: its axes, every option of its recipe, and what its privacy rests on."""
    facts: Mapping[str, object] = cell
    params = {key: facts[key] for key in AXES}
    params |= {f"recipe.{key}": value for key, value in cell["recipe_options"].items()}
    return params | {f"privacy.{key}": value for key, value in (cell["privacy"] or {}).items()}


def answer_metrics(results: Results) -> list[Point]:
    """Each label's shares of the real gain and its distances from the floor, as metrics of the whole run."""
    values = {f"{GAIN}/{gain['metric'].partition('/')[2]}/{gain['label']}": gain["value"] for gain in results["gain"]}
    for label, entry in (results["realism"]["labels"] if results["realism"] else {}).items():
        values |= {f"{name}/{label}": entry[name] for name in THRESHOLDS}
    # MLflow takes letters, digits and few signs; a label may be `real n=1 + SN`.
    return [(re.sub(r"[^\w./: -]", "_", key), value, 0) for key, value in values.items() if value is not None]


def _run_metrics(results: Results) -> Iterator[Point]:
    """How many claims have which verdict and cells which status, and what the best label falls short by."""
    told: dict[str, list[str]] = {
        "claims": [claim["verdict"] for claim in results["claims"]],
        "cells": [cell["status"] for cell in results["cells"]],
    }
    for kind, words in told.items():
        yield from ((f"{kind}/{word}", words.count(word), 0) for word in dict.fromkeys(words))
    for region in results["answer"]["regions"] if results["answer"] else []:
        where = region["metric"].partition("/")[2]
        values = {f"gap/{where}": region["difference"], f"{GAIN}/{where}": region["share"]["value"]}
        yield from ((name, value, 0) for name, value in values.items() if value is not None)


def _values(cell: CellResult, results: Results) -> Iterator[Point]:
    """Every metric of a cell, and how far its pairs are from real ones."""
    yield from ((key, entry["value"], 0) for key, entry in cell["metrics"].items() if entry["value"] is not None)
    realism = realism_of([cell], results["floor"])
    if realism:
        entry = realism["labels"][cell["label"]]
        yield from ((name, value, 0) for name in THRESHOLDS if (value := entry[name]) is not None)


def _courses(run: Run, record: CellRecord) -> Iterator[Point]:
    """What was logged while a cell's networks were trained, and the validations of its U-Net."""
    for role, prefix in ((Role.GAN, "gan"), (Role.UNET, "unet")):
        if path := run.file(record, role, "steps.jsonl"):
            yield from _thinned(read_steps(path), prefix)
    if unet := run.values(record, Role.UNET, UNetValues):
        yield from _thinned(
            [{"step": each["step"], "validation_loss": each["validation_loss"]} for each in unet["history"]], "unet"
        )


def _system(run: Run) -> tuple[Sequence[Point], Mapping[int, float]]:
    """What the whole machine did while the run went on here, as MLflow names it, and when each step was."""
    path = run.folder / "system.jsonl"
    if not path.is_file():
        return (), {}
    rows = read_steps(path)
    times = {int(row["step"] or 0): float(row["time"] or 0) for row in rows if "time" in row}
    readings = [{name: value for name, value in row.items() if name != "time"} for row in rows]
    return list(_thinned(readings, "system")), times


def _thinned(rows: Sequence[Mapping[str, int | float | None]], prefix: str) -> Iterator[Point]:
    """About CURVE_POINTS evenly spaced points of every reading in a step record, the last one among them."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step" and value is not None:
                points.setdefault(key, []).append((f"{prefix}/{key}", value, int(row["step"] or 0)))
    for curve in points.values():  # some readings are taken at few of the steps, so each is thinned by itself
        stride = max(1, len(curve) // CURVE_POINTS)
        yield from curve[(len(curve) - 1) % stride :: stride]


def _settings(results: Results) -> Iterator[tuple[str, object]]:
    for name, value in flatten(results["settings"]):
        if value is not None and value != [] and name.partition(".")[0] not in NOT_OF_A_CELL:
            yield name, value


def _options(cell: CellResult, results: Results) -> dict[str, object]:
    """The options of the profile that the cell was made with, but for those that it has of its own."""
    trained = "gan" in cell["stages"]
    return {
        name: value for name, value in _settings(results) if name not in AXES and (trained or name not in OF_GENERATORS)
    } | {"data": results["data"]["description"]}


def _times(run: Run, record: CellRecord) -> list[tuple[str, float, float]]:
    """Key, begin and end of each finished stage of a cell, in seconds since 1970."""
    seconds = run.seconds(record)
    ends = {role: (run.store.folder(record["stages"][role]) / "result.json").stat().st_mtime for role in seconds}
    return [(record["stages"][role], ends[role] - took, ends[role]) for role, took in seconds.items()]


def _span(times: Sequence[tuple[str, float, float]], planned: float) -> tuple[float, float]:
    """When it began, and for how long anything of it was computed: pauses, and what ran at once, count once."""
    covered, until = 0.0, planned if not times else 0.0
    for _, begin, end in sorted(set(times), key=lambda each: each[1]):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return until - covered, covered


def _copy(path: Path, place: str) -> Artifact:
    return Artifact(place, file_sha256(path, None), lambda target: target.write_bytes(path.read_bytes()))


def _prd(run: Run, results: Results) -> Artifact | None:
    """The figure of the cells that `run` has, which may be a part of those in `results`."""
    if not any(run.file(record, Role.SCORE, "prd.npz") for record in run.cells):
        return None
    keys = [record["stages"].get(Role.SCORE) for record in run.cells]
    return Artifact(
        "prd.svg", text_sha256(canonical_json(keys)), lambda target: _pictures().draw_prd(run, results, target)
    )


def _samples(run: Run, record: CellRecord) -> Artifact | None:
    path = run.file(record, Role.PAIRS, "shown.npz")
    if path is None:
        return None
    key = record["stages"][Role.PAIRS]
    return Artifact("samples.png", text_sha256(key), lambda target: _pictures().draw_samples(run, path, target))


def _pictures() -> ModuleType:
    """Plots take a second to import: only what has news pays for them."""
    return import_module("benchmark.report.mlflow_pictures")


def _models(run: Run, record: CellRecord, patch: Sequence[int]) -> Iterator[Model]:
    kinds: tuple[tuple[Literal["generator", "unet"], Role], ...] = (("generator", Role.GAN), ("unet", Role.UNET))
    for kind, role in kinds:
        weights = run.file(record, role, f"{kind}.safetensors")
        facts = run.file(record, role, f"{kind}.json")
        if weights and facts:
            result = read_json(weights.parent / "result.json", StageResult)
            sha256 = result["files"][weights.name]["sha256"]
            yield Model(kind, record["stages"][role], sha256, (weights, facts), tuple(patch), record["cell"]["recipe"])
