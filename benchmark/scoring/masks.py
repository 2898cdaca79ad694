"""A predicted mask against the true one, region by region: the rows of a test subject."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.asking import Wanted, chosen, values_of
from benchmark.metrics.given import MaskPair
from benchmark.metrics.registry import REGIONS, every

__all__ = ["best_values", "mask_rows"]

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]


def mask_rows(
    truth: Mask, prediction: Mask, brain: Mask | None, spacing_mm: Spacing | None, options: Wanted
) -> Iterator[tuple[str, float | None, bool]]:
    """Metric with region, its value, and whether a mask was empty there, for every metric that `options` choose.

    Masks are (X, Y, Z). None is the value of what cannot be had: of intracranial vessels without a brain mask, and of
    whatever a metric itself has none for.
    """
    keys = [metric.key for each in chosen("subject", options) for metric in each.measurement.metrics]
    inside = {"all": None, "intracranial": brain}
    for region in REGIONS:
        mask = inside[region]
        if region != "all" and mask is None:
            yield from ((f"{key}/{region}", None, False) for key in keys)
            continue
        kept = (truth, prediction) if mask is None else (truth & mask, prediction & mask)
        pair = MaskPair(*kept, spacing_mm)
        values = values_of("subject", pair, options)
        yield from ((f"{key}/{region}", values.get(key), pair.has_empty) for key in keys)


def best_values(*, has_mm: bool) -> dict[str, float]:
    """What a perfect prediction has of each metric with region; nothing in millimetres where no voxel has a size."""
    return {
        name: named.metric.limits[1] if named.metric.better == "higher" else 0.0
        for name, named in every("subject").items()
        if has_mm or named.metric.unit != "mm"
    }
