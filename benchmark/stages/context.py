"""What a stage is given, and how it keeps its step-by-step record."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from benchmark.artifacts.options import RecipeValue, Runtime
from benchmark.artifacts.reading import Step
from benchmark.artifacts.values import finite
from vesselgan.errors import InputError
from vesselgan.recipe import Recipe, resolve_recipe

__all__ = ["Context", "rejected_steps", "sound_checkpoint", "step_record", "throttled"]

LOGGER = logging.getLogger("vesselgan.stages")

REPORT_EVERY_S = 0.2
S = TypeVar("S", bound=Mapping[str, object])


@dataclass(frozen=True)
class Context(Generic[S]):
    """One stage's options (see `benchmark.artifacts.options`), the folders of the stages it needs, and its own."""

    options: S
    inputs: Mapping[str, Path]
    runtime: Runtime
    where: Mapping[str, str]
    folder: Path
    progress: Callable[[int, int, str], None]

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return str(self.runtime["device"])

    @property
    def recipe(self) -> Recipe:
        """The deviations that this stage reads; the others do not matter to it."""
        return resolve_recipe("corrected", cast(Mapping[str, RecipeValue], self.options["recipe"]))

    def set_threads(self) -> None:
        """Give torch the threads that the stage's key was made with, and the order in which it computes."""
        if "threads" in self.runtime:
            import torch

            torch.set_num_threads(int(self.runtime["threads"]))
            # Both ways, since a worker computes one stage after another; but setting it anew would import a compiler.
            wanted = "deterministic" in self.runtime
            if torch.are_deterministic_algorithms_enabled() != wanted:
                torch.use_deterministic_algorithms(wanted)


def throttled(progress: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
    """The same, but passed on a few times a second at most, and always at the end."""
    last = 0.0

    def report(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPORT_EVERY_S or done >= total:
            last = now
            progress(done, total, what)

    return report


def sound_checkpoint(folder: Path) -> Path:
    """Where a training keeps its checkpoint. If what is there cannot be read, nor the one before, both are removed.

    The training then starts again, and a line says so.
    """
    from vesselgan.training import checkpoints_of, load_checkpoint

    path, problems = folder / "checkpoint.pt", []
    for place in checkpoints_of(path):
        try:
            load_checkpoint(place)
            return path
        except InputError as error:
            problems.append(str(error).rpartition("; ")[0])
    if problems:
        LOGGER.warning("%s; no checkpoint is left, so the training starts again", problems[0])
        for place in checkpoints_of(path):
            place.unlink()
    return path


@contextmanager
def step_record(path: Path) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield `record(step, values)`, which appends a JSON line per step.

    After a crash a training repeats the steps since its checkpoint: what an earlier attempt wrote of these goes first.
    Values that are no numbers are written as null, since JSON has none.
    """
    known = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    with path.open("a", encoding="utf-8") as file:

        def record(step: int, values: Mapping[str, float]) -> None:
            nonlocal known
            if len(known) > step:  # one line per step, so this is the first repeated one
                file.seek(0)
                file.truncate()
                file.writelines(known[:step])
            known = []
            readings = {name: finite(value) for name, value in values.items()}
            file.write(json.dumps({"step": step, **readings}) + "\n")
            file.flush()

        yield record


def rejected_steps(steps: Iterable[Step]) -> dict[str, int]:
    """How many steps of a record were not applied, by what was wrong with them; steps of earlier versions count not."""
    from vesselgan.training import Outcome

    counts = Counter(int(step.get("outcome") or 0) for step in steps)
    return {
        "not finite": counts[Outcome.NOT_FINITE],
        "absurd": counts[Outcome.ABSURD],
        "loss scale": counts[Outcome.LOSS_SCALE],
    }
