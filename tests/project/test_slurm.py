"""The script for SLURM, as far as it can be judged without running it."""

import subprocess

from paths import ROOT


def test_the_slurm_script_is_sound() -> None:
    script = ROOT / "docs/slurm.sbatch"
    checked = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout) == (0, "")
