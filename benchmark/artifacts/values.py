"""The values that stages leave in `result.json`, as far as others read them; the rest is there and is kept as it is.

What may be left out (`NotRequired`) is what stages of earlier versions did not tell: their runs can still be read.
"""

import math
from collections.abc import Sequence
from typing import NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from benchmark.artifacts.options import Remedy

__all__ = [
    "CheckFindings",
    "EvaluationValues",
    "FileFacts",
    "GANValues",
    "LabelMeans",
    "MeasureValues",
    "MeasuredConfiguration",
    "MemorisationValues",
    "NumericsCheck",
    "NumericsFault",
    "OwnFacts",
    "PairsValues",
    "PreparedValues",
    "PrivacySpent",
    "ReferenceValues",
    "ScoreFacts",
    "ScoreValues",
    "StageEnvironment",
    "StageError",
    "StageFacts",
    "StageResult",
    "UNetValues",
    "Validation",
    "VesselLabels",
    "finite",
]


def finite(value: float) -> float | None:
    """The value; None for what is no number, since JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


@with_config(ConfigDict(allow_inf_nan=False))
class Told(TypedDict):
    """JSON has no NaN and no infinity: a value that does not exist is null."""


class FileFacts(Told):
    """Of one file of a stage."""

    bytes: int
    sha256: str


class ComputedOn(TypedDict, total=False):
    """A machine, as far as stages are told apart by it."""

    cpu: str
    gpu: str


class StageEnvironment(TypedDict, total=False):
    """Where a stage was computed; `benchmark.environment.Environment` has all of it."""

    machine: ComputedOn
    device: str
    versions: dict[str, str]


class StageFacts(Told):
    """How a stage went."""

    seconds: float
    environment: NotRequired[StageEnvironment]


class StageResult(Told):
    """The content of `result.json`."""

    values: dict[str, object]
    facts: StageFacts
    files: dict[str, FileFacts]


class StageError(Told):
    """The content of `error.json`."""

    message: str
    traceback: str


class PreparedValues(Told):
    """`prepare`: the data, by split where there is one number per split."""

    subjects: dict[str, int]  # scans
    persons: NotRequired[dict[str, str]]  # whose scan it is, of those who have several
    people: NotRequired[dict[str, int]]  # there, too
    patches: dict[str, int]
    shapes: Sequence[Sequence[int]]
    spacings_mm: Sequence[Sequence[float]]
    vessel_share: float
    with_brain_mask: int
    brain_mask_computed: int


class PrivacySpent(Told):
    """Everything that the epsilon of a private training rests on."""

    epsilon: float
    delta: float
    noise_multiplier: float
    clip_norm: float
    sample_rate: float
    noisy_updates: int
    accountant: str
    unit: str
    caveats: list[str]


class GANValues(Told):
    """`train_gan`."""

    steps: int
    epochs: NotRequired[float]
    privacy: NotRequired[PrivacySpent | None]
    steps_rejected: NotRequired[dict[str, int]]
    kept: NotRequired[dict[str, int]]  # share -> steps after which the generator was kept on its way
    step_flops: NotRequired[int]  # where it was


class Validation(Told):
    """One validation of a U-Net; a loss that was no number is null."""

    step: int
    validation_loss: float | None
    training_loss: NotRequired[float | None]  # the mean since the one before


class UNetValues(Told):
    """`train_unet`; `training_samples` has `real`, `synthetic` or both."""

    training_samples: dict[str, int]
    steps: int
    best_step: int
    history: list[Validation]
    steps_rejected: NotRequired[dict[str, int]]


class EvaluationValues(Told):
    """`evaluate` and `evaluate_untrained`; the scores stand in `subjects.csv`."""

    subjects: NotRequired[dict[str, int]]  # by split
    reasons: NotRequired[dict[str, str]]  # region -> why it has no value


class PairsValues(Told):
    """`synthesise`, `import_pairs` and `simulate_pairs`: how many pairs, and what their vessel labels are like."""

    pairs: int
    vessel_share: float
    without_vessel: int
    intensity_range: NotRequired[Sequence[float]]  # of imported ones
    shape: NotRequired[Sequence[int]]  # of the phantoms


class LabelMeans(Told):
    """Mean of one statistic over the vessel labels of real and of generated patches; null where it is undefined."""

    real: float | None
    generated: float | None


class VesselLabels(Told):
    """What the vessel labels of a set of pairs are like, beside those of real patches."""

    vessel_share_synthetic: float
    vessel_share_real: float
    means: NotRequired[dict[str, LabelMeans]]


class MemorisationValues(Told):
    """An audit for replayed training patches in one space: see `vesselgan.metrics.MemorisationAudit`."""

    threshold: float
    expected_share: float
    close_count: int
    close_share: float
    near_zero: int
    p_value: float
    memorised: bool
    generated_count: int
    shared: NotRequired[int]  # held-out patches that are training patches, and left out


class OwnFacts(Told):
    """What a distance of features of its own was computed with."""

    samples: int
    extractor: str


class ScoreFacts(Told):
    """What distances were computed with; own: by metric, where its features were others."""

    samples: int
    extractor: NotRequired[str]
    reference: NotRequired[str]
    own: NotRequired[dict[str, OwnFacts]]


class ScoreValues(Told):
    """`score`: synthetic pairs against real ones."""

    metrics: dict[str, float]
    facts: ScoreFacts
    intervals: NotRequired[dict[str, list[float]]]  # low, high
    sd_kmeans: NotRequired[dict[str, float]]
    warnings: NotRequired[list[str]]
    labels: NotRequired[VesselLabels | None]
    memorisation: NotRequired[dict[str, MemorisationValues]]


class ReferenceValues(Told):
    """`reference`: the floor, what real patches score against real patches of other subjects."""

    metrics: dict[str, float]
    sd: NotRequired[dict[str, float]]
    warnings: NotRequired[list[str]]
    meaning: NotRequired[str]
    facts: NotRequired[ScoreFacts]


class MeasuredConfiguration(Told):
    """What one training step of a configuration costs."""

    step_time_ms: list[float]  # a round each
    peak_memory_mib: float
    peak_reserved_mib: NotRequired[float]  # of a card's memory, by PyTorch's allocator
    emulated: bool
    steps_timed: int
    busy: NotRequired[str | None]  # why the times say nothing


class MeasureValues(Told):
    """`measure`: all configurations of a run, by the label of their cells."""

    configurations: dict[str, MeasuredConfiguration]
    memory_definition: str
    threads: int
    others_cores: NotRequired[float]


class NumericsFault(Told):
    """An operation that the library computes wrongly here, and what gets round it."""

    operation: str
    way: str


class NumericsCheck(Told):
    """`verify`: the operations of one network in one format."""

    network: str
    precision: str
    operations: int
    faults: list[NumericsFault]


class CheckFindings(TypedDict, total=False):
    """What a plan has to know of a numerics check: that it failed (`refused` says why), or what it found."""

    refused: str
    remedy: Remedy | None
    network: str
    precision: str
    operations: int
    faults: list[NumericsFault]
