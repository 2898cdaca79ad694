"""Distances between features that a metric brings itself, of fewer patches than the run's network sees."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.artifacts.values import OwnFacts
from benchmark.metrics.asking import Chosen, Wanted, chosen, refuse_missing
from benchmark.metrics.registry import OwnFeatures
from benchmark.scoring.patch_sets import FEWEST_SUBJECTS, Distances, Floor, distances_between, floor_between_halves
from vesselgan.errors import InputError

__all__ = ["FEWEST_ROWS", "OwnMetric", "OwnRows", "own_metrics", "with_floor"]

FEWEST_ROWS = 10
Rows = NDArray[np.intp]
Cut = Callable[[Rows], Iterable[NDArray[np.float32]]]  # rows of a set -> their patches, in batches (B, X, Y, Z)


@dataclass(frozen=True, eq=False)
class OwnRows:
    """Features (N, d) of patches, the row of each in its set, and how many patches without features were left out."""

    features: NDArray[np.float64]
    rows: Rows
    left_out: int


@dataclass(frozen=True)
class OwnMetric:
    """One measurement of features of its own."""

    chosen: Chosen
    options: OwnFeatures

    @property
    def name(self) -> str:
        """As a protocol asks for it."""
        return self.chosen.measurement.name

    def drawn(self, rows: Rows, seed: int, factor: float = 1) -> Rows:
        """As many of the rows as it takes, sorted; a smaller draw lies within a larger one of the same seed."""
        count = int(self.options.samples * factor)
        return np.sort(np.random.default_rng(seed).permutation(rows)[:count])

    def extract(self, rows: Rows, cut: Cut, spacing_mm: Sequence[float]) -> OwnRows:
        """The features of the patches at some rows. Raises InputError where patches of that size have none."""
        try:
            features = self.options.extractor(spacing_mm)(cut(rows))
        except ValueError as error:
            raise InputError(f"metric {self.name}: {error}") from None
        has = np.isfinite(features).all(axis=1)
        return OwnRows(features[has], rows[has], int((~has).sum()))

    def distances(self, real: OwnRows, generated: OwnRows, *, subjects: ArrayLike | None, seed: int) -> Distances:
        """What is found between both, with a jackknife interval over the `subjects` of the real rows."""
        sides = {"real": real, "generated": generated}
        warnings = [
            f"{self.name}: {each.left_out} of {each.left_out + len(each.rows)} {side} patches have no features"
            for side, each in sides.items()
            if each.left_out
        ]
        if min(len(each.rows) for each in sides.values()) < FEWEST_ROWS:
            return Distances({}, {}, {}, [*warnings, f"{self.name}: no value of fewer than {FEWEST_ROWS} patches"], {})
        found = distances_between(real.features, generated.features, [self.chosen], real_subjects=subjects, seed=seed)
        return Distances(found.metrics, found.intervals, found.sd_kmeans, [*warnings, *found.warnings], found.curves)

    def floor(self, real: OwnRows, subjects: NDArray[Any], *, count: int, seed: int) -> Floor | None:
        """What `floor_of` tells, of this metric; None of too few subjects or patches."""
        if len(np.unique(subjects)) < FEWEST_SUBJECTS or len(real.rows) < 2 * FEWEST_ROWS:
            return None
        return floor_between_halves(real.features, subjects, [self.chosen], count=count, seed=seed)

    def facts(self, count: int, spacing_mm: Sequence[float]) -> dict[str, OwnFacts]:
        """By key: what its values were computed with."""
        extractor = getattr(self.options.extractor(spacing_mm), "name", self.name)
        return {row.key: {"samples": count, "extractor": extractor} for row in self.chosen.measurement.metrics}


def own_metrics(wanted: Wanted) -> list[OwnMetric]:
    """Those of a stage's options. Raises InputError where one cannot be computed here."""
    refuse_missing(wanted)
    return [OwnMetric(each, each.options) for each in chosen("set", wanted) if isinstance(each.options, OwnFeatures)]


def with_floor(floor: Floor, other: Floor | None) -> Floor:
    """A floor with the values of another; what it is, the first one says."""
    if other is None:
        return floor
    return {**floor, "metrics": floor["metrics"] | other["metrics"], "sd": floor["sd"] | other["sd"]}
