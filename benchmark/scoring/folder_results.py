"""The `results.json` of `score` and of `evaluate`: what two folders were found to be like."""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from benchmark.artifacts.values import LabelMeans, MemorisationValues
from benchmark.environment import Environment
from benchmark.scoring.conventions import FolderMasks, FolderPatches

__all__ = [
    "Aggregate",
    "EvaluationResults",
    "FolderExtractor",
    "FolderFloor",
    "FolderLabels",
    "FolderMemorisation",
    "FolderMetric",
    "ScoreResults",
    "SubjectValue",
]


class FolderMetric(TypedDict):
    """A distance with its interval, or why it has none."""

    value: float | None
    n: int
    extractor: NotRequired[str]
    ci_low: float | None
    ci_high: float | None
    sd_kmeans: NotRequired[float]
    reason: NotRequired[str]


class FolderExtractor(TypedDict):
    """What made the features."""

    name: str
    version: int
    weights_sha256: str
    noise: str | None
    same_network_as_paper: bool


class NearlyEmpty(TypedDict):
    """Which patches were left out of the distances, by folder."""

    voxels_needed: float
    left_out: Mapping[str, int]


class FolderFloor(TypedDict):
    """Real patches against real ones; the metrics are None where that cannot be had, for a reason."""

    metrics: Mapping[str, float] | None
    sd: NotRequired[Mapping[str, float]]
    warnings: NotRequired[Sequence[str]]
    meaning: NotRequired[str]
    reason: NotRequired[str]


class FolderLabels(TypedDict, total=False):
    """What the vessel labels are like, or why nothing is known of them."""

    vessel_share_synthetic: float
    vessel_share_real: float
    means: Mapping[str, LabelMeans]
    without_vessel: Mapping[str, int]
    n: Mapping[str, int]
    reason: str


class FolderMemorisation(TypedDict, total=False):
    """The audits in both spaces, or why there are none."""

    features: MemorisationValues
    images: MemorisationValues
    reason: str


class ScoreResults(TypedDict):
    """Of `score`; what is by folder has the names of its options."""

    command: Literal["score"]
    real: str
    generated: str
    training: str | None
    n: int
    patches: Mapping[str, int]
    nearly_empty: NearlyEmpty
    further_channels: Mapping[str, int]
    patch_size: Sequence[int]
    intensity_ranges: Mapping[str, Sequence[float]]
    extractor: FolderExtractor
    conventions: FolderPatches
    version: str
    environment: Environment
    metrics: Mapping[str, FolderMetric]
    floor: FolderFloor
    labels: FolderLabels
    memorisation: FolderMemorisation
    warnings: Sequence[str]


class SubjectValue(TypedDict):
    """A metric of one subject; `empty` is 1 where truth or prediction was."""

    subject: str
    metric: str
    value: float | None
    empty: int


class Aggregate(TypedDict):
    """A metric over subjects, or why it has no value; how many had an empty mask, and how many were left out."""

    value: float | None
    n: int
    unit: NotRequired[str]
    sd: NotRequired[float | None]
    ci_low: float | None
    ci_high: float | None
    reason: NotRequired[str]
    empty: int
    left_out: int


class EvaluationResults(TypedDict):
    """Of `evaluate`."""

    command: Literal["evaluate"]
    truth: str
    prediction: str
    mask: str | None
    n: int
    both_empty: str
    contours: int | None
    labels: Sequence[int] | str | None
    conventions: FolderMasks
    version: str
    environment: Environment
    metrics: Mapping[str, Aggregate]
    subjects: Sequence[SubjectValue]
