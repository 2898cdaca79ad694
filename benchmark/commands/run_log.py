"""What a run says: to the terminal as much as was asked for, and all of it to the `log.txt` of its folder."""

import os
import sys
import threading
import time
from contextlib import suppress
from json import dumps
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil
from rich.console import Console
from rich.text import Text

from benchmark.commands.options import PlainConsole

__all__ = ["Level", "MachineWatch", "RunConsole", "RunLog"]

Level = Literal["quiet", "usual", "verbose"]
OFTEN_S, SELDOM_S = 5.0, 60.0  # between two looks at the machine, in the first hour and later
BEAT_S = 30.0  # between two lines of progress where there are no bars


class RunConsole(PlainConsole):
    """A terminal, or a pipe whose reader may go: a run of days does not end for that."""

    def on_broken_pipe(self) -> None:
        """Say nothing more there."""
        self.quiet = True
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class RunLog:
    """Lines of a run. `trouble` is told however quiet it has to be, on stderr then; `detail` to the verbose alone."""

    def __init__(self, console: Console, level: Level = "usual") -> None:
        self.console = console
        self.level = level
        self._errors = PlainConsole(stderr=True)
        self._path: Path | None = None
        self._early: list[str] = []
        self._beat = time.monotonic()

    def open(self, folder: Path) -> None:
        """From now on, and for what was said so far, there is a file."""
        self._path = folder / "log.txt"
        for line in self._early:
            self._write(line)
        self._early.clear()

    def say(self, markup: str, kind: Literal["usual", "detail", "trouble"] = "usual") -> None:
        """One line, with colours; every name in it is escaped."""
        text = Text.from_markup(markup)
        self._write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.plain}")
        wanted = self.level == "verbose" if kind == "detail" else self.level != "quiet"
        if wanted:
            self.console.print(text, soft_wrap=True, highlight=False)
        elif kind == "trouble":
            self._errors.print(text, soft_wrap=True, highlight=False)

    def beat(self, markup: str) -> None:
        """Progress for a pipe or a file, which show no bars: at most a line every BEAT_S."""
        now = time.monotonic()
        if now - self._beat >= BEAT_S and not self.console.is_terminal:
            self._beat = now
            self.say(markup)

    def _write(self, line: str) -> None:
        if self._path is None:
            self._early.append(line)
            return
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{line}\n")  # a log is no reason to fail


class MachineWatch:
    """Writes what the machine does, all programs on it together, into the `system.jsonl` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "system.jsonl"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "MachineWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=1)

    def _look(self) -> None:
        step = 0
        with suppress(OSError):  # of a full disk others tell
            if self._path.is_file():
                with self._path.open("rb") as file:
                    step = sum(1 for _ in file)
            psutil.cpu_percent()  # the first one has nothing to compare with
            started = time.monotonic()
            while not self._end.wait(OFTEN_S if time.monotonic() - started < 3600 else SELDOM_S):
                step += 1
                memory = psutil.virtual_memory()
                reading = {
                    "step": step,
                    "time": round(time.time(), 1),  # seconds since 1970
                    "cpu_utilization_percentage": psutil.cpu_percent(),
                    "system_memory_usage_megabytes": round((memory.total - memory.available) / 1e6),
                    "system_memory_usage_percentage": memory.percent,
                }
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{dumps(reading)}\n")
