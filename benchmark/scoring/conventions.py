"""Where tools differ, what is done here: by name, as it stands in every results.json."""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from vesselgan.recipe import FEWEST_INSIDE

__all__ = [
    "BothEmpty",
    "FolderMasks",
    "FolderPatches",
    "MaskConventions",
    "PatchConventions",
    "mask_conventions",
    "metric_options",
    "patch_conventions",
]

BothEmpty = Literal["leave-out", "perfect"]


class MaskConventions(TypedDict):
    """How two masks are compared."""

    vessels: Sequence[int] | str  # which values of a label are vessels
    both_empty: BothEmpty
    empty_prediction: str
    bavd: str
    hd95: str
    contours: int | None  # neighbours that make a contour, of ASSD and HD95 of contours; None where neither was asked


class PatchConventions(TypedDict):
    """What the features of a patch are taken over, and what it needs to count."""

    z_scores: str
    zeros: str
    nearly_empty: Literal["left out", "counted"]
    voxels_needed: float  # the share of its voxels above black without which a patch is nearly empty
    nan: NotRequired[float]  # what it became in the images of `score`, where that was asked for


def mask_conventions(
    vessels: Sequence[int] | str | None, *, both_empty: BothEmpty = "leave-out", contours: int | None = None
) -> MaskConventions:
    """Of a run, whose label maps have these `vessels`, or of `evaluate` with these options; None for plain masks."""
    return {
        "vessels": "the one value of a mask that is not 0" if vessels is None else vessels,
        "both_empty": both_empty,
        "empty_prediction": "DSC 0, distances the diagonal of the volume, bAVD more than any other prediction",
        "bavd": "both sums over the voxels of the truth (Aydin et al. 2021)",
        "hd95": "6 neighbours make a surface; the larger of both directions' percentiles (MONAI, MetricsReloaded)",
        "contours": contours,
    }


def patch_conventions(feature_noise: str, nan: float | None = None) -> PatchConventions:
    """Under a recipe's `feature_noise` (D9), with `nan` in place of NaN."""
    noise = feature_noise == "noise"
    conventions: PatchConventions = {
        "z_scores": "each patch by mean and SD of its voxels above black",
        "zeros": "N(0, 1) noise, as in the paper's code (D9)" if noise else "scaled as all others",
        "nearly_empty": "counted" if noise else "left out",
        "voxels_needed": FEWEST_INSIDE,
    }
    if nan is not None:
        conventions["nan"] = nan
    return conventions


class FolderPatches(TypedDict):
    """Of two folders of patches."""

    metrics: dict[str, dict[str, object]]
    patches: PatchConventions


class FolderMasks(TypedDict):
    """Of two folders of masks."""

    masks: MaskConventions


def metric_options(options: Mapping[str, Mapping[str, object] | None]) -> dict[str, dict[str, object]]:
    """The options of each metric that was asked for; one that was left out has none."""
    return {name: dict(each) for name, each in options.items() if each is not None}
