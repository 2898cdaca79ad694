"""The commands of `python -m benchmark`, a file for each group; importing them registers them."""

from benchmark.commands import (
    check_data,
    check_numerics,
    claims,
    compare,
    evaluate,
    housekeeping,
    list_cells,
    patches,
    plan,
    report,
    run,
    schema,
    score,
    segment,
    stage,
    synthesise,
)
from benchmark.commands import import_checkpoint as importing
from benchmark.commands.options import app, complain

__all__ = [
    "app",
    "check_data",
    "check_numerics",
    "claims",
    "compare",
    "complain",
    "evaluate",
    "housekeeping",
    "importing",
    "list_cells",
    "patches",
    "plan",
    "report",
    "run",
    "schema",
    "score",
    "segment",
    "stage",
    "synthesise",
]
