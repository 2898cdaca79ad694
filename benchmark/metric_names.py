"""Names of the metrics of segmentations, labels and audits, as they stand in results.json, in tables and in claims."""

import math
from collections.abc import Mapping
from typing import Literal

__all__ = [
    "AUDIT_METRICS",
    "AUDIT_NAMES",
    "CLAIM_METRICS",
    "COST_METRICS",
    "DISTANCES",
    "DSC_METRICS",
    "GAIN",
    "LABEL_METRICS",
    "LABEL_NAMES",
    "METRIC_NAMES",
    "OVERLAPS",
    "REGIONS",
    "REGION_NAMES",
    "SEGMENTATION_METRICS",
    "SEGMENTATION_NAMES",
    "TOPOLOGY",
    "UNBIASED",
    "has_subjects",
    "range_of",
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
GAIN = "real_gain_share"  # of a label and region, see claims.gain; it is derived, so no claim is about it


# What lies in [0, 1] by definition.
SHARES = (*OVERLAPS, "recall", "coverage", "prd_f8", "prd_f1_8", "prd_auc", "memorised_share")
UNBIASED = ("fid_infinite", "kid")  # the same expectation at every number of patches; an estimate may be negative


def range_of(metric: str) -> tuple[float, float]:
    """What a metric cannot leave, and so no mean of it; a name such as `dsc/all` counts by what stands before the /."""
    name = metric.split("/")[0]
    return -math.inf if name in UNBIASED else 0.0, 1.0 if name in SHARES else math.inf


# Metric keys of results.json, with the direction that is better. They are the vocabulary of claims and references.
# Those with a region have one value per subject, costs one per round, all others one per trained model.
CLAIM_METRICS: dict[str, Literal["lower", "higher"]] = {
    "fid": "lower",
    "fid_infinite": "lower",
    "kid": "lower",
    "prd_f8": "higher",
    "prd_f1_8": "higher",
    "prd_auc": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    **dict.fromkeys((*LABEL_METRICS, *AUDIT_METRICS), "lower"),
    **{f"{name}/{region}": "higher" for region in REGIONS for name in OVERLAPS},
    **{f"{name}/{region}": "lower" for region in REGIONS for name in (*DISTANCES, *TOPOLOGY)},
    "step_time_ms": "lower",
    "patches_per_s": "higher",
    "peak_memory_mib": "lower",
}


COST_METRICS = ("step_time_ms", "patches_per_s", "peak_memory_mib")


def has_subjects(metric: str) -> bool:
    """Whether a metric has one value per test subject."""
    return metric.partition("/")[2] in REGIONS


# Name, decimals, unit: the columns in the order in which a reader asks for them.
METRIC_NAMES: dict[str, tuple[str, int, str]] = {
    **{
        f"{metric}/{region}": (f"{name}, {region_name}", decimals, unit)
        for metric, (name, decimals, unit, _) in SEGMENTATION_NAMES.items()
        for region, region_name in REGION_NAMES.items()
    },
    **{f"{GAIN}/{region}": (f"share of the real gain, {name}", 2, "") for region, name in REGION_NAMES.items()},
    "fid": ("FID", 4, ""),
    "fid_infinite": ("FID∞ (infinite n)", 4, ""),
    "kid": ("KID", 4, ""),
    "prd_f8": ("PRD F8 (recall)", 3, ""),
    "prd_f1_8": ("PRD F1/8 (precision)", 3, ""),
    "prd_auc": ("PRD area", 3, ""),
    "precision": ("precision (k-NN)", 3, ""),
    "recall": ("recall (k-NN)", 3, ""),
    "density": ("density", 3, ""),
    "coverage": ("coverage", 3, ""),
    **LABEL_NAMES,
    **AUDIT_NAMES,
    "step_time_ms": ("training step", 1, "ms"),
    "patches_per_s": ("throughput", 1, "patches/s"),
    "peak_memory_mib": ("peak tensor memory", 1, "MiB"),
}
