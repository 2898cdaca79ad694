"""Run folder -> reports/NAME: results.json, tables, the page; and the MLflow mirror."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmark import __version__
from benchmark.choice import best_synthetic, with_choice
from benchmark.claims.language import Claim
from benchmark.claims.verdicts import judge_claims
from benchmark.claims.wording import why_not_comparable
from benchmark.results import Run, load_run, subject_rows, summarise
from benchmark.utility import utility_of
from vesselgan.files import write_text

__all__ = ["publish", "results_of", "sync_run"]


def results_of(run: Run) -> dict[str, Any]:
    """The content of results.json."""
    rows = subject_rows(run)
    results = summarise(run, rows)
    results["best"] = best_synthetic(results["cells"], rows)
    claims = [Claim.model_validate(with_choice(claim, results["best"])) for claim in run.plan["claims"]]
    results["reference"] = run.plan["reference"]
    results["claims"] = judge_claims(
        claims,
        results["cells"],
        rows,
        run.plan["device"],
        reference=run.plan["reference"],
        floor=results["floor"],
        not_comparable=why_not_comparable(results["data"], results["settings"], results["cells"]),
    )
    results["utility"] = utility_of(results["cells"], rows, run.subjects().get("train", 0))
    return results


def publish(out: Path, name: str, *, force: bool = False) -> Path:
    """Write `reports/NAME` and mirror the run, unless nothing has changed since; return the page's path."""
    run = load_run(out, name)
    results = results_of(run)
    text = json.dumps(results, indent=1, allow_nan=False)
    folder = out / "reports" / name
    page, stamp = folder / "index.html", folder / ".stamp"
    content = hashlib.sha256(f"{__version__}\n{text}".encode()).hexdigest()
    if not force and page.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == content:
        return page
    # Plots and pages take seconds to import: only a run with news pays for them.
    from benchmark.report import render_report
    from benchmark.tables import write_tables
    from benchmark.tracking import sync

    stamp.unlink(missing_ok=True)
    write_text(folder / "results.json", text)
    write_tables(results, folder)
    render_report(run, results, folder)
    try:
        sync(out, name, results)
    except Exception as error:  # whatever MLflow's database does, the files are there and the run has not failed
        reason = str(error).splitlines()[0]
        print(f"warning: the MLflow mirror was not written ({reason}); rebuild it with 'sync {name}'", file=sys.stderr)
        return page
    write_text(stamp, content)
    return page


def sync_run(out: Path, name: str) -> None:
    """Rebuild the MLflow mirror of a run from its files."""
    from benchmark.tracking import sync

    sync(out, name, results_of(load_run(out, name)))
