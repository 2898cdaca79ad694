"""Whatever is torn, changed or of another type in a run's files is told in one line, and the same run makes it anew."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.artifacts.store import Store
from benchmark.cli import main
from benchmark.report.results_json import results_of
from benchmark.results.run_folder import load_run

RUN, CELL = "paper-smoke", "SN_f16_s0"
REMEDY = "the same 'run' command makes it anew"
OF_RUN = ("run.json", "environment.json", f"cells/{CELL}.json")
# Role and file of a stage: what verdicts rest on, and what only the page shows.
JUDGED = (("evaluate", "subjects.csv"), ("score", "closest.npz"), ("gan", "course.npz"))
SHOWN = (
    ("gan", "steps.jsonl"),
    ("unet", "steps.jsonl"),
    ("score", "prd.npz"),
    ("pairs", "shown.npz"),
    ("data", "store/store.json"),
    ("data", "store/patches.npy"),
)


@pytest.fixture(scope="module")
def out(finished_smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run; whoever damages it mends it again."""
    folder = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(finished_smoke / "runs", folder / "runs")
    return folder


@pytest.fixture
def damage(out: Path) -> Iterator[Callable[[Path, bytes], None]]:
    """Replaces a file's content; at the end all is as it was."""
    before: dict[Path, bytes] = {}

    def replace(path: Path, content: bytes) -> None:
        before.setdefault(path, path.read_bytes())
        path.write_bytes(content)

    yield replace
    for path, content in before.items():
        path.write_bytes(content)


Damage = Callable[[Path, bytes], None]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path) -> Callable[[str], list[str]]:
    """The lines of a command's refusal; none where it works."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(command: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", command, RUN, "--out", str(out)])
        with pytest.raises(SystemExit) as left:
            main()
        lines = capsys.readouterr().err.splitlines()
        assert left.value.code == (2 if lines else 0), lines
        return lines

    return run


def stage(out: Path, role: str) -> Path:
    record = json.loads((out / "runs" / RUN / f"cells/{CELL}.json").read_text())
    return out / "runs/stages" / str(record["stages"][role])


def assert_told(lines: list[str], path: Path) -> None:
    (line,) = lines
    assert line.startswith(f"error: {path}"), line
    assert line.endswith(REMEDY)


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbage(content: bytes) -> bytes:
    return b"\xff\xfe\x00\x80" * 8


def flipped(content: bytes) -> bytes:
    """Of the same size: one bit is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_copy_of_the_protocol_that_is_no_text_is_told(
    out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = out / "runs" / RUN / "protocol.lock.yaml"
    damage(path, garbage(b""))
    assert_told(told("report"), path)


@pytest.mark.parametrize("command", ["report", "claims"])
@pytest.mark.parametrize("fault", [torn, garbage, lambda _: b"", lambda _: b"[]", lambda _: b'{"cells": NaN}'])
@pytest.mark.parametrize("name", OF_RUN)
def test_a_file_of_the_run_that_is_torn_or_something_else_is_told(
    name: str,
    fault: Callable[[bytes], bytes],
    command: str,
    out: Path,
    damage: Damage,
    told: Callable[[str], list[str]],
) -> None:
    path = out / "runs" / RUN / name
    damage(path, fault(path.read_bytes()))
    assert_told(told(command), path)


def edited(content: bytes, *place: Any, value: Any) -> bytes:
    """JSON with another value at a place; without a value, with nothing there."""
    tree = json.loads(content)
    inner = tree
    for step in place[:-1]:
        inner = inner[step]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize("command", ["report", "claims"])
@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("run.json", ("cells",), "SN_f16_s0"),
        ("run.json", ("cells",), ["SN_f16_s9"]),
        ("run.json", ("claims", 0, "less"), 3),
        ("run.json", ("reference",), {"fid @ SN": {"value": "0.1", "source": "s"}}),
        ("run.json", ("data",), None),
        ("run.json", ("device",), None),
        ("environment.json", ("versions",), ["torch"]),
        ("environment.json", ("machine", "cores"), "2"),
        ("environment.json", ("numerics",), [{"faults": []}]),
        (f"cells/{CELL}.json", ("cell", "id"), "GP_f16_s0"),
        (f"cells/{CELL}.json", ("cell", "seed"), "0"),
        (f"cells/{CELL}.json", ("cell", "recipe"), None),
        (f"cells/{CELL}.json", ("stages", "score"), 1),
        (f"cells/{CELL}.json", ("stages",), None),
    ],
)
def test_a_value_of_another_type_in_a_file_of_the_run_is_told_with_its_place(
    name: str,
    place: tuple[Any, ...],
    value: Any,
    command: str,
    out: Path,
    damage: Damage,
    told: Callable[[str], list[str]],
) -> None:
    path = out / "runs" / RUN / name
    damage(path, edited(path.read_bytes(), *place, value=value))
    missing = out / "runs" / RUN / "cells/SN_f16_s9.json"
    assert_told(told(command), missing if value == ["SN_f16_s9"] else path)


