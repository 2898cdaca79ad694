"""What makes a run again: its command, and the protocol as it was."""

import json
import shlex

from benchmark.results.format import Reproduction
from benchmark.results.run_folder import Run

__all__ = ["reproduction_of"]

LOCK = "protocol.lock.yaml"  # in the run folder: the protocol's own text


def reproduction_of(run: Run) -> Reproduction:
    """The command that makes the run from its own protocol; whose scans they were is not recorded, so they are DIR."""
    path = run.folder / LOCK
    protocol = path.read_text(encoding="utf-8") if path.is_file() else None
    command = ["python", "-m", "benchmark", "run", f"{run.plan['protocol']}.yaml", "--profile", run.plan["profile"]]
    if not run.plan["data"]["phantom"]:
        command += ["--data", "DIR"]
    if (run.plan["settings"].get("score") or {}).get("weights"):
        command += ["--weights", "FILE"]
    if seeds := _asked_seeds(run):
        command += ["--seeds", seeds]
    command += ["--device", run.plan["device"]]
    return {"command": shlex.join(command), "protocol": protocol}


def _asked_seeds(run: Run) -> str:
    """The seeds, where other ones than the protocol's were asked for."""
    try:
        asked = json.loads((run.folder / "seeds.json").read_text(encoding="utf-8"))["asked"]
    except (OSError, ValueError, KeyError, TypeError):  # of an earlier run, which was of the protocol's
        return ""
    return ",".join(str(seed) for seed in sorted({record["cell"]["seed"] for record in run.cells})) if asked else ""
