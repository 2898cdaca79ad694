"""Many k-means runs over the same points at once: one matrix product per step serves them all."""

from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from vesselgan.metrics.inputs import Floats

__all__ = ["kmeans_labels"]

Labels: TypeAlias = NDArray[np.intp]
Singles: TypeAlias = NDArray[np.float32]

_MOST_STEPS = 100
_LEAST_GAIN = 2e-4
_TRIALS = 4


def kmeans_labels(points: Floats, *, clusters: int, runs: int, rng: np.random.Generator) -> Labels:
    """(N, runs) cluster of each point in each run: greedy k-means++ seeding, then Lloyd steps.

    A run stops once a step lowers its inertia by no more than 0.02 %. Distances are computed in float32, about the
    points' mean and on the scale of their spread: twice as fast, and a point that lies so evenly between two centres
    that this decides may go to either.
    """
    uniforms = rng.random((clusters, _TRIALS, runs))  # all randomness; from here on the result is determined
    points = points - points.mean(axis=0)  # far from the origin the squared distances would lose digits
    scale = float(np.sqrt(np.mean(points**2)))
    scaled = np.ones((len(points), points.shape[1] + 1), np.float32)
    scaled[:, :-1] = points / (scale if scale > 0 else 1)
    centres = _seeded_centres(scaled[:, :-1], uniforms)
    total = np.einsum("nd,nd->", scaled[:, :-1], scaled[:, :-1], dtype=np.float64)
    labels = np.empty((len(points), runs), np.intp)
    inertia = np.full(runs, np.inf)
    running = np.arange(runs)
    for _ in range(_MOST_STEPS):
        labels[:, running], scores = _assigned(scaled, centres)
        new_inertia = scores + total
        gained = new_inertia < (1 - _LEAST_GAIN) * inertia[running]
        inertia[running] = new_inertia
        running, centres = running[gained], centres[gained]
        if not len(running):
            break
        centres = _moved(centres, scaled[:, :-1], labels[:, running])
    return labels


def _seeded_centres(points: Singles, uniforms: Floats) -> Singles:
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


def _squared_distances(points: Singles, squared_norms: Singles, chosen: Labels) -> Singles:
    """(N, len(chosen)) squared distances of all points to the chosen ones."""
    products = points @ points[chosen].T
    distances: Singles = np.maximum(squared_norms[:, None] + squared_norms[chosen] - 2 * products, 0)
    return distances


def _drawn_in_proportion(weights: Singles, uniforms: Floats) -> Labels:
    """(trials, runs) rows of weights (N, runs), each drawn in proportion to its weight within the run."""
    cumulative = weights.cumsum(axis=0, dtype=np.float64)
    levels = uniforms * cumulative[-1]
    drawn = [np.searchsorted(*run, side="right") for run in zip(cumulative.T, levels.T, strict=True)]
    # Past the end only where all weights are 0: fewer distinct points than clusters, so any point will do.
    return np.stack(drawn, axis=1).clip(max=len(weights) - 1)


def _assigned(points_and_one: Singles, centres: Singles) -> tuple[Labels, Floats]:
    """Nearest centre of each point (N, runs), and the inertia of each run (runs,), less the sum of all |x|^2."""
    runs, clusters, width = centres.shape
    # |c|^2 - 2 c.x in one product, as the points carry a 1; |x|^2 is the same for all centres of a point.
    weights = np.empty((runs * clusters, width + 1), np.float32)
    weights[:, :-1] = -2 * centres.reshape(runs * clusters, width)
    weights[:, -1] = np.einsum("rkd,rkd->rk", centres, centres).ravel()
    scores = (points_and_one @ weights.T).reshape(-1, runs, clusters)
    labels = scores.argmin(axis=2)
    nearest = np.take_along_axis(scores, labels[..., None], axis=2)[..., 0]
    return labels, nearest.sum(axis=0, dtype=np.float64)


def _moved(centres: Singles, points: Singles, labels: Labels) -> Singles:
    """(runs, clusters, d) means of the clusters; an empty cluster keeps its centre."""
    runs, clusters, width = centres.shape
    columns = (labels + clusters * np.arange(runs)).ravel()
    rows = np.arange(0, columns.size + 1, runs)
    membership = scipy.sparse.csr_array(
        (np.ones(columns.size, np.float32), columns, rows), shape=(len(points), runs * clusters)
    )
    sums = (membership.T @ points).reshape(runs, clusters, width)
    counts = np.bincount(columns, minlength=runs * clusters).reshape(runs, clusters, 1)
    means: Singles = np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)
    return means
