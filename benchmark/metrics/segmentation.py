"""Metrics of a predicted mask against the true one, per test subject and region: all of them in one pass."""

from collections.abc import Mapping

from benchmark.metrics.given import MaskPair
from benchmark.metrics.registry import Metric, metric
from vesselgan.metrics import segmentation_scores

__all__ = ["DSC_METRICS", "segmentation"]

DSC_METRICS = ("dsc/intracranial", "dsc/all")  # the paper's question first
SHARE = (0.0, 1.0)


@metric(
    Metric("dsc", "DSC", better="higher", limits=SHARE, cited=""),
    Metric("cldice", "clDice", better="higher", limits=SHARE, cited="shit2021"),
    Metric("sensitivity", "sensitivity", better="higher", limits=SHARE),
    # No voxel of an empty prediction is right or wrong.
    Metric("precision", "precision", better="higher", limits=SHARE, empty_is_undefined=True),
    Metric("volume_similarity", "volume similarity", better="higher", limits=SHARE),
    Metric("bavd_voxel", "bAVD", better="lower", unit="voxels", empty_is_undefined=True, cited="aydin2021"),
    Metric("bavd_mm", "bAVD", better="lower", unit="mm", empty_is_undefined=True, cited="aydin2021"),
    Metric("ahd_voxel", "AHD", better="lower", unit="voxels", empty_is_undefined=True),
    Metric("ahd_mm", "AHD", better="lower", unit="mm", empty_is_undefined=True),
    Metric("hd95_voxel", "HD95", better="lower", unit="voxels", decimals=2, empty_is_undefined=True),
    Metric("hd95_mm", "HD95", better="lower", unit="mm", decimals=2, empty_is_undefined=True),
    Metric("betti_0_error", "error in pieces (Betti 0)", better="lower", decimals=1),
    Metric("betti_1_error", "error in loops (Betti 1)", better="lower", decimals=1),
    Metric("betti_2_error", "error in cavities (Betti 2)", better="lower", decimals=1),
    kind="subject",
    name="segmentation",
    always=True,
    glossary={
        "DSC (Dice)": "Overlap of two segmentations: twice what they share over the sum of their sizes. 1 is equal, 0 "
        "shares nothing.",
        "bAVD": "Balanced average Hausdorff distance: how far, on average, the vessels of one segmentation lie from "
        "the nearest one of the other, both ways, weighed by the truth. 0 is equal.",
        "Intracranial": "Only what lies inside the brain mask counts; vessels of scalp and neck do not.",
    },
)
def segmentation(masks: MaskPair) -> Mapping[str, float]:
    """`segmentation_scores`; distances in millimetres where the size of a voxel is known.

    An empty prediction overlaps with nothing, and its Betti numbers are 0; a distance from it is the volume's diagonal,
    bAVD more than any other prediction can have. Where both masks are empty there is nothing to compare but Betti
    numbers, and without truth there is no sensitivity: such values do not exist.
    """
    scores = segmentation_scores(masks.truth, masks.prediction, spacing_mm=masks.spacing_mm, empty="diagonal")["all"]
    beside = ("_truth", "_prediction", "_empty")
    kept = {name: value for name, value in scores.items() if not name.endswith(beside)}
    if not scores["truth_empty"]:
        return kept
    if scores["prediction_empty"]:
        return {name: value for name, value in kept.items() if name.startswith("betti_")}
    return {name: value for name, value in kept.items() if name != "sensitivity"}
