"""Real file systems that refuse: mounted read-only, or too small. One line says so, and nothing is half written."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import ROOT
from small_protocol import PROTOCOL

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]
BENCHMARK = f"{sys.executable} -m benchmark"
# Of files as `scans` are, with four subjects.
OF_FILES = PROTOCOL.replace("phantom: {shape: [48, 48, 32]}", "requires: {data: true}").replace(
    "split: {train: 4, validation: 2, test: 2}", "split: {train: 2, validation: 1, test: 1}"
)


@pytest.fixture(scope="module")
def mounting() -> list[str]:
    """A command before which whoever runs the tests may mount, for it alone."""
    for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        tried = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if shutil.which("unshare") and subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("this machine lets nobody mount a file system")


@pytest.fixture
def shell(mounting: list[str], tmp_path: Path) -> Shell:
    """Runs a script in the folder of the test, and what it mounts is gone at its end."""

    def run(script: str) -> "subprocess.CompletedProcess[str]":
        command = [*mounting, "sh", "-ec", script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return run


def told(done: "subprocess.CompletedProcess[str]") -> str:
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_a_file_that_cannot_be_written_is_named_itself_and_not_its_temporary(shell: Shell, tmp_path: Path) -> None:
    code = "from pathlib import Path; from vesselgan.files import write_text; write_text(Path('kept/run.json'), 'new')"
    script = f"mkdir kept; echo old > kept/run.json; mount --bind kept kept; mount -o remount,bind,ro kept; cd {ROOT}"
    done = shell(f'{script}; cd "$OLDPWD"; {sys.executable} -c "{code}" 2>&1 | tail -n 1 >&2')
    assert done.stderr == "OSError: [Errno 30] Read-only file system: 'kept/run.json'\n"
    assert (tmp_path / "kept/run.json").read_text() == "old\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("run paper --profile smoke", "runs/paper-smoke/protocol.lock.yaml: Read-only file system"),
        ("report paper-smoke", "reports: Read-only file system"),
        ("sync paper-smoke", "runs/mlflow.lock: Read-only file system"),
        ("ui paper-smoke", "runs/mlflow.db.lock: Read-only file system"),
        ("gc --yes --older-than 0", None),
        ("claims paper-smoke", None),
        ("runs", None),
        ("run paper --profile smoke --dry-run", None),
        ("report paper-smoke --format md", None),
    ],
)
def test_a_read_only_store_can_be_read_and_what_would_write_says_where(
    command: str, named: str | None, shell: Shell, finished_smoke: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_smoke / "runs", tmp_path / "out/runs", ignore=shutil.ignore_patterns("mlflow*"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    done = shell(f"mount --bind out out; mount -o remount,bind,ro out; {BENCHMARK} {command} --out out")
    if named is None:
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    else:
        assert told(done).partition("out/")[2].rstrip(")").endswith(named)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.slow
def test_a_read_only_folder_of_scans_is_all_that_a_run_needs(shell: Shell, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(OF_FILES)
    mounts = f"mount --bind {scans} {scans}; mount -o remount,bind,ro {scans}"
    done = shell(f"{mounts}; ! touch {scans}/x 2>/dev/null; {BENCHMARK} run small.yaml --data {scans} -k real --quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "reports/small-tiny/results.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "400k", "1m"])
def test_a_file_system_that_is_full_is_told_and_the_same_command_goes_on_with_more(
    size: str, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(PROTOCOL)
    run = f"{BENCHMARK} run small.yaml -k real --quiet --out out"
    done = shell(
        f"mkdir out; mount -t tmpfs -o size={size} tmpfs out; {run} 2> full || echo $? > status; "
        f"mount -o remount,size=1g out; {run}"
    )
    lines = (tmp_path / "full").read_text().splitlines()
    assert (tmp_path / "status").read_text().strip() in ("1", "2")
    assert lines
    expected = ("No space left on device", "mirror was not written", "not run, since a stage before it failed")
    assert all(any(words in line for words in expected) for line in lines), lines
    assert (done.returncode, done.stderr) == (0, "")
