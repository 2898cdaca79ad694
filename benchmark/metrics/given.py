"""What the functions of metrics are given, kind by kind; those of kind `set` get `vesselgan.metrics.FeatureSets`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vesselgan.metrics import LabelDistance, LabelStatistics, MemorisationAudit, label_distances

__all__ = ["Audits", "LabelPair", "MaskPair", "StepCosts"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MaskPair:
    """Kind `subject`: a true and a predicted mask (X, Y, Z), each cut to the region that is looked at.

    spacing_mm is (sx, sy, sz), in array order; None where the files do not say how large a voxel is.
    """

    truth: Mask
    prediction: Mask
    spacing_mm: tuple[float, float, float] | None

    @cached_property
    def has_empty(self) -> bool:
        """Whether one of the two holds nothing."""
        return not (self.truth.any() and self.prediction.any())


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Kind `labels`: the statistics of real and of generated vessel labels."""

    real: LabelStatistics
    generated: LabelStatistics

    @cached_property
    def distances(self) -> dict[str, LabelDistance]:
        """`label_distances`."""
        return label_distances(real=self.real, generated=self.generated)


@dataclass(frozen=True)
class Audits:
    """Kind `audit`: memorisation in feature space, and in image space with mirrored copies."""

    features: MemorisationAudit
    images: MemorisationAudit

    @property
    def by_space(self) -> Mapping[str, MemorisationAudit]:
        """Both by name."""
        return {"features": self.features, "images": self.images}


@dataclass(frozen=True)
class StepCosts:
    """Kind `cost`: what was measured of one configuration. A function returns a value per round, or an exact count."""

    step_times_ms: Sequence[float]  # per round
    peak_memory_mib: float
    batch: int