@pytest.mark.parametrize("command", ["report", "claims"])
@pytest.mark.parametrize(
    ("role", "place", "value"),
    [
        ("score", ("values", "metrics", "fid"), "0.1"),
        ("score", ("values", "facts"), None),
        ("score", ("values", "intervals", "fid"), 0.1),
        ("score", ("values", "labels", "means", "radius"), [1.0]),
        ("score", ("values", "memorisation", "images", "close_count"), 0.5),
        ("reference", ("values", "metrics"), None),
        ("data", ("values", "subjects"), 8),
        ("data", ("values", "with_brain_mask"), True),
        ("gan", ("values", "steps"), "12"),
        ("unet", ("values", "history"), {}),
        ("unet", ("values", "training_samples"), None),
        ("measure", ("values", "configurations", "SN", "step_time_ms"), 3.0),
        ("measure", ("values", "threads"), None),
        ("evaluate", ("values", "reasons"), ["none"]),
        ("evaluate", ("facts", "seconds"), "1"),
        ("evaluate", ("files",), None),
    ],
)
def test_a_value_of_another_type_in_a_result_is_told_with_its_place(
    role: str,
    place: tuple[Any, ...],
    value: Any,
    command: str,
    out: Path,
    damage: Damage,
    told: Callable[[str], list[str]],
) -> None:
    path = stage(out, role) / "result.json"
    damage(path, edited(path.read_bytes(), *place, value=value))
    lines = told(command)
    assert_told(lines, path)
    assert str(place[0]) in lines[0]


