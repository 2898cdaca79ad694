"""Run folders written by hand."""

import json
from pathlib import Path
from typing import Any

from benchmark.artifacts.store import Spec, Store
from benchmark.environment import environment
from benchmark.protocol.claim import Claim
from vesselgan.files import write_text

__all__ = ["CELL", "make_run"]

CELL = {
    "id": "SN_f16_s0",
    "label": "SN",
    "seed": 0,
    "recipe_name": "corrected",
    "recipe": {},
    "variant": "SN",
    "norm": "spectral",
    "precision": "fp32",
    "filters": 16,
    "batch": 4,
}


def make_run(out: Path, cells: dict[str, dict[str, dict[str, Any] | str]]) -> None:
    """A run folder: cell id -> role -> values of a finished stage, or the message of a failed one."""
    store = Store(out / "runs")
    write_text(out / "runs/r-p/environment.json", json.dumps(environment("cpu")))
    for cell_id, roles in cells.items():
        stages = {}
        for role, values in roles.items():
            spec = Spec(role, 1, {"cell": cell_id})
            store.plan(spec)
            stages[role] = spec.key
            if isinstance(values, str):
                store.fail(spec.key, values, "")
                continue
            if rows := values.pop("rows", None):
                lines = ["split,subject,metric,value,empty", *rows]
                (store.folder(spec.key) / "subjects.csv").write_text("\n".join(lines))
            store.finish(spec.key, values, {"seconds": 1.0})
        seed = int(cell_id[-1])
        content = {"cell": {**CELL, "id": cell_id, "seed": seed}, "stages": stages}
        write_text(out / f"runs/r-p/cells/{cell_id}.json", json.dumps(content))
    plan = {
        "protocol": "r",
        "profile": "p",
        "title": "t",
        "data": {"description": "d", "phantom": True},
        "device": "cpu",
        "settings": {},
        "cells": list(cells),
        "claims": [Claim(name="c", less=("fid @ SN", "fid @ GP")).model_dump(mode="json")],
        "reference": {},
    }
    write_text(out / "runs/r-p/run.json", json.dumps(plan))
