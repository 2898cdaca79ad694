"""The MLflow mirror: parent run = protocol run, child runs = cells. The only user of mlflow.

Local files are the truth; the mirror is written from results.json by the parent process and can be rebuilt at any time.
"""

import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what goes wrong is raised, too, and told in one line
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; by default a dead server takes many minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from benchmark.artifacts.locks import FileLocks
from benchmark.artifacts.reading import read_steps
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import canonical_json
from benchmark.claims.realism import THRESHOLDS
from benchmark.metrics.gain import GAIN
from benchmark.report.exports import flatten
from benchmark.report.tracking import named_tracker
from benchmark.results.format import CellResult, Results
from benchmark.results.run_folder import load_run
from vesselgan.files import atomic_path, text_sha256

__all__ = [
    "answer_metrics",
    "cell_params",
    "compare_url",
    "database",
    "experiments_url",
    "open_client",
    "store_uri",
    "sync",
]

CURVE_POINTS = 200  # per curve: enough to see it, few enough for a page that opens fast
BATCH = 500  # metrics per request, below MLflow's limit
AXES = ("label", "family", "variant", "norm", "precision", "filters", "batch", "seed", "recipe")
_QUOTED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%?#"})  # signs that mean something in an address
CELL, CONTENT = "benchmark.cell", "benchmark.content"
BUSY_S = 5  # that another program may hold the database
# What SQLite says of a file that no waiting and no permission would mend.
UNUSABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}


def store_uri(out: Path) -> str:
    """The database under `out`."""
    return _address(database(out))


def open_client(out: Path) -> MlflowClient:
    """MLflow on the server or database that the environment names, or else on the database under `out`."""
    return MlflowClient(named) if (named := named_tracker()) else _client(database(out))


def _client(path: Path) -> MlflowClient:
    """MLflow on this database.

    It makes the folder of an address as it is written: where that is quoted, an empty one that is taken away again.
    """
    client = MlflowClient(_address(path))
    written = Path(_address(path).removeprefix("sqlite:///")).parent
    if written != path.parent:
        for folder in (written, *written.parents):
            try:
                folder.rmdir()
            except OSError:  # not empty: the first folder that both addresses share
                break
    return client


def _address(path: Path) -> str:
    return f"sqlite:///{str(path).translate(_QUOTED)}"


def database(out: Path) -> Path:
    """The database under `out`, whole: made where there is none, and made anew where MLflow could not use it.

    Which is so of one that is damaged, that was half made when its maker was killed, or whose schema is another
    MLflow's. It is set aside, since somebody may have written notes into it.
    """
    path = (out / "runs" / "mlflow.db").resolve()
    with FileLocks().hold(path.with_name("mlflow.db.lock"), wait=True):
        if path.exists() and (reason := _why_unusable(path)):
            aside = next(
                place for number in range(1, 10_000) if not (place := path.with_name(f"mlflow.db.{number}")).exists()
            )
            for ending in ("-journal", "-wal", "-shm", ""):  # the file itself last: without them it is another one
                if (part := Path(f"{path}{ending}")).exists():
                    part.replace(f"{aside}{ending}")
            print(
                f"warning: {path}: {reason}; it is now {aside.name}, and a new one takes its place: 'sync RUN' shows "
                "the other runs there again",
                file=sys.stderr,
            )
        if not path.exists():
            for left in path.parent.glob(".*.mlflow.db*"):
                left.unlink()
            with atomic_path(path) as temporary:  # a schema is made in many steps
                _client(temporary).search_experiments()
    return path


def _why_unusable(path: Path) -> str | None:
    """Seen before MLflow opens it, which would try for minutes. Raises sqlite3.Error where it may only be busy."""
    head = ScriptDirectory(str(files("mlflow") / "store/db_migrations")).get_current_head()
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                return f"is damaged ({state})"
            versions = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in UNUSABLE:
            raise
        return f"cannot be used ({error})"
    if versions != [head]:
        return f"has the schema {', '.join(versions) or 'of none'}, where this MLflow has {head}"
    return None


def sync(out: Path, name: str, results: Results) -> None:
    """Make MLflow show the run `name`: cells whose content is there already are left alone, others written anew."""
    with FileLocks().hold(out / "runs" / "mlflow.lock", wait=True):  # one process at a time writes
        _sync(out, name, results)


