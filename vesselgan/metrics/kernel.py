"""Kernel distance between two sets of features: unbiased, so it stands beside the Fréchet distance."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vesselgan.metrics.inputs import Floats, Parts, checked_feature_pair

__all__ = ["kernel_distance", "kernel_leave_outs"]

_ROWS_PER_BLOCK = 1024


def kernel_distance(*, real: ArrayLike, generated: ArrayLike) -> float:
    """Squared maximum mean discrepancy with the kernel k(x, y) = (x.y / d + 1)^3 (KID), over the full sets.

    mean_{i != j} k(r_i, r_j) + mean_{i != j} k(g_i, g_j) - 2 mean_{i, j} k(r_i, g_j): the unbiased estimate. No random
    subsets, so no spread either.

    real is (N, d), generated (M, d), N, M >= 2, computed in float64. In cubed feature units; lower is better; 0 on
    average for equal laws, and so at times a little below 0; symmetric. Empty case: fewer than two rows are an error.
    Source: Binkowski et al. 2018; torch-fidelity with one subset of all rows.
    """
    real_rows, generated_rows = checked_feature_pair(real, generated)
    one_part = np.zeros(len(real_rows), int), np.zeros(len(generated_rows), int)
    return _distance(*_part_sums(real_rows, generated_rows, one_part))


def kernel_leave_outs(real: Floats, generated: Floats, parts: tuple[Parts, Parts]) -> tuple[float, Floats]:
    """`kernel_distance`, and (folds,) the same without each part of both sets in turn; at the cost of one."""
    sums = _part_sums(real, generated, parts)
    folds = int(parts[0].max()) + 1
    return _distance(*sums), np.array([_distance(*(_without(part, side) for side in sums)) for part in range(folds)])


@dataclass(frozen=True, slots=True, eq=False)
class _PartSums:
    """Kernel values summed over pairs of parts (folds, folds), no row with itself, and the number of such pairs."""

    total: Floats
    pairs: Floats

    @property
    def mean(self) -> float:
        return float(self.total.sum() / self.pairs.sum())


def _distance(real: _PartSums, generated: _PartSums, across: _PartSums) -> float:
    return real.mean + generated.mean - 2 * across.mean


def _without(part: int, sums: _PartSums) -> _PartSums:
    kept = np.arange(len(sums.total)) != part
    return _PartSums(sums.total[np.ix_(kept, kept)], sums.pairs[np.ix_(kept, kept)])


def _part_sums(real: Floats, generated: Floats, parts: tuple[Parts, Parts]) -> tuple[_PartSums, _PartSums, _PartSums]:
    """Within real, within generated, and across."""
    folds = int(parts[0].max()) + 1
    real_in, generated_in = (np.eye(folds)[side] for side in parts)  # (N, folds) membership
    return (
        _within(real, real_in),
        _within(generated, generated_in),
        _PartSums(
            _summed(real, generated, real_in, generated_in), np.outer(real_in.sum(axis=0), generated_in.sum(axis=0))
        ),
    )


def _within(rows: Floats, membership: Floats) -> _PartSums:
    sizes = membership.sum(axis=0)
    with_itself = _kernel(np.einsum("nd,nd->n", rows, rows), rows.shape[1])
    total = _summed(rows, rows, membership, membership) - np.diag(with_itself @ membership)
    return _PartSums(total, np.outer(sizes, sizes) - np.diag(sizes))


def _summed(left: Floats, right: Floats, left_in: Floats, right_in: Floats) -> Floats:
    total = np.zeros((left_in.shape[1], right_in.shape[1]))
    for block, values in _kernel_blocks(left, right):
        total += left_in[block].T @ (values @ right_in)
    return total


def _kernel_blocks(left: Floats, right: Floats) -> Iterator[tuple[slice, Floats]]:
    """The (N, M) kernel matrix by blocks of rows: memory stays linear in the number of samples."""
    for start in range(0, len(left), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        yield block, _kernel(left[block] @ right.T, left.shape[1])


def _kernel(products: Floats, width: int) -> Floats:
    base = products / width + 1
    return base * base * base
