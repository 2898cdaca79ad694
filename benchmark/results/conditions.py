"""Under which conditions a run's stages were computed: of other ones the last digits of a training are others."""

from collections import Counter

from benchmark.artifacts.values import StageEnvironment
from benchmark.results.run_folder import Run
from benchmark.words import plural

__all__ = ["conditions"]

# In which of a stage's files such digits are; data are read, rules are fitted and costs are timed without a training.
ROLES = ("gan", "pairs", "unet", "score", "evaluate", "mixed_pairs", "reference")


def conditions(run: Run) -> list[str]:
    """A phrase for each kind of machine and version that trained and computed, the most frequent first; one as a rule.

    Threads and the rounding of PyTorch's minor versions are in the keys of stages, and so never differ in a run.
    """
    keys = {key for record in run.cells for role, key in record["stages"].items() if role in ROLES}
    facts = (run.stage_environment(key) for key in sorted(keys))
    counts = Counter(_condition(each) for each in facts if each)
    return [f"{what} ({plural(count, 'stage')})" for what, count in counts.most_common()]


def _condition(environment: StageEnvironment) -> str:
    machine, versions = environment.get("machine", {}), environment.get("versions", {})
    processor = machine.get("gpu") if environment.get("device") == "cuda" else machine.get("cpu")
    return f"PyTorch {versions.get('torch', '?')} on {processor or 'a processor without a name'}"
