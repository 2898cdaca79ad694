"""The content of results.json: what the cells measured, the verdicts on the claims, and what follows from both."""

from collections.abc import Mapping

from pydantic import ValidationError

from benchmark.artifacts.reading import REMEDY
from benchmark.claims.answer import Kind, answer_of
from benchmark.claims.best_label import best_synthetic, with_choice
from benchmark.claims.comparability import why_not_comparable
from benchmark.claims.gain import add_gains, gains_of
from benchmark.claims.leaders import leaders_of
from benchmark.claims.realism import realism_of
from benchmark.claims.utility import utility_of
from benchmark.claims.verdicts import judge_claims
from benchmark.metrics.loading import MODULES
from benchmark.protocol.claim import Claim
from benchmark.results.format import Results
from benchmark.results.median_patches import median_patches_of
from benchmark.results.rows import of_people, scan_rows
from benchmark.results.run_folder import Run
from benchmark.results.summary import summarise
from vesselgan.errors import InputError
from vesselgan.families import family_of

__all__ = ["results_of"]


def results_of(run: Run) -> Results:
    """The content of results.json. Raises InputError for a run folder that is damaged."""
    scans = scan_rows(run)
    rows = of_people(scans, run.persons())
    measured = summarise(run, rows, scans)
    cells, floor = measured["cells"], measured["floor"]
    best, gain, realism = best_synthetic(cells, rows), gains_of(cells, rows), realism_of(cells, floor)
    add_gains(measured["groups"], gain)
    families = {cell["label"]: family_of(cell, "family") for cell in cells if cell["kind"] == "synthetic"}
    kinds = {label: Kind(family.title, family.given) for label, family in families.items()}
    answer = answer_of(best, gain, realism, floor, kinds)
    return {
        **measured,
        "best": best,
        "leaders": leaders_of(cells, rows, measured["groups"]),
        "gain": gain,
        "realism": realism,
        "reference": run.plan["reference"],
        "claims": judge_claims(
            [_claim(run, with_choice(claim, best)) for claim in run.plan["claims"]],
            cells,
            rows,
            run.plan["device"],
            reference=run.plan["reference"],
            floor=floor,
            not_comparable=why_not_comparable(measured["data"], measured["settings"], cells),
        ),
        "answer": answer,
        "median_patches": median_patches_of(run, answer["label"]) if answer else None,
        "utility": utility_of(cells, rows, measured["split"].get("train", 0)),
    }


def _claim(run: Run, claim: Mapping[str, object]) -> Claim:
    """A claim of the run, which was valid when it was planned.

    Raises InputError where its metric is not loaded now, or the file was changed.
    """
    try:
        return Claim.model_validate(claim)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ").partition(";")[0]
        own = f"a metric of your own is loaded from the module or file in {MODULES}"
        remedy = own if what.startswith("unknown metric") else REMEDY
        raise InputError(f"{run.folder / 'run.json'}: claim {claim.get('name')!r}: {what}; {remedy}") from None
