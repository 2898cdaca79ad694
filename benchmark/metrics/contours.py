"""HD95 and ASSD between contours, where a protocol or `evaluate --contours` asks for them."""

from collections.abc import Mapping

from benchmark.metrics.given import MaskPair
from benchmark.metrics.registry import Metric, Options, metric
from vesselgan.metrics import Neighbours, contour_distances

__all__ = ["Contours", "contours"]


class Contours(Options):
    """Which voxels of a mask are its contour: those with one of 6, or of 26, neighbours outside."""

    neighbours: Neighbours = 26


@metric(
    Metric(
        "contour_hd95_voxel", "HD95 of contours", better="lower", unit="voxels", decimals=2, empty_is_undefined=True
    ),
    Metric("contour_hd95_mm", "HD95 of contours", better="lower", unit="mm", decimals=2, empty_is_undefined=True),
    Metric("assd_voxel", "ASSD", better="lower", unit="voxels", empty_is_undefined=True),
    Metric("assd_mm", "ASSD", better="lower", unit="mm", empty_is_undefined=True),
    kind="subject",
    name="contours",
    options=Contours,
    later=True,
    glossary={
        "ASSD": "Average symmetric surface distance: the mean distance from one contour to the other, both ways."
    },
)
def contours(masks: MaskPair, options: Contours) -> Mapping[str, float]:
    """`contour_distances`; the volume's diagonal where one mask is empty, nothing where both are."""
    if not masks.truth.any() and not masks.prediction.any():
        return {}
    values: dict[str, float] = {}
    for unit, spacing in (("voxel", None), ("mm", masks.spacing_mm)):
        if unit == "voxel" or spacing is not None:
            found = contour_distances(
                masks.truth, masks.prediction, spacing, neighbours=options.neighbours, empty="diagonal"
            )
            values |= {f"contour_hd95_{unit}": found.hausdorff_95, f"assd_{unit}": found.average}
    return values
