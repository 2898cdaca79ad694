"""`--seeds`: other seeds than the protocol's, and how many more than a run has."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypedDict

from benchmark.artifacts.reading import read_json
from benchmark.results.run_folder import Run
from vesselgan.errors import InputError
from vesselgan.files import write_text

__all__ = ["keep_seeds", "seeds_of", "wanted_seeds"]

FILE = "seeds.json"
MOST = 1000  # in one range: more is a slip of the finger


class Kept(TypedDict):
    """What a run was asked for, and the seeds that it had before and has now."""

    asked: str | None
    before: list[int]
    all: list[int]


def seeds_of(text: str, now: Sequence[int]) -> list[int]:
    """What `--seeds` means: `0-4`, `0,2,7`, or `+3`, so many more than there are `now`. Raises InputError."""
    wrong = InputError(f"--seeds {text!r}: give a range (0-4), a list (0,2,7), or how many more (+3)")
    if added := re.fullmatch(r"\+([1-9]\d{0,2})", text):
        first = max(now) + 1
        return [*now, *range(first, first + int(added[1]))]
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if ends is None:
            raise wrong
        low, high = int(ends[1]), int(ends[2] or ends[1])
        if not low <= high < low + MOST:
            raise wrong
        seeds += range(low, high + 1)
    return list(dict.fromkeys(seeds))


def wanted_seeds(asked: str, given: Sequence[int], out: Path, name: str) -> tuple[list[int], list[int]]:
    """The seeds of a run for which `asked` is given, and those to which `+3` adds.

    Those are the run's own, or the protocol's `given` where there is no run. A run that was stopped while it made three
    more goes on with the same three.
    """
    before, folder = list(given), out / "runs" / name
    try:
        kept = read_json(folder / FILE, Kept)
        before = list(kept["before"] if kept["asked"] == asked and not _is_done(folder) else kept["all"])
    except InputError:
        pass  # no run yet
    return seeds_of(asked, before), before


def keep_seeds(out: Path, name: str, asked: str | None, before: Sequence[int], seeds: Sequence[int]) -> None:
    """Write down what a run was asked for, beside its other files."""
    content: Kept = {"asked": asked, "before": list(before), "all": list(seeds)}
    write_text(out / "runs" / name / FILE, json.dumps(content))


def _is_done(folder: Path) -> bool:
    try:
        run = Run.open(folder)
    except InputError:  # stopped while it was written, or damaged since: it goes on, which makes it anew
        return False
    return all(run.store.done(key) for record in run.cells for key in record["stages"].values())
