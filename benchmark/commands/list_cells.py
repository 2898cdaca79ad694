"""`ls`: a protocol's profiles, cells, metrics and claims."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from benchmark.commands.experiment import load
from benchmark.commands.options import Expression, ProfileName, ProtocolName, app, console
from benchmark.metrics.asking import asked_metrics
from benchmark.protocol.cells import cells_of, select

__all__ = ["list_cells"]


@app.command("ls")
def list_cells(
    protocol: ProtocolName,
    profile: ProfileName = None,
    expression: Expression = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON, and nothing else")] = False,
) -> None:
    """List a protocol's profiles, cells, metrics and claims."""
    asked = load(protocol, profile)
    loaded, name, settings = asked.protocol, asked.profile_name, asked.profile
    cells = select(cells_of(loaded, settings, has_data=settings.needs_data), expression)
    metrics = asked_metrics(loaded.metrics.model_dump())
    if as_json:
        content = {
            "protocol": loaded.protocol,
            "title": loaded.title,
            "profile": name,
            "profiles": {other: body.about.strip() for other, body in loaded.profiles.items()},
            "cells": [asdict(cell) for cell in cells],
            "metrics": [
                {"name": named.name, "title": named.title, "unit": named.metric.unit, "better": named.metric.better}
                for named in metrics
            ],
            "claims": [{"name": claim.name, "statement": claim.statement} for claim in loaded.claims],
        }
        print(json.dumps(content, indent=1, allow_nan=False))
        return
    console.print(f"[bold]{escape(loaded.protocol)}[/bold]: {escape(loaded.title)}", markup=True)
    for other, body in loaded.profiles.items():
        mark = "*" if other == name else " "
        console.print(f" {mark} profile {other}: {body.about.strip()}", soft_wrap=True)
    columns = ("id", "label", "norm", "precision", "filters", "batch", "recipe_name", "seed")
    rows = [[getattr(cell, name) for name in columns] for cell in cells]
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    console.print_columns(("cell", "label", "norm", "precision", "filters", "batch", "recipe", "seed"), texts)
    console.print(f"metrics: {', '.join(named.name for named in metrics)}", soft_wrap=True, highlight=False)
    for claim in loaded.claims:
        console.print(f"claim: {claim.name}: {claim.statement}", soft_wrap=True)
