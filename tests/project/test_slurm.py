"""The script for SLURM, as far as it can be judged without nodes; `run/test_slurm_job.py` runs it on two."""

import os
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

SCRIPT = ROOT / "docs/slurm.sbatch"
COMMANDS = {
    "scontrol": "echo first",
    "srun": 'while [[ $1 == --* ]]; do shift; done; [[ $1 == hostname ]] && echo 10.0.0.1 || "$@"',
}
OF_SLURM = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "first", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "2"}


def test_the_slurm_script_is_sound() -> None:
    checked = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize(
    ("ray", "status", "said"),
    [
        ("exit 0", 1, "Ray did not start, so nothing was run; what it said stands above\n"),
        ('while [[ $1 != -- ]]; do shift; done; shift; "$@"', 3, ""),
    ],
    ids=["Ray does not start", "the run fails"],
)
def test_a_job_in_which_nothing_ran_or_a_run_failed_has_failed(
    tmp_path: Path, ray: str, status: int, said: str
) -> None:
    python = 'case $1 in -c) echo token ;; *) [[ "$*" == *"run paper --out x --engine ray"* ]] && exit 3 ;; esac'
    for name, text in {**COMMANDS, "ray": ray, "python": python}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, **OF_SLURM, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = subprocess.run(
        ["bash", str(SCRIPT), "paper", "--out", "x"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (job.returncode, job.stderr) == (status, said)
