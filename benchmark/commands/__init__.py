"""The commands of `python -m benchmark`, a file for each group; importing them registers them."""

from benchmark.commands import evaluate, report, run, score, stage
from benchmark.commands.options import app, complain

__all__ = ["app", "complain", "evaluate", "report", "run", "score", "stage"]
