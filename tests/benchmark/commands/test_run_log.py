"""What a run says where there is no terminal, what it keeps, and what it notes of the machine."""

import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.artifacts.reading import read_steps
from benchmark.commands import run_log
from benchmark.commands.run_log import MachineWatch, RunLog


def test_what_is_said_before_the_folder_is_there_is_in_the_log_too(tmp_path: Path) -> None:
    text = StringIO()
    log = RunLog(Console(file=text, width=200))
    log.say("[green]done[/green] first")
    log.open(tmp_path)
    log.say("second")
    log.say("third", "detail")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["done first", "second", "third"]
    assert text.getvalue().splitlines() == ["done first", "second"]


def test_trouble_is_told_however_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = StringIO()
    log = RunLog(Console(file=text), "quiet")
    log.say("all is well")
    log.say("[red]failed[/red] train_gan-1", "trouble")
    assert text.getvalue() == ""
    assert capsys.readouterr().err == "failed train_gan-1\n"


def test_progress_of_a_pipe_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    log = RunLog(Console(file=text, width=200))
    log.beat("too early")
    monkeypatch.setattr(run_log, "BEAT_S", 0.0)
    log.beat("1 of 9 stages")
    assert text.getvalue() == "1 of 9 stages\n"
    terminal = StringIO()
    RunLog(Console(file=terminal, force_terminal=True)).beat("which has bars")
    assert terminal.getvalue() == ""


def test_the_load_of_the_machine_is_noted_step_by_step_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "OFTEN_S", 0.01)
    for _ in range(2):
        with MachineWatch(tmp_path):
            time.sleep(0.3)
    steps = read_steps(tmp_path / "system.jsonl")
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert len(steps) > 2
    for step in steps:
        share = step["system_memory_usage_percentage"]
        assert share is not None
        assert 0 < share <= 100
