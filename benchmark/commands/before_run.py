"""What `run` tells before it does anything: why stages will run, which are to do and where, and what they will take."""

import json
from collections.abc import Mapping

from benchmark.artifacts.store import Store
from benchmark.commands.options import PlainConsole, console
from benchmark.plan import CellPlan, Plan
from benchmark.run.engine import Engine
from benchmark.words import printable

__all__ = ["left", "show_plan", "show_prediction", "show_reasons", "weigh"]


def left(chosen: list[CellPlan], store: Store) -> set[str]:
    """Keys of the cells' stages that are not done."""
    return {key for key in {key for cell in chosen for key in cell.stages.values()} if not store.done(key)}


def weigh(plan: Plan, keys: set[str], engine: type[Engine]) -> None:
    """Count the memory of these stages for an engine that places by it; others are spared torch and the seconds."""
    if engine.by_memory:
        from benchmark.run.memory import weighed

        plan.resources |= weighed(plan, keys)


def show_reasons(plan: Plan, chosen: list[CellPlan], store: Store, *, as_json: bool) -> None:
    """Of each stage that will run, why."""
    from benchmark.run.explain import reasons
    from benchmark.run.scheduler import needed_stages

    told = reasons(plan, store, needed_stages(plan, chosen))
    if as_json:
        print(json.dumps({"run": plan.name, "why": told}, indent=1, allow_nan=False))
        return
    owners: dict[str, list[str]] = {}
    for cell in chosen:
        for key in cell.stages.values():
            owners.setdefault(key, []).append(cell.cell.id)
    for key, reason in told.items():
        of = owners.get(key, [])
        console.out(printable(f"{key} ({of[0]}): {reason}" if len(of) == 1 else f"{key}: {reason}"), highlight=False)
    if not told:
        console.print(f"{plan.name}: nothing is to do", soft_wrap=True, highlight=False)


def show_plan(plan: Plan, chosen: list[CellPlan], store: Store, places: Mapping[str, str], *, as_json: bool) -> None:
    """The stages of cells, which of them are to do, and what that takes; `places` has nodes where an engine says it."""
    to_do = left(chosen, store)
    if as_json:
        from benchmark.run.forecast import predict

        cells = [
            {
                "id": cell.cell.id,
                "label": cell.cell.label,
                "stages": {
                    role: {"key": key, "state": "to do" if key in to_do else "done"}
                    | ({"node": places[key]} if key in places else {})
                    for role, key in cell.stages.items()
                },
            }
            for cell in chosen
        ]
        content = {
            "run": plan.name,
            "device": plan.device,
            "data": plan.source.description,
            "cells": cells,
            "predicted": predict(plan, to_do).as_json(),
        }
        print(json.dumps(content, indent=1, allow_nan=False))
        return
    rows = [
        (cell.cell.id, str(role), key, "to do" if key in to_do else "done", *([places.get(key, "")] if places else []))
        for cell in chosen
        for role, key in cell.stages.items()
    ]
    console.print_columns(("cell", "stage", "key", "state", *(["node"] if places else [])), rows)
    show_prediction(plan, chosen, store, console)


def show_prediction(plan: Plan, chosen: list[CellPlan], store: Store, target: PlainConsole) -> None:
    """Hours, memory and disk of what is to do."""
    from benchmark.run.forecast import predict

    for line in predict(plan, left(chosen, store)).lines():
        target.print(line, soft_wrap=True, highlight=False)
