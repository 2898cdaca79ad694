"""Contents -> runs of an MLflow experiment, over whatever client: what is there already is left alone.

A cell keeps its MLflow run, with its id and what people wrote into it, also where it changed. A server that only takes
calls cannot have values of a run replaced: there a run that changed is made anew, with people's notes and tags.
"""

import inspect
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.models import Model as MLmodel
from mlflow.models import ModelSignature
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlInput,
    SqlLatestMetric,
    SqlLoggedModel,
    SqlMetric,
    SqlParam,
    SqlRun,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from benchmark.report.mlflow_content import Content, Model
from benchmark.report.mlflow_view import EXPERIMENT_TAGS
from vesselgan.files import text_sha256

__all__ = ["CELL", "keep_artifacts_in", "mirrored_runs", "write_all"]

CELL = "benchmark.cell"
CONTENT, NOTE = "mlflow.benchmark.content", "mlflow.benchmark.note"  # hashes, which the UI hides by this beginning
BATCH = 500  # metrics per request, below MLflow's limit
PARAMS = 100  # per request: MLflow's limit
STATUSES = {"done": "FINISHED", "failed": "FAILED", "unfinished": "SCHEDULED"}
LOADER = "benchmark.trained.mlflow_model"  # what makes a model of the files, with this package installed
MODEL_BYTES = 2**28  # larger weights stay in the run's folder, whose path the model names


def write_all(client: MlflowClient, experiment_id: str, contents: Iterable[Content], until: float = math.inf) -> None:
    """The whole run comes first, since its cells point to it; cells that are no longer there go.

    Raises TimeoutError, between two of them, when the monotonic clock says `until`; what is written by then stays.
    """
    known = {run.data.tags[CELL]: run for run in mirrored_runs(client, experiment_id)}
    tags = dict(client.get_experiment(experiment_id).tags)
    parent_id, left = "", dict(known)
    for content in contents:
        if time.monotonic() > until:
            raise TimeoutError
        if not content.cell:
            _tag_experiment(client, experiment_id, tags, content.note)
        links = {MLFLOW_PARENT_RUN_ID: parent_id} if content.cell else {}
        run_id = _write(client, experiment_id, left.pop(content.cell, None), content, links)
        parent_id = parent_id or run_id
    for run in left.values():
        _delete(client, experiment_id, run.info.run_id)


def keep_artifacts_in(client: MlflowClient, experiment_id: str, folder: str | None) -> None:
    """Let artifacts lie in this folder, which somebody may have moved; None leaves their place to a server."""
    store: Any = client._tracking_client.store
    old = client.get_experiment(experiment_id).artifact_location
    if folder in (None, old) or not isinstance(store, SqlAlchemyStore):
        return
    with _session(store) as session:
        session.query(SqlExperiment).filter_by(experiment_id=int(experiment_id)).update({"artifact_location": folder})
        for table, column in ((SqlRun, "artifact_uri"), (SqlLoggedModel, "artifact_location")):
            for row in session.query(table).filter_by(experiment_id=int(experiment_id)):
                setattr(row, column, f"{folder}{getattr(row, column).removeprefix(old)}")


