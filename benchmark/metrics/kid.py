"""Kernel distance between clouds of features."""

import math

from benchmark.metrics.registry import Metric, metric
from vesselgan.metrics import FeatureSets, SetScores
from vesselgan.metrics.distributions import kernel_scores

__all__ = ["kernel"]


@metric(
    # The same expectation at every number of patches, so an estimate may be negative.
    Metric(
        "kid", "KID", better="lower", decimals=4, limits=(-math.inf, math.inf), biased_by_n=False, cited="binkowski2018"
    ),
    kind="set",
    glossary={
        "KID": "Another distance between clouds of features, which asks for no shape of them, and is unbiased also "
        "for few patches.",
    },
)
def kernel(sets: FeatureSets) -> SetScores:
    """`kernel_distance`, of all rows."""
    return kernel_scores(sets)
