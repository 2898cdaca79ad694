"""The content of results.json: what the cells measured, the verdicts on the claims, and what follows from both."""

from typing import Any

from benchmark.claims.answer import answer_of
from benchmark.claims.best_label import best_synthetic, with_choice
from benchmark.claims.comparability import why_not_comparable
from benchmark.claims.gain import add_gains, gains_of
from benchmark.claims.realism import realism_of
from benchmark.claims.utility import utility_of
from benchmark.claims.verdicts import judge_claims
from benchmark.protocol.claim import Claim
from benchmark.results.run_folder import Run
from benchmark.results.summary import subject_rows, summarise

__all__ = ["results_of"]


def results_of(run: Run) -> dict[str, Any]:
    """The content of results.json."""
    rows = subject_rows(run)
    results = summarise(run, rows)
    results["best"] = best_synthetic(results["cells"], rows)
    results["gain"] = gains_of(results["cells"], rows)
    add_gains(results["groups"], results["gain"])
    results["realism"] = realism_of(results["cells"], results["floor"])
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
    results["answer"] = answer_of(results)
    results["utility"] = utility_of(results["cells"], rows, run.subjects().get("train", 0))
    return results
