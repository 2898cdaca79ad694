"""Precision, recall, density and coverage of generated features by nearest neighbours."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, Mask, Parts, check_count, checked_feature_pair

__all__ = ["neighbour_leave_outs", "precision_recall_density_coverage"]

_ROWS_PER_BLOCK = 1024
# Squared distances come from |x|^2 + |y|^2 - 2 x.y; what is this small beside the norms is rounding of a true 0.
_ROUNDING = 1e-13


def precision_recall_density_coverage(*, real: ArrayLike, generated: ArrayLike, k: int = 5) -> dict[str, float]:
    """How much of the generated set lies among the real one (precision, density), and the reverse (recall, coverage).

    Each sample has a ball that reaches to the k-th nearest other sample of its own set, its surface excluded.
    precision: share of generated samples in any real ball. recall: share of real samples in any generated ball.
    density: real balls around a generated sample, over k, on average. coverage: share of real balls with a generated
    sample in them.

    real is (N, d), generated (M, d), computed in float64; 1 <= k < N, M. Without unit; 0 to 1, but density can exceed
    1; higher is better for all four. Empty case: fewer than k + 1 rows are an error.
    Source: Kynkaanniemi et al. 2019 (precision, recall); Naeem et al. 2020 and its package prdc (density, coverage).
    """
    real_rows, generated_rows = checked_feature_pair(real, generated)
    check_count("k", k, at_least=1, at_most=min(len(real_rows), len(generated_rows)) - 1)
    nothing_left_out = np.zeros(len(real_rows), int), np.zeros(len(generated_rows), int)
    return neighbour_leave_outs(real_rows, generated_rows, nothing_left_out, k=k)[0]


def neighbour_leave_outs(
    real: Floats, generated: Floats, parts: tuple[Parts, Parts], *, k: int
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """`precision_recall_density_coverage`, and the same without each part of both sets in turn.

    The distances, which cost the most, are computed once. A single part is never left out.
    """
    centre = real.mean(axis=0)  # far from the origin the squared distances would lose digits
    real, generated = real - centre, generated - centre
    folds = int(parts[0].max()) + 1
    # Which rows count: all of them, then all but each part.
    real_kept, generated_kept = (
        np.array([np.ones(len(side), bool)] + [side != part for part in range(folds) if folds > 1]) for side in parts
    )
    real_radii, generated_radii = _squared_radii(real, k, real_kept), _squared_radii(generated, k, generated_kept)
    tallies = [_Tally(len(generated)) for _ in real_kept]
    for block, distances in _squared_distance_blocks(real, generated):
        for index, tally in enumerate(tallies):
            rows, columns = real_kept[index, block], generated_kept[index]
            seen = distances if index == 0 else distances[np.ix_(rows, columns)]
            tally.add(seen, real_radii[index, block][rows], generated_radii[index][columns], columns)
    values = [
        tally.values(int(rows.sum()), columns, k)
        for tally, rows, columns in zip(tallies, real_kept, generated_kept, strict=True)
    ]
    return values[0], values[1:]


class _Tally:
    """Counts over blocks of real rows."""

    def __init__(self, generated_count: int) -> None:
        self.balls_around_generated = np.zeros(generated_count, int)
        self.recalled, self.covered = 0, 0

    def add(self, distances: Floats, real_radii: Floats, generated_radii: Floats, columns: Mask) -> None:
        self.balls_around_generated[columns] += np.count_nonzero(distances < real_radii[:, None], axis=0)
        self.recalled += int((distances < generated_radii).any(axis=1).sum())
        self.covered += int((distances.min(axis=1) < real_radii).sum())

    def values(self, real_count: int, columns: Mask, k: int) -> dict[str, float]:
        balls = self.balls_around_generated[columns]
        return {
            "precision": float((balls > 0).mean()),
            "recall": self.recalled / real_count,
            "density": float(balls.mean()) / k,
            "coverage": self.covered / real_count,
        }


def _squared_radii(rows: Floats, k: int, kept: Mask) -> Floats:
    """(len(kept), N) squared distance of each row to its k-th nearest other row among those that are kept."""
    radii = np.empty((len(kept), len(rows)))
    for block, distances in _squared_distance_blocks(rows, rows):
        for index, columns in enumerate(kept):
            seen = distances if columns.all() else distances[:, columns]
            # The row itself, at distance 0, is among the k + 1 nearest.
            radii[index, block] = np.partition(seen, k, axis=1)[:, k]
    return radii


def _squared_distance_blocks(left: Floats, right: Floats) -> Iterator[tuple[slice, Floats]]:
    """The (N, M) squared distances by blocks of rows: memory stays linear in the number of samples."""
    left_norms, right_norms = np.einsum("nd,nd->n", left, left), np.einsum("nd,nd->n", right, right)
    for start in range(0, len(left), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        norms = left_norms[block, None] + right_norms
        distances = norms - 2 * (left[block] @ right.T)
        distances[distances < _ROUNDING * norms] = 0
        yield block, distances