def mirrored_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    """Those that `write_all` wrote, in that order."""
    found = client.search_runs([experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=5000)
    return [run for run in reversed(list(found)) if CELL in run.data.tags]


def _tag_experiment(client: MlflowClient, experiment_id: str, old: Mapping[str, str], note: str) -> None:
    tags = dict(EXPERIMENT_TAGS) | _noted(old, note)
    for key, value in tags.items():
        if old.get(key) != value:
            client.set_experiment_tag(experiment_id, key, value)


def _noted(old: Mapping[str, str], note: str) -> dict[str, str]:
    """The note, unless a person wrote another one in its place."""
    written = old.get(MLFLOW_RUN_NOTE)
    if written is not None and old.get(NOTE) != text_sha256(written):
        return {}
    return {MLFLOW_RUN_NOTE: note, NOTE: text_sha256(note)}


def _write(
    client: MlflowClient, experiment_id: str, old: Run | None, content: Content, links: Mapping[str, str]
) -> str:
    """Write one run, unless the same content is there; return its id."""
    before = dict(old.data.tags) if old else {}
    same_links = all(before.get(key) == value for key, value in links.items())
    if old and same_links and before.get(CONTENT) == content.sha256:
        return str(old.info.run_id)
    started_ms, took_ms = (round(1000 * seconds) for seconds in content.span)
    if old and _emptied(client, old.info.run_id, started_ms):
        run_id = str(old.info.run_id)
        if CONTENT in before:  # until all is written
            client.delete_tag(run_id, CONTENT)
    else:
        run_tags = {MLFLOW_RUN_NAME: content.name, CELL: content.cell, **_of_people(before)}
        run_id = str(client.create_run(experiment_id, started_ms, run_tags).info.run_id)
        if old:
            _delete(client, experiment_id, old.info.run_id)
    params = [Param(key, str(value)) for key, value in content.params.items() if value is not None]
    for start in range(0, len(params), PARAMS):
        client.log_batch(run_id, params=params[start : start + PARAMS])
    ended_ms = started_ms + took_ms
    metrics = [Metric(key, value, ended_ms, step) for key, value, step in content.metrics]
    times = {step: round(1000 * seconds) for step, seconds in content.system_times.items()}
    metrics += [Metric(key, value, times.get(step, ended_ms), step) for key, value, step in content.system]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    _log_data(client, run_id, content.data)
    _log_artifacts(client, run_id, content)
    _log_models(client, experiment_id, run_id, content.models)
    tags = {**content.tags, **links, **_noted(before, content.note)}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    if content.status == "unfinished":
        client.update_run(run_id, STATUSES[content.status])
    else:
        client.set_terminated(run_id, STATUSES[content.status], ended_ms)
    client.set_tag(run_id, CONTENT, content.sha256)  # last: a run that was cut short is written again
    return run_id


def _of_people(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that this program did not write; of MLflow's own a person's note."""
    own = {key: value for key, value in tags.items() if not key.startswith(("mlflow.", "benchmark.", "environment."))}
    kept = MLFLOW_RUN_NOTE in tags and tags.get(NOTE) != text_sha256(tags[MLFLOW_RUN_NOTE])
    return own | ({MLFLOW_RUN_NOTE: tags[MLFLOW_RUN_NOTE]} if kept else {})


def _emptied(client: MlflowClient, run_id: str, started_ms: int) -> bool:
    """Take a run's values away, so that others can stand there. False where only calls reach the store."""
    store: Any = client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        return False
    with _session(store) as session:
        for table in (SqlMetric, SqlLatestMetric, SqlParam):
            session.query(table).filter(table.run_uuid == run_id).delete()
        session.query(SqlInput).filter((SqlInput.destination_id == run_id) | (SqlInput.source_id == run_id)).delete()
        session.query(SqlRun).filter(SqlRun.run_uuid == run_id).update({"start_time": started_ms})
    return True


def _session(store: SqlAlchemyStore) -> Any:
    """One that may write, which later versions of MLflow have to be told."""
    maker = store.ManagedSessionMaker
    return maker(read_only=False) if "read_only" in inspect.signature(maker).parameters else maker()


def _log_data(client: MlflowClient, run_id: str, data: Mapping[str, str]) -> None:
    dataset = Dataset(data["name"], data["digest"], "local", data["source"], profile=data["profile"])
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training and test")])])


def _log_artifacts(client: MlflowClient, run_id: str, content: Content) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for artifact in content.artifacts:
            target = Path(folder) / artifact.place
            target.parent.mkdir(exist_ok=True)
            artifact.write(target)
        if content.artifacts:
            client.log_artifacts(run_id, folder)


def _delete(client: MlflowClient, experiment_id: str, run_id: str) -> None:
    for model in _models_of(client, experiment_id, run_id):
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)


def _models_of(client: MlflowClient, experiment_id: str, run_id: str) -> list[LoggedModel]:
    return list(client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'"))


def _log_models(client: MlflowClient, experiment_id: str, run_id: str, models: Iterable[Model]) -> None:
    """Each network once for its weights; those of an earlier training go."""
    known = {(each.name, each.tags.get("sha256")): each for each in _models_of(client, experiment_id, run_id)}
    outputs = []
    for model in models:
        logged = known.pop((model.kind, model.sha256), None)
        if logged is None:
            tags = {"sha256": model.sha256, "stage": model.stage}
            logged = client.create_logged_model(experiment_id, model.kind, run_id, tags, model_type=model.kind)
            with tempfile.TemporaryDirectory() as folder:
                _pack(Path(folder), model, run_id, logged.model_id)
                client.log_model_artifacts(logged.model_id, folder)
            client.finalize_logged_model(logged.model_id, "READY")
        outputs.append(LoggedModelOutput(logged.model_id, 0))
    if outputs:
        client.log_outputs(run_id, outputs)
    for old in known.values():
        client.delete_logged_model(old.model_id)


def _pack(folder: Path, model: Model, run_id: str, model_id: str) -> None:
    """`MLmodel`, and the network's files or where they are."""
    data = folder / "data"
    data.mkdir()
    if sum(path.stat().st_size for path in model.files) <= MODEL_BYTES:
        for path in model.files:
            (data / path.name).write_bytes(path.read_bytes())
    else:
        (data / "place.txt").write_text(str(model.files[0].parent.resolve()), encoding="utf-8")
    (data / "recipe.json").write_text(json.dumps(model.recipe), encoding="utf-8")
    described = MLmodel(run_id=run_id, model_id=model_id, signature=_signature(model))
    described.add_flavor("python_function", loader_module=LOADER, data="data", python_version=platform.python_version())
    described.save(str(folder / "MLmodel"))


def _signature(model: Model) -> ModelSignature:
    """Of a generator: count and seed -> pairs of image and label; of a U-Net: images -> chance of being vessel."""
    x, y, z = model.patch
    if model.kind == "generator":
        asked = Schema([ColSpec(DataType.long, "count"), ColSpec(DataType.long, "seed")])
        return ModelSignature(asked, Schema([TensorSpec(np.dtype(np.float32), (-1, 2, x, y, z))]))
    patches = Schema([TensorSpec(np.dtype(np.float32), (-1, x, y, z))])
    return ModelSignature(patches, patches)
