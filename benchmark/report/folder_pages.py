"""The pages of `evaluate` and `score`: each needs nothing else, like the report of a run."""

import json
from pathlib import Path
from typing import Any

from benchmark.report.pictures import FOUND, INVENTED, MISSED
from benchmark.report.run_page import templates
from benchmark.report.sections.mask_folders import evaluation_view
from benchmark.report.sections.patch_folders import comparison_view
from benchmark.scoring.folder_results import EvaluationResults, ScoreResults
from benchmark.scoring.mask_folders import Evaluation
from benchmark.scoring.patch_folders import Comparison
from vesselgan.files import write_text

__all__ = ["write_comparison", "write_evaluation"]


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write `results.json` and `index.html` into `folder`; returns the page's path."""
    view = evaluation_view(evaluation.results, evaluation.shown)
    overlay = {"found": FOUND, "missed": MISSED, "invented": INVENTED}
    return _write(folder, "evaluation", evaluation.results, title="Evaluation of masks", view=view, overlay=overlay)


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write `results.json` and `index.html` into `folder`; returns the page's path."""
    return _write(
        folder, "comparison", comparison.results, title="Score of generated patches", view=comparison_view(comparison)
    )


def _write(folder: Path, template: str, results: EvaluationResults | ScoreResults, **page: Any) -> Path:
    # Both are made before either is written: an error in one leaves no half of a result.
    text = json.dumps(results, indent=1, allow_nan=False)
    html = templates().get_template(f"{template}.html.j2").render(page)
    write_text(folder / "results.json", text)
    write_text(folder / "index.html", html)
    return folder / "index.html"
