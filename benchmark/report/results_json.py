"""The content of results.json: what the cells measured, the verdicts on the claims, and what follows from both."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from benchmark.claims.answer import answer_of
from benchmark.claims.best_label import best_synthetic, with_choice
from benchmark.claims.comparability import why_not_comparable
from benchmark.claims.gain import add_gains, gains_of
from benchmark.claims.realism import realism_of
from benchmark.claims.utility import utility_of
from benchmark.claims.verdicts import judge_claims
from benchmark.metrics.loading import MODULES
from benchmark.protocol.claim import Claim
from benchmark.results.run_folder import Run
from benchmark.results.summary import subject_rows, summarise
from vesselgan.errors import InputError

__all__ = ["results_of"]


def results_of(run: Run) -> dict[str, Any]:
    """The content of results.json."""
    rows = subject_rows(run)
    results = summarise(run, rows)
    results["best"] = best_synthetic(results["cells"], rows)
    results["gain"] = gains_of(results["cells"], rows)
    add_gains(results["groups"], results["gain"])
    results["realism"] = realism_of(results["cells"], results["floor"])
    claims = [_claim(run, with_choice(claim, results["best"])) for claim in run.plan["claims"]]
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


def _claim(run: Run, claim: Mapping[str, Any]) -> Claim:
    """A claim of the run, which was valid when it was planned. Raises InputError where its metric is not loaded now."""
    try:
        return Claim.model_validate(claim)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ").partition(";")[0]
        remedy = f"a metric of your own is loaded from the module or file in {MODULES}"
        raise InputError(f"{run.folder / 'run.json'}: claim {claim['name']!r}: {what}; {remedy}") from None