def _sync(out: Path, name: str, results: Results) -> None:
    client = open_client(out)
    experiment = client.get_experiment_by_name(name)
    # A server keeps them where it likes.
    artifacts = None if named_tracker() else (out / "runs" / "mlflow-artifacts").resolve().as_uri()
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, artifacts)
    known = {run.data.tags.get(CELL, ""): run for run in _runs(client, experiment_id)}
    settings = {"protocol": results["protocol"], "profile": results["profile"], "data": results["data"]["description"]}
    facts = {name: value for name, value in results["environment"].items() if name != "numerics"}
    environment = {f"environment.{key}": str(value) for key, value in flatten(facts)}
    environment["numerics"] = " ".join(results["numerics"])
    parent = _Content("", name, settings, answer_metrics(results), environment)
    parent_id = _mirror(client, experiment_id, known, parent)
    run = load_run(out, name)
    for record, cell in zip(run.cells, results["cells"], strict=True):
        params = cell_params(cell)
        metrics = [(key, entry["value"], 0) for key, entry in cell["metrics"].items() if entry["value"] is not None]
        metrics += _curves(run.file(record, Role.GAN, "steps.jsonl"), "gan")
        metrics += _curves(run.file(record, Role.UNET, "steps.jsonl"), "unet")
        tags = {MLFLOW_PARENT_RUN_ID: parent_id, "status": cell["status"]}
        content = _Content(cell["id"], cell["id"], params, metrics, tags, cell["status"], cell["seconds"])
        _mirror(client, experiment_id, known, content)
    gone = known.keys() - {cell["id"] for cell in results["cells"]} - {""}
    for cell_id in gone:
        client.delete_run(known[cell_id].info.run_id)


def cell_params(cell: CellResult) -> dict[str, object]:
    """What a cell is: its axes, every option of its recipe, and what its privacy rests on."""
    facts: Mapping[str, object] = cell
    params = {key: facts[key] for key in AXES}
    params |= {f"recipe.{key}": value for key, value in cell["recipe_options"].items()}
    return params | {f"privacy.{key}": value for key, value in (cell["privacy"] or {}).items()}


def answer_metrics(results: Results) -> list[tuple[str, float, int]]:
    """Each label's shares of the real gain and its distances from the floor, as metrics of the whole run."""
    values = {f"{GAIN}/{gain['metric'].partition('/')[2]}/{gain['label']}": gain["value"] for gain in results["gain"]}
    for label, entry in (results["realism"]["labels"] if results["realism"] else {}).items():
        values |= {f"{name}/{label}": entry[name] for name in THRESHOLDS}
    # MLflow takes letters, digits and few signs; a label may be `real n=1 + SN`.
    return [(re.sub(r"[^\w./: -]", "_", key), value, 0) for key, value in values.items() if value is not None]


def experiments_url(port: int) -> str:
    """The page that lists all runs."""
    return f"http://127.0.0.1:{port}/#/experiments"


def compare_url(out: Path, name: str, port: int) -> str:
    """The page that compares the cells of a run."""
    base = f"http://127.0.0.1:{port}/#"
    client = open_client(out)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return base
    runs = [run.info.run_id for run in _runs(client, experiment.experiment_id) if run.data.tags.get(CELL)]
    experiments = json.dumps([experiment.experiment_id])
    return f"{base}/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(experiments)}"


@dataclass(frozen=True)
class _Content:
    """What MLflow is to show of a cell, or of the whole run, which is no cell."""

    cell: str
    name: str
    params: Mapping[str, Any]
    metrics: list[tuple[str, float, int]]  # name, value, step
    tags: Mapping[str, str]
    status: str = "done"
    seconds: float = 0.0

    @property
    def sha256(self) -> str:
        """Of all that, if it changes, is written anew."""
        return text_sha256(canonical_json([self.params, self.metrics, self.tags, self.status]))


def _mirror(client: MlflowClient, experiment_id: str, known: Mapping[str, Run], content: _Content) -> str:
    """Write one run, unless the same content is there; return its id."""
    now_ms = int(time.time() * 1000)
    old = known.get(content.cell)
    if old and old.data.tags.get(CONTENT) == content.sha256:
        return str(old.info.run_id)
    if old and not content.cell:  # children point to their parent, so it is kept
        run_id = str(old.info.run_id)
    else:
        if old:
            client.delete_run(old.info.run_id)
        run_tags = {MLFLOW_RUN_NAME: content.name, CELL: content.cell}
        started_ms = now_ms - int(1000 * content.seconds)  # so that the duration is the cell's, not the mirror's
        run_id = str(client.create_run(experiment_id, started_ms, run_tags).info.run_id)
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in content.params.items()])
    for start in range(0, len(content.metrics), BATCH):
        part = content.metrics[start : start + BATCH]
        client.log_batch(run_id, metrics=[Metric(key, value, now_ms, step) for key, value, step in part])
    # The hash comes last: a run that was cut short is written again.
    tags = {**content.tags, CONTENT: content.sha256}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    client.set_terminated(run_id, "FINISHED" if content.status == "done" else "FAILED")
    return run_id


def _runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    runs: list[Run] = list(client.search_runs([experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=5000))
    return [run for run in reversed(runs) if CELL in run.data.tags]  # in the order in which they were written


def _curves(path: Path | None, prefix: str) -> list[tuple[str, float, int]]:
    """About CURVE_POINTS evenly spaced points of every reading in a step record."""
    if path is None:
        return []
    points: dict[str, list[tuple[str, float, int]]] = {}
    for step in read_steps(path):
        number = int(step["step"] or 0)
        for key, value in step.items():
            if key != "step" and value is not None:
                points.setdefault(key, []).append((f"{prefix}/{key}", value, number))
    # Some readings are taken at few of the steps, so each curve is thinned by itself.
    return [point for curve in points.values() for point in curve[:: max(1, len(curve) // CURVE_POINTS)]]
