"""What makes a run again: its commands as they were given, and the protocol as it was."""

import json
import shlex
from contextlib import suppress
from pathlib import Path

from typing_extensions import TypedDict

from benchmark.artifacts.reading import read_json, read_text
from benchmark.results.format import Reproduction
from benchmark.results.run_folder import Run
from vesselgan.errors import InputError
from vesselgan.files import write_text

__all__ = ["Asked", "Chosen", "keep_asked", "reproduction_of", "without_home"]

LOCK = "protocol.lock.yaml"  # in the run folder: the protocol's own text
ASKED = "asked.json"


class Chosen(TypedDict):
    """The cells of one `run`, and the `-k` that named them; None for all of them."""

    expression: str | None
    cells: list[str]


class Asked(TypedDict):
    """What a person gave to `run`: options that decide what it computes, by their names, as they were given."""

    options: dict[str, str | None]  # None for one without a value
    variables: dict[str, str]  # of the environment
    chosen: list[Chosen]


def keep_asked(folder: Path, options: dict[str, str | None], variables: dict[str, str], chosen: Chosen) -> None:
    """Write down in a run folder what it was asked for, beside earlier commands for other cells.

    What was asked for with other options does not belong to this run any more; its data alone may have moved.
    """
    before: list[Chosen] = []
    with suppress(InputError):  # none yet, or damaged
        asked = read_json(folder / ASKED, Asked)
        if _deciding(asked["options"], asked["variables"]) == _deciding(options, variables):
            before = asked["chosen"]
    cells = set(chosen["cells"])
    kept = [each for each in before if not cells.issuperset(each["cells"])]
    is_covered = any(cells.issubset(each["cells"]) for each in kept)
    content: Asked = {"options": options, "variables": variables, "chosen": [*kept, *([] if is_covered else [chosen])]}
    write_text(folder / ASKED, json.dumps(content, indent=1))


def _deciding(options: dict[str, str | None], variables: dict[str, str]) -> tuple[object, object]:
    return {name: value for name, value in options.items() if name != "--data"}, variables


def without_home(path: Path | str) -> str:
    """A path as it was given; the shell had put the home folder in place of `~`, and its name is nobody's business."""
    home, text = str(Path.home()), str(path)
    return f"~{text.removeprefix(home)}" if text.startswith(f"{home}/") else text


def reproduction_of(run: Run) -> Reproduction:
    """The commands that make the run from its own protocol, and the cells that none of them asked for.

    An earlier run did not record them: DIR and FILE then stand for scans and weights.
    """
    path = run.folder / LOCK
    protocol = read_text(path) if path.is_file() else None
    asked = read_json(run.folder / ASKED, Asked) if (run.folder / ASKED).is_file() else _unrecorded(run)
    words = ["python", "-m", "benchmark", "run", f"{run.plan['protocol']}.yaml", "--profile", run.plan["profile"]]
    for name, value in asked["options"].items():
        words += [name] if value is None else [name, value]
    if seeds := _asked_seeds(run):
        words += ["--seeds", seeds]
    words += ["--device", run.plan["device"]]
    told = [words if (k := each["expression"]) is None else [*words, "-k", k] for each in asked["chosen"]]
    settings = "".join(f"{name}={_quoted(value)} " for name, value in asked["variables"].items())
    there = {cell for each in asked["chosen"] for cell in each["cells"]}
    return {
        "command": "\n".join(settings + " ".join(map(_quoted, line)) for line in told),
        "protocol": protocol,
        "left_out": [cell for cell in run.plan["cells"] if cell not in there],
    }


def _quoted(word: str) -> str:
    """For a shell, which has to see the `~` of a home folder."""
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") and word != "~/" else shlex.quote(word)


def _unrecorded(run: Run) -> Asked:
    options: dict[str, str | None] = {} if run.plan["data"]["phantom"] else {"--data": "DIR"}
    if (run.plan["settings"].get("score") or {}).get("weights"):
        options["--weights"] = "FILE"
    return {"options": options, "variables": {}, "chosen": [{"expression": None, "cells": run.plan["cells"]}]}


def _asked_seeds(run: Run) -> str:
    """The seeds, where other ones than the protocol's were asked for."""
    try:
        asked = json.loads((run.folder / "seeds.json").read_text(encoding="utf-8"))["asked"]
    except (OSError, ValueError, KeyError, TypeError):  # of an earlier run, which was of the protocol's
        return ""
    return ",".join(str(seed) for seed in sorted({record["cell"]["seed"] for record in run.cells})) if asked else ""
