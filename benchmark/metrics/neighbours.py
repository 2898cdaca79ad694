"""Precision, recall, density and coverage: four shares from nearest neighbours."""

from typing import Annotated

from pydantic import Field

from benchmark.metrics.registry import Metric, Options, metric
from vesselgan.metrics import FeatureSets, SetScores
from vesselgan.metrics.distributions import neighbour_scores

__all__ = ["Neighbours", "neighbours"]

SHARE = (0.0, 1.0)


class Neighbours(Options):
    """Options of k-nearest-neighbour precision, recall, density and coverage."""

    k: Annotated[int, Field(gt=0, le=10**7, strict=True)] = 5


@metric(
    Metric("precision", "precision (k-NN)", better="higher", limits=SHARE),
    Metric("recall", "recall (k-NN)", better="higher", limits=SHARE, cited="kynkaanniemi2019"),
    Metric("density", "density", better="higher"),
    Metric("coverage", "coverage", better="higher", limits=SHARE, cited="naeem2020"),
    kind="set",
    name="neighbours",
    options=Neighbours,
    glossary={
        "Precision, recall, density, coverage": "Four shares from nearest neighbours: of synthetic patches that lie "
        "among real ones (precision; density counts how deep), and of real patches that are reached (recall, "
        "coverage).",
    },
)
def neighbours(sets: FeatureSets, options: Neighbours) -> SetScores:
    """`precision_recall_density_coverage`, of equal counts."""
    return neighbour_scores(sets, k=options.k)
