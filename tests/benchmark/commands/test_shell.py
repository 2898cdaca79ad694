"""What a shell asks of the program: its version, and which words may come next."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import __version__

SCRIPT = "vesselgan-benchmark"
COMPLETE = "_VESSELGAN_BENCHMARK_COMPLETE"
# Beside this Python, wherever the package was installed.
HOME = Path(sys.executable).parent
PATH = f"{HOME}{os.pathsep}{os.environ['PATH']}"


def words_after(line: str, cwd: Path, shell: str = "bash") -> list[str]:
    """What the program offers where the cursor stands at the end of the line."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }[shell]
    environment = {**os.environ, **asked, COMPLETE: f"complete_{shell}"}
    result = subprocess.run([HOME / SCRIPT], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", [[HOME / SCRIPT], [sys.executable, "-m", "benchmark"]], ids=["script", "module"])
def test_the_version_is_told(command: list[str | Path], tmp_path: Path) -> None:
    result = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{SCRIPT} {__version__}\n", "")


def test_commands_protocols_runs_and_options_are_completed(tmp_path: Path) -> None:
    for name in ("paper-smoke", "other-smoke"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    assert words_after(f"{SCRIPT} synth", tmp_path) == ["synthesise"]
    assert words_after(f"{SCRIPT} run p", tmp_path) == ["paper", "precision"]
    assert words_after(f"{SCRIPT} report pa", tmp_path) == ["paper-smoke"]
    assert words_after(f"{SCRIPT} run paper --see", tmp_path) == ["--seeds"]


def test_zsh_is_answered_in_its_own_form(tmp_path: Path) -> None:
    (line,) = words_after(f"{SCRIPT} synth", tmp_path, "zsh")
    assert line.startswith("_arguments ")
    assert "synthesise" in line


@pytest.mark.parametrize("command", [[HOME / SCRIPT], [sys.executable, "-m", "benchmark"]], ids=["script", "module"])
def test_the_script_for_bash_completes_in_bash(command: list[str | Path], tmp_path: Path) -> None:
    """Also where the module was asked for it: a shell can complete the script alone."""
    bash = shutil.which("bash")
    assert bash
    environment = {**os.environ, "PATH": PATH}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # so that the shell can be named
    shown = subprocess.run(
        [*command, "--show-completion", "bash"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    typed = f'''{shown.stdout}
        COMP_WORDS=({SCRIPT} run prec) COMP_CWORD=2
        function=$(complete -p {SCRIPT} | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
        $function {SCRIPT}
        echo "${{COMPREPLY[@]}}"'''
    result = subprocess.run(
        [bash, "--norc", "-c", typed], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (result.stdout, result.stderr) == ("precision\n", "")
