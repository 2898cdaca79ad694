"""Precision and recall of distributions: a curve, and three numbers that sum it up."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from benchmark.metrics.registry import Metric, Options, metric
from vesselgan.metrics import FeatureSets, SetScores
from vesselgan.metrics.distributions import prd_scores
from vesselgan.metrics.prd import prd_values

__all__ = ["KernelPRD", "prd", "with_sets_swapped"]

SHARE = (0.0, 1.0)
Count = Annotated[int, Field(gt=0, le=10**7, strict=True)]


class KernelPRD(Options):
    """Options of PRD."""

    clusters: Count = 20
    runs: Count = 10


@metric(
    Metric("prd_f8", "PRD F8 (recall)", better="higher", limits=SHARE),
    Metric("prd_f1_8", "PRD F1/8 (precision)", better="higher", limits=SHARE),
    Metric("prd_auc", "PRD area", better="higher", limits=SHARE, cited="sajjadi2018"),
    kind="set",
    name="prd",
    options=KernelPRD,
    glossary={
        "PRD": "Precision and recall of distributions: a curve that tells looking real apart from covering the variety "
        "of what is real. F8 weighs recall, F1/8 precision; the area under the curve sums it up.",
    },
)
def prd(sets: FeatureSets, options: KernelPRD) -> SetScores:
    """`max_f_beta_pair` and `prd_area` of `prd_curve`, of equal counts."""
    return prd_scores(sets, clusters=options.clusters, runs=options.runs)


def with_sets_swapped(scores: SetScores) -> SetScores:
    """What would have been found had real and generated changed places (D5)."""
    curves = {"precision": scores.curves["recall"], "recall": scores.curves["precision"]}
    values = prd_values(curves["precision"].mean(axis=0), curves["recall"].mean(axis=0))
    partner = {"prd_f8": "prd_f1_8", "prd_f1_8": "prd_f8", "prd_auc": "prd_auc"}
    return SetScores(
        {name: replace(scores.estimates[partner[name]], value=value) for name, value in values.items()},
        scores.warnings,
        {name: scores.sd_kmeans[partner[name]] for name in values},
        curves,
    )
