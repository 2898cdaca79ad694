"""A run that is asked to stop at any moment says so in one line and ends; the same command then goes on."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

RUN = ["run", "paper", "--profile", "smoke", "-k", "real"]
LINES = {
    signal.SIGINT: "error: interrupted; what is finished is kept, and the same command goes on from there",
    signal.SIGTERM: "error: terminated; what is finished is kept, and the same command goes on from there",
}


def started(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """A process that has come as far as to take signals; before, it is no more than Python, which starts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmark", *(command or RUN)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1):
            return process
        time.sleep(0.001)
    raise TimeoutError


def stopped(process: "subprocess.Popen[str]", *signals: signal.Signals) -> bool:
    """Whether the signals stopped it, after the checks that hold in this case; it may have been done before."""
    for number in signals:
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        return False
    assert (process.returncode, errors) == (128 + signals[0], LINES[signals[0]] + "\n")
    assert "Traceback" not in output
    return True


def first_worker(process: "subprocess.Popen[str]") -> bool:
    """Wait for it; False where the process ends without one."""
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        for child in parent.children():
            try:
                if "--serve" in child.cmdline():
                    return True
            except psutil.NoSuchProcess:
                continue
    return False


def goes_on(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *RUN], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "done real_s0" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_leaves_with_one_line_whenever_it_is_asked_to(number: signal.Signals, tmp_path: Path) -> None:
    for moment_s in (0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.5):
        process = started(tmp_path)
        time.sleep(moment_s)
        assert stopped(process, number, number), moment_s
    goes_on(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", LINES)
def test_a_run_leaves_while_its_first_worker_starts(number: signal.Signals, tmp_path: Path) -> None:
    process = started(tmp_path)
    assert first_worker(process)
    assert stopped(process, number)
    goes_on(tmp_path)


def test_commands_that_run_nothing_leave_too(tmp_path: Path) -> None:
    for command in (["ls", "paper"], ["run", "paper", "--dry-run"], ["--help"]):
        assert stopped(started(tmp_path, *command), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("number", LINES)
def test_no_moment_of_the_first_seconds_is_one_in_which_a_signal_is_lost(
    number: signal.Signals, tmp_path: Path
) -> None:
    moments = random.Random(number)
    asked, obeyed = 60, 0
    for _ in range(asked):
        process = started(tmp_path)
        time.sleep(moments.uniform(0, 2.5))
        obeyed += stopped(process, number)
    assert obeyed > asked / 2, "the others were done before that"
    goes_on(tmp_path)


@pytest.mark.slow
def test_no_moment_of_the_start_of_a_worker_is_one_either(tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(40):
        process = started(tmp_path)
        if not first_worker(process):
            break
        time.sleep(moments.uniform(0, 0.2))
        stopped(process, signal.SIGINT)
    goes_on(tmp_path)


DROPPED = """
class Dropping:
    def __del__(self):
        stop()

def work():
    Dropping()
    print("went on", flush=True)
    time.sleep(60)
"""
RENAMED = """
def work():
    try:
        stop()
    except BaseException:
        raise ImportError("a library that could not be initialised")
"""
AT_THE_END = """
def work():
    atexit.register(stop)
    sys.exit(0)
"""
IN_TURN = """
def work():
    try:
        stop()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("put in order", flush=True)
"""


@pytest.mark.parametrize(
    ("work", "printed"),
    [(DROPPED, "went on\n"), (RENAMED, ""), (AT_THE_END, ""), (IN_TURN, "put in order\n")],
    ids=["dropped by Python", "renamed by a library", "at the end", "a second one on the way out"],
)
def test_a_signal_counts_whatever_becomes_of_its_exception(work: str, printed: str, tmp_path: Path) -> None:
    code = f"""
import atexit, os, signal, sys, time
import benchmark.cli
import benchmark.__main__ as way_in

def stop():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
{work}
benchmark.cli.main = work
way_in.GRACE_S = 0.3
way_in.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, printed, LINES[signal.SIGINT] + "\n")
