"""The page of `compare`: two runs, without either of them."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmark.claims.two_runs import RunComparison
from benchmark.report.run_page import templates
from benchmark.report.sections.run_comparison import run_comparison_view
from benchmark.results.earlier import FoundResults
from vesselgan.files import write_text

__all__ = ["write_run_comparison"]


def write_run_comparison(first: FoundResults, second: FoundResults, compared: RunComparison, folder: Path) -> Path:
    """Write `comparison.json` and `index.html` into `folder`; returns the page's path."""
    content = {"first": str(first.path), "second": str(second.path), **asdict(compared)}
    text = json.dumps(content, indent=1, allow_nan=False)
    view = run_comparison_view(first, second, compared)
    html = templates().get_template("run_comparison.html.j2").render(title="Two runs compared", view=view)
    write_text(folder / "comparison.json", text)
    write_text(folder / "index.html", html)
    return folder / "index.html"
