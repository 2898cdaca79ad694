"""The share of the real gain: made of the DSC of three labels by `claims.gain`, so no claim is about it."""

import math

from benchmark.metrics.registry import Metric, derived

__all__ = ["GAIN"]

GAIN = "real_gain_share"

derived(
    Metric(GAIN, "share of the real gain", better="higher", decimals=2, limits=(-math.inf, math.inf)),
    name=GAIN,
    glossary={
        "Share of the real gain": "(synthetic − rule) / (real − rule), in DSC, with the better of the two rules: how "
        "much of what real patches add to no learning at all is added by synthetic pairs. 1 is as good as real "
        "patches, below 0 is worse than no learning.",
    },
)
