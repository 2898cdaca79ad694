"""What `run` is asked for; and what of it decides what is computed, kept beside the run for its page's command."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands.options import (
    Address,
    Data,
    Device,
    Expression,
    Gpus,
    Layout,
    Maps,
    Out,
    ProfileName,
    ProtocolName,
    Spacing,
    Weights,
    pairs_of,
)
from benchmark.metrics.loading import MODULES
from benchmark.results.reproduction import keep_asked, without_home
from benchmark.run.engine import Site
from benchmark.run.engines import engine_names

if TYPE_CHECKING:
    from benchmark.commands.run_log import Level

__all__ = ["RunOptions", "keep_command"]


@dataclass(frozen=True)
class RunOptions:
    """What `run` is asked for."""

    protocol: ProtocolName
    profile: ProfileName = None
    data: Data = None
    layout: Layout = "auto"
    spacing: Spacing = None
    weights: Weights = None
    out: Out = Path()
    expression: Expression = None
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="SEEDS", help="Instead of the protocol's: 0-4, 0,2,7, or +3 for three more"),
    ] = None
    workers: Annotated[int | None, typer.Option(min=1, help="Stages at a time; by default what the cores carry")] = None
    device: Device = "auto"
    engine: Annotated[
        str,
        typer.Option(
            metavar="ENGINE", help=f"What runs the stages: {', '.join(engine_names())}", autocompletion=engine_names
        ),
    ] = "local"
    address: Address = None
    maps: Maps = None
    gpus: Gpus = None
    listing: Annotated[
        bool, typer.Option("--pair-by-listing", help="Let D6 give images the labels of other subjects")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop")] = False
    explain: Annotated[
        bool, typer.Option("--explain", help="Show why each stage will run: what differs from the nearest finished one")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json at the end, and nothing else")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell of what went wrong, and of nothing else")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell of every stage that begins and ends")] = False

    @property
    def is_silent(self) -> bool:
        """Whether nothing is printed of how it goes, but for what goes wrong."""
        return self.quiet or self.as_json

    @property
    def level(self) -> "Level":
        """How much is told."""
        return "quiet" if self.is_silent else "verbose" if self.verbose else "usual"

    @property
    def site(self) -> Site:
        """Where the engine computes. Raises InputError."""
        return Site(self.gpus, self.address, pairs_of(self.maps or ()))


def keep_command(asked: RunOptions, folder: Path, cells: Sequence[str]) -> None:
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
