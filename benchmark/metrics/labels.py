"""How far the statistics of generated vessel labels lie from those of real ones."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from benchmark.metrics.given import LabelPair
from benchmark.metrics.registry import Metric, metric

__all__ = ["STATISTICS", "label_distances"]


class Statistic(NamedTuple):
    """A statistic of label patches, for tables."""

    title: str
    decimals: int
    about: str
    unit: str = ""


STATISTICS = {
    "volume_fraction": Statistic("vessel share", 4, "of a patch's voxels"),
    "radius": Statistic("radius", 3, "voxels, along centrelines", "voxels"),
    "branch_count": Statistic("branches", 2, "per patch"),
    "component_count": Statistic("pieces", 2, "per patch"),
}


@metric(
    *(
        Metric(f"label_{name}", f"{each.title} (label W1)", better="lower", unit=each.unit, decimals=each.decimals)
        for name, each in STATISTICS.items()
    ),
    kind="labels",
    name="labels",
    always=True,
)
def label_distances(labels: LabelPair) -> Mapping[str, float | None]:
    """Wasserstein-1 distance of each statistic; none of the radii where all patches of a set are empty."""
    return {
        f"label_{name}": each.wasserstein if math.isfinite(each.wasserstein) else None
        for name, each in labels.distances.items()
    }
