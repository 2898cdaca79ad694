"""The page of a run that goes on: when it is written, what it says, and what it may cost."""

from pathlib import Path

import pytest

from benchmark.commands.page_so_far import PageSoFar


class Clock:
    """Seconds that pass when they are told to, and while a page is written."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_page_is_due_after_a_minute_and_costs_a_fiftieth_of_the_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []

    def publish(out: Path, name: str) -> Path:
        written.append(clock.now)
        clock.now += 4
        return out / name

    monkeypatch.setattr("benchmark.report.publish.publish_so_far", publish)
    page = PageSoFar(Path("here"), "run", clock)
    for clock.now in (10, 59, 60, 130, 263, 264, 300):
        page.cell_finished()
    assert written == [60, 264], "four seconds of writing are followed by 200 without"


def test_what_goes_wrong_is_told_once_and_never_tried_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def publish(out: Path, name: str) -> Path:
        tried.append(name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmark.report.publish.publish_so_far", publish)
    page = PageSoFar(Path("here"), "run", clock)
    for clock.now in (100, 1000, 10_000):
        assert page.cell_finished() is None
    assert tried == ["run"]
    assert capsys.readouterr().err.count("No space left on device") == 1
