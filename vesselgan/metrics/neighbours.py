"""Precision, recall, density and coverage of generated features by nearest neighbours."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, check_count, checked_feature_pair

__all__ = ["precision_recall_density_coverage"]

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
    centre = real_rows.mean(axis=0)  # far from the origin the squared distances would lose digits
    real_rows, generated_rows = real_rows - centre, generated_rows - centre

    real_radii, generated_radii = _squared_radii(real_rows, k), _squared_radii(generated_rows, k)
    balls_around_generated = np.zeros(len(generated_rows), int)
    recalled, covered = 0, 0
    for block, distances in _squared_distance_blocks(real_rows, generated_rows):
        balls_around_generated += (distances < real_radii[block, None]).sum(axis=0)
        recalled += int((distances < generated_radii).any(axis=1).sum())
        covered += int((distances.min(axis=1) < real_radii[block]).sum())
    return {
        "precision": float((balls_around_generated > 0).mean()),
        "recall": recalled / len(real_rows),
        "density": float(balls_around_generated.mean()) / k,
        "coverage": covered / len(real_rows),
    }


def _squared_radii(rows: Floats, k: int) -> Floats:
    """(N,) squared distance of each row to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for block, distances in _squared_distance_blocks(rows, rows):
        # The row itself, at distance 0, is among the k + 1 nearest.
        radii[block] = np.partition(distances, k, axis=1)[:, k]
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
