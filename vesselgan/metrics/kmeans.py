"""Many k-means runs over the same points at once: one matrix product per step serves them all."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from vesselgan.metrics.inputs import Floats

__all__ = ["kmeans_labels"]

Labels: TypeAlias = NDArray[np.intp]

_MOST_STEPS = 100
_LEAST_GAIN = 1e-4
_TRIALS = 4


def kmeans_labels(points: Floats, *, clusters: int, runs: int, rng: np.random.Generator) -> Labels:
    """(N, runs) cluster of each point in each run: greedy k-means++ seeding, then Lloyd steps.

    Stops when no run lowers its inertia by more than 0.01 % in a step.
    """
    uniforms = rng.random((clusters, _TRIALS, runs))  # all randomness; from here on the result is determined
    points = points - points.mean(axis=0)  # far from the origin the squared distances would lose digits
    centres = _seeded_centres(points, uniforms)
    inertia = np.full(runs, np.inf)
    for _ in range(_MOST_STEPS):
        labels, new_inertia = _assigned(points, centres)
        if (new_inertia >= (1 - _LEAST_GAIN) * inertia).all():
            break
        inertia = new_inertia
        centres = _moved(centres, points, labels)
    return labels


def _seeded_centres(points: Floats, uniforms: Floats) -> Floats:
    """(runs, clusters, d) points drawn in proportion to the squared distance to the nearest centre so far.

    Of each centre's trial draws the one that leaves the smallest inertia is kept (the greedy variant of Arthur and
    Vassilvitskii 2007).
    """
    clusters, trials, runs = uniforms.shape
    each_run = np.arange(runs)
    squared_norms = np.einsum("nd,nd->n", points, points)
    chosen = np.empty((runs, clusters), np.intp)
    chosen[:, 0] = (uniforms[0, 0] * len(points)).astype(np.intp)
    nearest = _squared_distances(points, squared_norms, chosen[:, 0])  # (N, runs)
    for cluster in range(1, clusters):
        drawn = _drawn_in_proportion(nearest, uniforms[cluster])  # (trials, runs)
        after = _squared_distances(points, squared_norms, drawn.ravel()).reshape(len(points), trials, runs)
        np.minimum(after, nearest[:, None], out=after)
        best = after.sum(axis=0).argmin(axis=0)  # (runs,)
        chosen[:, cluster] = drawn[best, each_run]
        nearest = after[:, best, each_run]
    return points[chosen]


def _squared_distances(points: Floats, squared_norms: Floats, chosen: Labels) -> Floats:
    """(N, len(chosen)) squared distances of all points to the chosen ones."""
    products = points @ points[chosen].T
    distances: Floats = np.maximum(squared_norms[:, None] + squared_norms[chosen] - 2 * products, 0)
    return distances


def _drawn_in_proportion(weights: Floats, uniforms: Floats) -> Labels:
    """(trials, runs) rows of weights (N, runs), each drawn in proportion to its weight within the run."""
    cumulative = weights.cumsum(axis=0)
    levels = uniforms * cumulative[-1]
    drawn = [np.searchsorted(*run, side="right") for run in zip(cumulative.T, levels.T, strict=True)]
    # Past the end only where all weights are 0: fewer distinct points than clusters, so any point will do.
    return np.stack(drawn, axis=1).clip(max=len(weights) - 1)


def _assigned(points: Floats, centres: Floats) -> tuple[Labels, Floats]:
    """Nearest centre of each point (N, runs), and the inertia of each run (runs,)."""
    runs, clusters, width = centres.shape
    products = points @ centres.reshape(runs * clusters, width).T
    # |x|^2 is the same for all centres of a point, so it waits for the inertia.
    scores = (np.einsum("rkd,rkd->rk", centres, centres).ravel() - 2 * products).reshape(-1, runs, clusters)
    labels = scores.argmin(axis=2)
    nearest = np.take_along_axis(scores, labels[..., None], axis=2)[..., 0]
    return labels, nearest.sum(axis=0) + np.vdot(points, points)


def _moved(centres: Floats, points: Floats, labels: Labels) -> Floats:
    """(runs, clusters, d) means of the clusters; an empty cluster keeps its centre."""
    runs, clusters, width = centres.shape
    columns = (labels + clusters * np.arange(runs)).ravel()
    rows = np.arange(0, columns.size + 1, runs)
    membership = csr_array((np.ones(columns.size), columns, rows), shape=(len(points), runs * clusters))
    sums = (membership.T @ points).reshape(runs, clusters, width)
    counts = np.bincount(columns, minlength=runs * clusters).reshape(runs, clusters, 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), centres)