@pytest.mark.parametrize("command", ["report", "claims"])
@pytest.mark.parametrize("fault", [torn, garbage, lambda _: b"{}"])
def test_a_result_that_is_torn_is_told(
    fault: Callable[[bytes], bytes], command: str, out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = stage(out, "score") / "result.json"
    damage(path, fault(path.read_bytes()))
    assert_told(told(command), path)


@pytest.mark.parametrize("command", ["report", "claims"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"message": 1, "traceback": ""}', b'{"text": "x"}'])
def test_an_error_that_cannot_be_read_is_told(
    content: bytes, command: str, out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    result = stage(out, "evaluate") / "result.json"
    damage(result, b"")
    result.unlink()
    error = result.with_name("error.json")
    error.write_bytes(content)
    try:
        assert_told(told(command), error)
    finally:
        error.unlink()


@pytest.mark.parametrize("fault", [torn, garbage, flipped])
@pytest.mark.parametrize(("role", "name"), JUDGED)
def test_a_changed_file_that_verdicts_rest_on_is_told(
    role: str, name: str, fault: Callable[[bytes], bytes], out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = stage(out, role) / name
    damage(path, fault(path.read_bytes()))
    for command in ("report", "claims"):
        assert_told(told(command), path)


@pytest.mark.parametrize(("role", "name"), SHOWN)
def test_a_changed_file_that_the_page_shows_is_told(
    role: str, name: str, out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = stage(out, role) / name
    damage(path, flipped(path.read_bytes()))
    assert_told(told("report"), path)
    assert not told("claims"), "no verdict rests on it"


def test_pictures_of_volumes_that_were_changed_are_told(
    out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    image = next((stage(out, "data") / "store/volumes").glob("*.npy"))
    errors = next((stage(out, "evaluate") / "errors").glob("*.nii.gz"))
    answer = results_of(load_run(out, RUN))["answer"]
    assert answer is not None
    record = next(r for r in load_run(out, RUN).cells if r["cell"]["label"] == answer["label"])
    pairs = out / "runs/stages" / record["stages"]["pairs"] / "images.npy"
    for path in (image, errors, pairs):
        content = path.read_bytes()
        damage(path, flipped(content))
        assert_told(told("report"), path)
        path.write_bytes(content)


def with_hash(damage: Damage, path: Path, content: bytes) -> None:
    """Replace a file of a stage, and what its result says of it: as if the stage had written it."""
    result = next(parent for parent in path.parents if (parent / "result.json").is_file()) / "result.json"
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    damage(result, edited(result.read_bytes(), "files", str(path.relative_to(result.parent)), value=facts))
    damage(path, content)


@pytest.mark.parametrize(
    ("role", "name", "content"),
    [
        ("evaluate", "subjects.csv", b""),
        ("evaluate", "subjects.csv", b"split,subject,metric,value\ntest,a,dsc/all,0.5\n"),
        ("evaluate", "subjects.csv", b"split,subject,metric,value,empty\ntest,a,dsc/all,high,0\n"),
        ("evaluate", "subjects.csv", b"split,subject,metric,value,empty\ntest,a,dsc/all,inf,0\n"),
        ("evaluate", "subjects.csv", b"split,subject,metric,value,empty\ntest,a,dsc/all,0.5,no\n"),
        ("evaluate", "subjects.csv", b'split,subject,metric,value,empty\ntest,"a,dsc/all,0.5,0\n'),
        ("evaluate", "subjects.csv", b"split,subject,metric,value,empty\ntest,\xff,dsc/all,0.5,0\n"),
        ("gan", "steps.jsonl", b'{"step": 0, "wasserstein": 0.5}\n{"step": 1, "wass'),
        ("gan", "steps.jsonl", b'{"wasserstein": 0.5}\n'),
        ("gan", "steps.jsonl", b'{"step": 0, "wasserstein": "0.5"}\n'),
        ("gan", "steps.jsonl", b'{"step": 0, "wasserstein": NaN}\n'),
        ("gan", "steps.jsonl", b"\xff\n"),
        ("score", "prd.npz", b"PK\x03\x04 torn"),
        ("score", "closest.npz", b"no archive at all"),
        ("pairs", "shown.npz", b""),
    ],
)
def test_a_file_whose_content_is_of_another_kind_is_told_though_its_hash_is_right(
    role: str, name: str, content: bytes, out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = stage(out, role) / name
    with_hash(damage, path, content)
    assert_told(told("report"), path)


def test_an_archive_without_its_arrays_is_told(out: Path, damage: Damage, told: Callable[[str], list[str]]) -> None:
    path = stage(out, "gan") / "course.npz"
    whole = path.read_bytes()
    np.savez(path, other=np.zeros(3))
    other = path.read_bytes()
    path.write_bytes(whole)
    with_hash(damage, path, other)
    assert_told(told("report"), path)


def test_a_lost_file_leaves_its_stage_unfinished_and_the_rest_is_shown(
    out: Path, damage: Damage, told: Callable[[str], list[str]]
) -> None:
    path = stage(out, "evaluate") / "subjects.csv"
    damage(path, b"")
    path.unlink()
    assert not told("report")
    cells = {cell["id"]: cell for cell in results_of(load_run(out, RUN))["cells"]}
    assert cells[CELL]["status"] == "unfinished"
    assert cells["real_s0"]["status"] == "done"


@pytest.mark.slow
def test_the_same_run_makes_a_damaged_stage_anew(finished_smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_smoke / "runs", tmp_path / "runs")
    before = results_of(load_run(tmp_path, RUN))
    scores, result = stage(tmp_path, "evaluate") / "subjects.csv", stage(tmp_path, "score") / "result.json"
    scores.write_bytes(flipped(scores.read_bytes()))
    result.write_bytes(edited(result.read_bytes(), "values", "metrics", value={"fid": "0.1"}))
    command = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is made anew") == 2
    assert all(Store(tmp_path / "runs").done(path.parent.name) for path in (scores, result))
    after = results_of(load_run(tmp_path, RUN))
    assert after["subjects"] == before["subjects"]
    assert [cell["metrics"] for cell in after["cells"]] == [cell["metrics"] for cell in before["cells"]]


@pytest.mark.slow
def test_a_damaged_input_is_noticed_before_it_is_used_and_made_anew_by_the_same_run(
    finished_smoke: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_smoke / "runs", tmp_path / "runs")
    weights = stage(tmp_path, "unet") / "unet.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(flipped(good))
    result = stage(tmp_path, "evaluate") / "result.json"
    files = json.loads(result.read_bytes())["files"]
    result.unlink()
    command = [sys.executable, "-m", "benchmark", "run", "paper", "--profile", "smoke"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    (line,) = [line for line in again.stdout.splitlines() if "made anew" in line]
    assert "unet.safetensors: changed since its stage wrote it" in line
    assert weights.read_bytes() == good
    assert json.loads(result.read_bytes())["files"] == files
