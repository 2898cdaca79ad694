"""The MLflow mirror: parent run = protocol run, child runs = cells. Here is the database, and who may write into it.

Local files are the truth; the mirror is written from results.json by the parent process and can be rebuilt at any time.
"""

import math
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what goes wrong is raised, too, and told in one line
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; by default a dead server takes many minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from alembic.script import ScriptDirectory
from mlflow import MlflowClient

from benchmark.artifacts.locks import FileLocks
from benchmark.report.mlflow_content import contents_of
from benchmark.report.mlflow_view import cells_url, charts_url, experiments_url, side_by_side_url
from benchmark.report.mlflow_writing import CELL, keep_artifacts_in, mirrored_runs, write_all
from benchmark.report.tracking import named_tracker
from benchmark.results.format import Results
from benchmark.results.run_folder import load_run
from vesselgan.files import atomic_path

__all__ = [
    "all_urls",
    "database",
    "open_client",
    "run_urls",
    "store_uri",
    "sync",
]

_QUOTED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%?#"})  # signs that mean something in an address
BUSY_S = 5  # that another program may hold the database
LOOK_S = 0.2  # between looks whether another process is done
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


def sync(out: Path, name: str, results: Results, patience_s: float = math.inf) -> None:
    """Make MLflow show the run `name`: cells whose content is there already are left alone, others written anew.

    Raises TimeoutError where it takes longer than `patience_s`. What is there by then stays, and the next one goes on.
    """
    until = time.monotonic() + patience_s
    with _alone(out / "runs" / "mlflow.lock", until):
        _sync(out, name, results, until)


@contextmanager
def _alone(path: Path, until: float) -> Iterator[None]:
    """One process at a time writes. Raises TimeoutError where another one still does at `until`."""
    while True:
        with FileLocks().hold(path, wait=until == math.inf) as held:
            if held:
                yield
                return
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(LOOK_S)


def _sync(out: Path, name: str, results: Results, until: float) -> None:
    client = open_client(out)
    experiment = client.get_experiment_by_name(name)
    named, own = named_tracker(), (out / "runs" / "mlflow-artifacts").resolve().as_uri()
    # A server keeps them where it likes; a database that is a file has no such place, and MLflow would take any folder.
    artifacts = own if named is None or named.startswith("sqlite:") else None
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, artifacts)
    if named is None:
        keep_artifacts_in(client, experiment_id, own)
    write_all(client, experiment_id, contents_of(load_run(out, name), results, out / "reports" / name), until)


def run_urls(out: Path, name: str, port: int) -> tuple[str, str, str]:
    """A run's cells as a table, in charts and side by side; the list of runs where it has none yet."""
    client = open_client(out)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return (experiments_url(port),) * 3
    runs = [run.info.run_id for run in mirrored_runs(client, experiment.experiment_id) if run.data.tags[CELL]]
    found = experiment.experiment_id
    return cells_url(port, found), charts_url(port, found), side_by_side_url(port, found, runs)


def all_urls(out: Path, names: Sequence[str], port: int) -> dict[str, str]:
    """The table of each of these runs that is there: MLflow's own list leads to its pages for language models."""
    client = open_client(out)
    found = {name: client.get_experiment_by_name(name) for name in names}
    return {name: cells_url(port, each.experiment_id) for name, each in found.items() if each is not None}
