"""Names of the metrics of segmentations, labels and audits, as they stand in results.json, in tables and in claims."""

import math
from collections.abc import Mapping
from typing import Any, Literal

__all__ = [
    "AUDIT_METRICS",
    "AUDIT_NAMES",
    "DISTANCES",
    "DSC_METRICS",
    "LABEL_METRICS",
    "LABEL_NAMES",
    "OVERLAPS",
    "REGIONS",
    "REGION_NAMES",
    "SEGMENTATION_METRICS",
    "SEGMENTATION_NAMES",
    "TOPOLOGY",
    "UNBIASED",
    "range_of",
    "trained_on",
]

OVERLAPS = ("dsc", "cldice", "sensitivity", "precision", "volume_similarity")  # in [0, 1], higher is better
DISTANCES = ("bavd_voxel", "bavd_mm", "ahd_voxel", "ahd_mm", "hd95_voxel", "hd95_mm")  # lower is better
TOPOLOGY = ("betti_0_error", "betti_1_error", "betti_2_error")  # lower is better
SEGMENTATION_METRICS = (*OVERLAPS, *DISTANCES, *TOPOLOGY)
REGIONS = ("all", "intracranial")

# Name, decimals, unit, better side.
SEGMENTATION_NAMES: Mapping[str, tuple[str, int, str, str]] = {
    "dsc": ("DSC", 3, "", "higher"),
    "cldice": ("clDice", 3, "", "higher"),
    "sensitivity": ("sensitivity", 3, "", "higher"),
    "precision": ("precision", 3, "", "higher"),
    "volume_similarity": ("volume similarity", 3, "", "higher"),
    "bavd_voxel": ("bAVD", 3, "voxels", "lower"),
    "bavd_mm": ("bAVD", 3, "mm", "lower"),
    "ahd_voxel": ("AHD", 3, "voxels", "lower"),
    "ahd_mm": ("AHD", 3, "mm", "lower"),
    "hd95_voxel": ("HD95", 2, "voxels", "lower"),
    "hd95_mm": ("HD95", 2, "mm", "lower"),
    "betti_0_error": ("error in pieces (Betti 0)", 1, "", "lower"),
    "betti_1_error": ("error in loops (Betti 1)", 1, "", "lower"),
    "betti_2_error": ("error in cavities (Betti 2)", 1, "", "lower"),
}
REGION_NAMES = {"all": "all vessels", "intracranial": "intracranial"}

# Name, decimals, unit; lower is better.
LABEL_NAMES: Mapping[str, tuple[str, int, str]] = {
    "label_volume_fraction": ("vessel share (label W1)", 4, ""),
    "label_radius": ("radius (label W1)", 3, "voxels"),
    "label_branch_count": ("branches (label W1)", 2, ""),
    "label_component_count": ("pieces (label W1)", 2, ""),
}
LABEL_METRICS = tuple(LABEL_NAMES)
AUDIT_NAMES: Mapping[str, tuple[str, int, str]] = {
    "memorised_share/features": ("close to training (features)", 3, ""),
    "memorised_share/images": ("close to training (images)", 3, ""),
}
AUDIT_METRICS = tuple(AUDIT_NAMES)

DSC_METRICS = ("dsc/intracranial", "dsc/all")  # the paper's question first


# What lies in [0, 1] by definition.
SHARES = (*OVERLAPS, "recall", "coverage", "prd_f8", "prd_f1_8", "prd_auc", "memorised_share")
UNBIASED = ("fid_infinite", "kid")  # the same expectation at every number of patches; an estimate may be negative


def range_of(metric: str) -> tuple[float, float]:
    """What a metric cannot leave, and so no mean of it; a name such as `dsc/all` counts by what stands before the /."""
    name = metric.split("/")[0]
    return -math.inf if name in UNBIASED else 0.0, 1.0 if name in SHARES else math.inf


def trained_on(cell: Mapping[str, Any]) -> Literal["real", "synthetic", "both"]:
    """What the U-Net of a cell of results.json learned from."""
    if cell["mixed_with"]:
        return "both"
    return "synthetic" if cell["norm"] or cell["external"] else "real"
