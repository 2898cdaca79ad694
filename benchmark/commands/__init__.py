"""The commands of `python -m benchmark`, a file for each group; importing them registers them."""

from benchmark.commands import claims, importing, report, run, stage
from benchmark.commands.options import app, complain

__all__ = ["app", "claims", "complain", "importing", "report", "run", "stage"]
