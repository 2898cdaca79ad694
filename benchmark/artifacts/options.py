"""The options of stages, as a plan writes them into specifications and stages read them: plain JSON values.

What is not listed here is there all the same: the settings of a family of generators are for its `Config` to check.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from vesselgan.settings import PrecisionName

__all__ = [
    "DataSource",
    "EvaluateOptions",
    "ExtractorCheck",
    "FitOptions",
    "GeneratorCheck",
    "GeneratorSettings",
    "ImportOptions",
    "InferenceOptions",
    "MeasureOptions",
    "OwnMetrics",
    "PatchCorners",
    "PhantomOptions",
    "PrepareOptions",
    "Reading",
    "RecipeValue",
    "Remedy",
    "Runtime",
    "ScoreOptions",
    "SimulateOptions",
    "StepOptions",
    "SynthesiseOptions",
    "TrainGANOptions",
    "TrainUNetOptions",
    "UNetCheck",
    "UNetOptions",
]

RecipeValue = str | float | bool


class Remedy(TypedDict, total=False):
    """What gets round wrong kernels: narrower instructions for a process, or another way for single operations."""

    instructions: str
    operations: Mapping[str, str | None]


class Runtime(TypedDict, total=False):
    """What decides a stage's bytes beside its options and inputs."""

    device: str
    threads: int
    torch: str
    deterministic: str
    remedy: Remedy
    machine: Mapping[str, object]  # of what is timed or checked on it: `benchmark.environment.Machine`
    libraries: Mapping[str, str]
    instructions: Sequence[str]


class PhantomOptions(TypedDict):
    """The embedded dataset."""

    shape: Sequence[int]
    spacing_mm: Sequence[float] | None
    seed: int
    subjects: int


class Reading(TypedDict, total=False):
    """How files are read: arguments of `vesselgan.data.load_subject` that are not its defaults."""

    vessels: Sequence[int]
    background: Sequence[int]
    spacing_mm: Sequence[float]
    nan: float


class DataSource(TypedDict, total=False):
    """A phantom, or files: subject -> role -> SHA-256."""

    phantom: PhantomOptions
    files: Mapping[str, Mapping[str, str]]
    reading: Reading
    persons: Mapping[str, str]  # whose scan it is, of those who have several


class PatchCorners(TypedDict):
    """Patches per subject: along each axis of a grid, and around vessel voxels."""

    grid: Sequence[int]
    vessel: int


class PrepareOptions(TypedDict):
    """`prepare`."""

    source: DataSource
    recipe: Mapping[str, RecipeValue]
    split: Mapping[str, Sequence[str]]
    patch: Sequence[int]
    patches: PatchCorners
    brain_mask: NotRequired[str]
    seed: int


class GeneratorSettings(TypedDict):
    """A configuration of a family in plain values, as far as others than the family look at it."""

    patch_size: Sequence[int]
    precision: PrecisionName
    seed: int
    batch: int
    filters: NotRequired[int]
    processes: NotRequired[int]
    privacy: NotRequired[Mapping[str, float] | None]


class _OfFamily(TypedDict):
    """Of every family but the WGANs, which were there first."""

    family: NotRequired[str]
    version: NotRequired[int]
    options: NotRequired[GeneratorSettings]
    recipe: Mapping[str, RecipeValue]


class TrainGANOptions(_OfFamily):
    """`train_gan`."""

    wgan: NotRequired[GeneratorSettings]
    kept: NotRequired[Sequence[float]]


class StepOptions(_OfFamily):
    """What a step's cost depends on. The settings of a WGAN stand among these keys."""


class MeasureOptions(TypedDict):
    """`measure`: configurations by the label of their cells, and what they have in common."""

    configurations: Mapping[str, StepOptions]
    patch: Sequence[int]
    penalty_weight: float
    rounds: int
    steps: int
    warmup: int


class GeneratorCheck(_OfFamily):
    """`verify` of a generator. The settings of a WGAN stand among these keys, with `patch` and `private`."""

    network: str
    precision: PrecisionName
    synthesis_batch: int
    patch: NotRequired[Sequence[int]]
    private: NotRequired[bool]


class UNetCheck(TypedDict):
    """`verify` of a U-Net."""

    network: Literal["unet"]
    patch: Sequence[int]
    filters: Sequence[int]
    precision: PrecisionName
    batch: int
    inference_batches: Sequence[int]


class ExtractorCheck(TypedDict):
    """`verify` of the network whose features are compared."""

    network: Literal["extractor"]
    patch: Sequence[int]
    precision: PrecisionName
    batches: Sequence[int]
    stages: int


class SynthesiseOptions(TypedDict):
    """`synthesise`."""

    pairs: int
    seed: int
    batch: int
    recipe: Mapping[str, RecipeValue]
    at: NotRequired[float]


class ImportOptions(TypedDict):
    """`import_pairs`: path in the folder -> SHA-256."""

    files: Mapping[str, str]
    patch: Sequence[int]
    intensities: Sequence[float] | None
    nan: NotRequired[float]


class SimulateOptions(TypedDict):
    """`simulate_pairs`."""

    subjects: int
    patch: Sequence[int]
    patches: PatchCorners
    seed: int


class FitOptions(TypedDict):
    """`fit_untrained`."""

    method: Literal["threshold", "vesselness"]


class OwnMetrics(TypedDict):
    """`evaluate_untrained`. Metrics of somebody's own, if any; the others always are computed."""

    metrics: NotRequired[Mapping[str, Mapping[str, object] | None]]


class InferenceOptions(TypedDict):
    """How the tiles cover a volume."""

    overlap: float
    batch: int


class EvaluateOptions(OwnMetrics):
    """`evaluate`."""

    inference: InferenceOptions
    patch: Sequence[int]
    recipe: Mapping[str, RecipeValue]


class ScoreOptions(TypedDict):
    """`reference` and `score`; `metrics` has their options, None for one that is left out."""

    extractor: str
    samples: int
    seed: int
    metrics: Mapping[str, Mapping[str, object] | None]
    recipe: Mapping[str, RecipeValue]
    weights_sha256: NotRequired[str | None]


class UNetOptions(TypedDict):
    """Fields of `vesselgan.training.UNetConfig`, as far as others look at them."""

    filters: Sequence[int]
    precision: PrecisionName
    batch: int
    ema: float | None


class TrainUNetOptions(TypedDict):
    """`train_unet`."""

    unet: UNetOptions
    recipe: Mapping[str, RecipeValue]
    threshold: NotRequired[float | Literal["validation"]]
    real: NotRequired[Sequence[str]]
    augmentation: NotRequired[Mapping[str, object]]
