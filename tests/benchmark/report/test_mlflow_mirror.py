"""The mirror is made anew from files whatever became of its database, which is never half made."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from run_folders import make_run

from benchmark.report import mlflow_mirror
from benchmark.report.mlflow_mirror import MlflowClient, database
from benchmark.report.publish import publish, sync_run
from vesselgan.errors import InputError

# MLflow makes its schema in some sixty steps; this one dies behind a column of one of them.
KILLED = """
import os, sys
from pathlib import Path
from alembic.ddl.impl import DefaultImpl
from benchmark.report.mlflow_mirror import MlflowClient, database

whole, added = DefaultImpl.add_column, []
def add_column(self, *arguments, **options):
    whole(self, *arguments, **options)
    added.append(1)
    if len(added) == 5:
        os._exit(9)
DefaultImpl.add_column = add_column
"""
IN_PLACE = KILLED + "MlflowClient('sqlite:///' + sys.argv[1] + '/runs/mlflow.db').search_experiments()"
AS_IT_IS_MADE = KILLED + "database(Path(sys.argv[1]))"


def killed(code: str, out: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs."""
    out = tmp_path_factory.mktemp("good")
    (out / "runs").mkdir()
    return database(out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    make_run(tmp_path, {"SN_f16_s0": {"measure": "broke"}})
    path = tmp_path / "runs/r-p/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"description": "t", "phantom": True}}))
    return tmp_path


def mirrored(out: Path) -> list[str]:
    """Names of the runs that MLflow shows."""
    client = MlflowClient(f"sqlite:///{out / 'runs/mlflow.db'}")
    return sorted(run.info.run_name for run in client.search_runs([client.get_experiment_by_name("r-p").experiment_id]))


def of_another_mlflow(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()


def without_its_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3] + content[len(content) // 2 :])


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda path: killed(IN_PLACE, path.parent.parent), "has the schema "),
        (of_another_mlflow, "has the schema ffffffffffff, where this MLflow has "),
        (without_its_middle, "cannot be used (database disk image is malformed)"),
        (lambda path: path.write_text("notes"), "cannot be used (file is not a database)"),
        (lambda path: path.write_bytes(b""), "cannot be used (no such table: alembic_version)"),
    ],
    ids=["killed", "newer", "damaged", "another file", "empty"],
)
def test_a_database_that_cannot_be_used_is_set_aside_and_made_anew(
    plant: Callable[[Path], object], reason: str, good: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / "runs/mlflow.db"
    if plant in (of_another_mlflow, without_its_middle):
        shutil.copyfile(good, path)
    plant(path)
    before = path.read_bytes()
    (out / "runs/mlflow.db.1").write_text("set aside before")
    sync_run(out, "r-p")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path}: {reason}")
    assert line.endswith(
        "it is now mlflow.db.2, and a new one takes its place: 'sync RUN' shows the other runs there again"
    )
    assert (out / "runs/mlflow.db.2").read_bytes() == before
    assert mirrored(out) == ["SN_f16_s0", "r-p"]
    assert database(out) == path
    assert capsys.readouterr().err == ""


def test_one_that_is_killed_while_it_makes_the_database_leaves_none(out: Path) -> None:
    killed(AS_IT_IS_MADE, out)
    assert not (out / "runs/mlflow.db").exists()
    assert list((out / "runs").glob(".*.mlflow.db*"))
    sync_run(out, "r-p")
    assert mirrored(out) == ["SN_f16_s0", "r-p"]
    assert not list((out / "runs").glob(".*.mlflow.db*"))


def test_a_database_that_is_in_use_stays_where_it_is(good: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_mirror, "BUSY_S", 0.1)
    shutil.copyfile(good, out / "runs/mlflow.db")
    with closing(sqlite3.connect(out / "runs/mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"mlflow\.db: the MLflow mirror was not written \(database is locked\)"):
            sync_run(out, "r-p")
    assert not (out / "runs/mlflow.db.1").exists()


def test_without_mlflow_a_report_says_so_in_one_line(
    finished_smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_smoke, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    page = publish(tmp_path / "out", "paper-smoke", force=True)
    assert page.is_file()
    assert capsys.readouterr().err == "no mirror written: mlflow is not installed\n"
    with pytest.raises(InputError, match="mlflow is not installed, which writes the mirror: pip install"):
        sync_run(tmp_path / "out", "paper-smoke")
