"""The way in, by `python -m benchmark` and by the script: signals first, since imports take a second.

Whoever is asked to stop says so in one line, and ends with 128 and the signal's number. What was finished is kept, and
nothing that was not is believed later: a program that may be killed at any moment may also leave at any moment.
"""

import os
import signal
import sys
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

__all__ = ["Stopped", "main"]

SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
GRACE_S = 5.0  # for removing what is half written and ending the workers, which takes a moment as a rule


class Stopped(BaseException):
    """Somebody asked this process to stop."""


def main() -> None:
    """The command line, which leaves on a signal from the first moment on."""
    worker = "--serve" in sys.argv[1:]  # of its end its driver tells
    _on_signals(signal.SIG_DFL if worker else _leave_at_once)
    sys.excepthook = _told
    from benchmark.cli import main as command_line

    try:
        if not worker:
            _on_signals(_unwind)
        command_line()
    except BaseException:
        if _asked:  # by whatever name a library passed on what `_unwind` raised
            with suppress(Exception):
                sys.stdout.flush()
            _leave(_asked[0])
        _on_signals(_leave_at_once)  # nothing is left to unwind
        raise


_asked: list[int] = []
_telling = allocate_lock()


def _on_signals(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    """But for those that are ignored from the start, as a shell has it for jobs that outlive their terminal."""
    for number in SAID:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave_at_once(number: int, _: FrameType | None) -> NoReturn:
    _ignore_others()
    _leave(number)


def _unwind(number: int, _: FrameType | None) -> NoReturn:
    """End what runs in good order.

    Python drops an exception that arises in a callback, such as those of its imports: then the process ends all the
    same, after a while. That takes a thread, since the one that was interrupted may be anywhere.
    """
    _ignore_others()
    _asked.append(number)
    start_new_thread(_leave_late, (number,))
    raise Stopped(signal.Signals(number).name)


def _ignore_others() -> None:
    """A second signal must not break into the way out: process managers send more than one."""
    sys.unraisablehook = lambda unraisable: None  # Python would tell of a signal that came in between
    for number in SAID:
        signal.signal(number, signal.SIG_IGN)


def _leave_late(number: int) -> None:
    time.sleep(GRACE_S)
    _leave(number)


def _leave(number: int) -> NoReturn:
    """Say why, once, and end without another word, whatever other threads do."""
    _telling.acquire()
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a progress bar may have hidden the cursor
    line = f"error: {SAID[signal.Signals(number)]}; what is finished is kept, and the same command goes on from there\n"
    os.write(2, line.encode())
    os._exit(128 + number)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls with an exception that nobody caught."""
    if _asked:
        _leave(_asked[0])
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    main()
