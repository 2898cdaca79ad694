"""Two sets of features as the distances between them see them: whole, of equal counts, and with parts left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.estimates import CONFIDENCE, Estimate, jackknife
from vesselgan.metrics.frechet_infinite import FEWEST_GROUPS, FOLDS, Halving, paired_parts, random_halvings
from vesselgan.metrics.inputs import (
    Floats,
    Parts,
    check_count,
    check_level,
    checked_feature_pair,
    checked_features,
    checked_groups,
)

__all__ = ["FeatureSets", "SetScores", "feature_sets", "halved_subjects", "without_interval"]

_FEWEST_SUBJECTS = 10  # of fewer an interval says little


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSets:
    """Real and generated features, with all that is drawn at random for the distances between them.

    real is (N, d), generated (M, d), in float64. parts: (N,) and (M,), the part of each row that a jackknife leaves out
    in turn, subjects whole; None where no interval is wanted. halvings: which half each row lies in, several times
    over. chosen: as many rows of either set, for what depends on the counts. clustering: draws PRD's k-means, and is
    for nothing else. warnings: one line each on what the counts cannot bear.
    """

    real: Floats
    generated: Floats
    parts: Halving | None
    halvings: Sequence[Halving]
    chosen: Halving
    clustering: np.random.Generator
    level: float = CONFIDENCE
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Rows of each set in `equal`."""
        return len(self.chosen[0])

    @property
    def equal(self) -> "FeatureSets":
        """The same with equally many rows of both, the larger set thinned at random; then without halvings."""
        if len(self.real) == len(self.generated):
            return self
        real, generated = self.chosen
        kept = np.arange(self.count)
        return replace(
            self,
            real=self.real[real],
            generated=self.generated[generated],
            parts=None if self.parts is None else (self.parts[0][real], self.parts[1][generated]),
            halvings=(),
            chosen=(kept, kept),
        )

    def jackknifed(self, distance: Callable[[Floats, Floats], float]) -> Estimate:
        """A distance of (N, d) and (M, d) features, with the interval from leaving out each part of both in turn.

        Without `parts` its SD and interval are NaN. For what depends on the counts take `sets.equal.jackknifed`.
        """
        value = float(distance(self.real, self.generated))
        if self.parts is None:
            return without_interval(value, self.level)
        left = [
            distance(self.real[self.parts[0] != part], self.generated[self.parts[1] != part])
            for part in range(int(self.parts[0].max()) + 1)
        ]
        return jackknife(value, np.array(left, dtype=np.float64), level=self.level)


@dataclass(frozen=True, slots=True, eq=False)
class SetScores:
    """What is found between two sets: name -> Estimate, and what has to be known beside it.

    sd_kmeans: SD over k-means runs by name, beside the sampling error. curves: (runs, angles) each, by name. warnings:
    one line each on what the numbers cannot bear.
    """

    estimates: Mapping[str, Estimate]
    warnings: tuple[str, ...] = ()
    sd_kmeans: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Floats] = field(default_factory=dict)


def feature_sets(
    *,
    real: ArrayLike,
    generated: ArrayLike,
    real_subjects: ArrayLike | None = None,
    generated_subjects: ArrayLike | None = None,
    folds: int = FOLDS,
    level: float = CONFIDENCE,
    seed: int = 0,
) -> FeatureSets:
    """Check both sets and draw what their distances need; see `distribution_scores` for the arguments.

    Empty case: fewer than 8 rows or subjects in a set are an error.
    """
    real_rows, generated_rows = checked_feature_pair(real, generated)
    check_level(level)
    members = (
        checked_groups("real_subjects", real_subjects, len(real_rows)),
        checked_groups("generated_subjects", generated_subjects, len(generated_rows)),
    )
    count = min(len(real_rows), len(generated_rows))
    rng = np.random.default_rng(seed)
    parts = paired_parts(members, folds, rng)
    chosen = _drawn(len(real_rows), count, rng), _drawn(len(generated_rows), count, rng)
    return FeatureSets(
        real_rows,
        generated_rows,
        parts,
        random_halvings(members, rng),
        chosen,
        rng,
        level,
        warnings=(
            *_thinning_warnings(len(real_rows), len(generated_rows)),
            *_subject_warnings(members, (real_subjects is not None, generated_subjects is not None)),
        ),
    )


def halved_subjects(
    features: ArrayLike, subjects: ArrayLike, *, splits: int, count: int | None, seed: int
) -> Iterator[FeatureSets]:
    """One half of the real subjects as `real`, the other as `generated`, several times over; without intervals.

    Larger halves are thinned to `count` rows. See `real_floor` for the arguments.
    """
    rows = checked_features("features", features)
    members = checked_groups("subjects", subjects, len(rows))
    subject_count = int(members.max()) + 1
    if subject_count < FEWEST_GROUPS:
        needed = f"at least {FEWEST_GROUPS} (halves of halves are drawn)"
        raise ValueError(f"subjects must be {needed}, but are {subject_count}")
    check_count("splits", splits, at_least=1)
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        half = rng.permutation(subject_count)[members] < subject_count // 2
        sides = np.flatnonzero(half), np.flatnonzero(~half)
        size = min(len(sides[0]), len(sides[1]), *([] if count is None else [count]))
        first, second = (side[_drawn(len(side), size, rng)] for side in sides)
        halvings = random_halvings((_compact(members[first]), _compact(members[second])), rng)
        kept = np.arange(size)
        clustering = np.random.default_rng(int(rng.integers(2**32)))
        yield FeatureSets(rows[first], rows[second], None, halvings, (kept, kept), clustering)


def without_interval(value: float, level: float) -> Estimate:
    """An estimate whose SD and interval are NaN."""
    return Estimate(value, np.nan, np.nan, np.nan, level)


def _drawn(size: int, count: int, rng: np.random.Generator) -> Parts:
    """Sorted positions of `count` rows of `size`, drawn at random where fewer are wanted than there are."""
    drawn: Parts = np.arange(size) if count >= size else np.sort(rng.choice(size, count, replace=False))
    return drawn


def _compact(members: Parts) -> Parts:
    """Groups numbered from 0 without gaps."""
    return checked_groups("subjects", members, len(members))


def _thinning_warnings(real_count: int, generated_count: int) -> tuple[str, ...]:
    if real_count == generated_count:
        return ()
    larger, name = max((real_count, "real"), (generated_count, "generated"))
    smaller = min(real_count, generated_count)
    return (f"{name} was thinned from {larger} to {smaller} samples, but for kid and fid_infinite",)


def _subject_warnings(members: Halving, given: tuple[bool, bool]) -> tuple[str, ...]:
    found = []
    for name, groups, known in zip(("real", "generated"), members, given, strict=True):
        count = int(groups.max()) + 1
        if known and count < _FEWEST_SUBJECTS:
            found.append(f"intervals: {name} has {count} subjects, fewer than {_FEWEST_SUBJECTS}")
    if not given[0]:
        found.append("intervals: real_subjects are not known, so every real sample counts as independent")
    return tuple(found)
