"""What of `run`'s options decides what is computed: kept beside the run, so that its page can give the command."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmark.metrics.loading import MODULES
from benchmark.results.reproduction import keep_asked, without_home

__all__ = ["keep_command"]


class Given(Protocol):
    """Of `run`'s options those that decide."""

    @property
    def data(self) -> Path | None: ...
    @property
    def layout(self) -> str: ...
    @property
    def spacing(self) -> str | None: ...
    @property
    def weights(self) -> Path | None: ...
    @property
    def expression(self) -> str | None: ...
    @property
    def listing(self) -> bool: ...


def keep_command(asked: Given, folder: Path, cells: Sequence[str]) -> None:
    """Write down in a run folder what it was asked for, as it was given; `cells` are those that `-k` chose.

    Where and how fast it computes is left out (`--out`, `--workers`, `--engine` and its options), and what it tells;
    seeds and device are in the run's own files.
    """
    given = {"--data": asked.data, "--layout": asked.layout, "--spacing": asked.spacing, "--weights": asked.weights}
    options: dict[str, str | None] = {
        name: without_home(value) for name, value in given.items() if value is not None and value != "auto"
    }
    if asked.listing:
        options["--pair-by-listing"] = None
    modules = os.environ.get(MODULES)
    variables = {MODULES: without_home(modules)} if modules else {}
    keep_asked(folder, options, variables, {"expression": asked.expression, "cells": list(cells)})
