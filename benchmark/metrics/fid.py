"""Fréchet distance between clouds of features: at this number of patches, and extrapolated to infinitely many."""

import math

from benchmark.metrics.registry import Metric, metric
from vesselgan.metrics import FeatureSets, SetScores
from vesselgan.metrics.distributions import frechet_scores

__all__ = ["frechet"]


@metric(
    Metric("fid", "FID", better="lower", decimals=4, cited="heusel2017"),
    Metric(
        "fid_infinite",
        "FID∞ (infinite n)",
        better="lower",
        decimals=4,
        limits=(-math.inf, math.inf),  # the same expectation at every number of patches, so an estimate may be negative
        biased_by_n=False,
    ),
    kind="set",
    glossary={
        "FID": "A distance between clouds of image features, one of real and one of synthetic patches: it compares "
        "their means and covariances. Its size depends on the network that gives the features.",
        "FID∞": "FID with its bias at finite numbers of patches taken out, by extrapolating to infinitely many.",
    },
)
def frechet(sets: FeatureSets) -> SetScores:
    """`frechet_distance` of equal counts, `frechet_distance_infinite` of all rows."""
    return frechet_scores(sets)
