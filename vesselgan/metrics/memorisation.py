"""Audit for memorisation: are generated samples closer to the training data than unseen real samples are?"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from vesselgan.metrics.estimates import CONFIDENCE
from vesselgan.metrics.inputs import Floats, Parts, check_count, check_level, checked_numbers

__all__ = [
    "ClosePair",
    "MemorisationAudit",
    "NearestTraining",
    "SharedSamplesError",
    "block_means",
    "memorisation_audit",
    "mirrored",
    "nearest_training",
]

# One block of distances takes at most this many numbers (32 MiB), however many samples there are.
_BLOCK_NUMBERS = 2**22
_PERCENTILE = 0.01
_NEAR_ZERO = 0.1


class SharedSamplesError(ValueError):
    """The held-out samples are training samples."""


@dataclass(frozen=True, slots=True)
class ClosePair:
    """A generated sample, its nearest training sample (row numbers), their distance, and which mirrored copy it was."""

    generated: int
    training: int
    distance: float
    copy: int

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """The axes of a patch along which that copy of `mirrored` (over all three axes) was mirrored."""
        return _mirrored_axes(self.copy, (0, 1, 2))


@dataclass(frozen=True, slots=True)
class MemorisationAudit:
    """What `memorisation_audit` finds.

    threshold: 1st percentile of the held-out-to-training distances, the r-th smallest of H; expected_share: r / (H +
    1), 0.01 but for rounding, more with under 100 held-out samples. close_count, close_share: generated samples
    nearer to the training set than that; excess: close_share - expected_share, its interval by the binomial law.
    shared: held-out samples that are training samples, as patches without anything in them are. They and generated
    samples equal to the same training samples are in no other number: of them nothing can be told.
    near_zero: generated samples no further than a tenth of the median held-out distance; held_out_near_zero the same of
    held-out ones. p_value: chance of as many close samples if generated and held-out samples followed one law;
    memorised: p_value below alpha. pairs: the closest generated samples, closest first.
    """

    threshold: float
    expected_share: float
    close_count: int
    close_share: float
    excess: float
    excess_low: float
    excess_high: float
    near_zero: int
    held_out_near_zero: int
    p_value: float
    alpha: float
    memorised: bool
    generated_count: int
    held_out_count: int
    training_count: int
    generated_median: float
    held_out_median: float
    pairs: tuple[ClosePair, ...]
    shared: int = 0


def memorisation_audit(
    *,
    training: ArrayLike,
    held_out: ArrayLike,
    generated: ArrayLike,
    pairs: int = 10,
    level: float = CONFIDENCE,
    alpha: float = 0.01,
) -> MemorisationAudit:
    """Compare how near generated samples and held-out real samples lie to the training set.

    Features: training is (N, d); held_out and generated are (H, d) and (M, d), or (C, H, d) and (C, M, d), the features
    of C mirrored copies of each patch, of which the nearest counts (`mirrored` makes the copies). For image space pass
    the patches' block means (`block_means`) in place of features. Distances are Euclidean. Held-out samples must be of
    other subjects than the training ones.

    An honest generator has 1 % of its samples below the 1st percentile of the held-out distances, on average. That
    percentile is an estimate, too, which the binomial interval of the excess leaves out; the p-value does not: under
    one law for both, the number of M generated samples below the r-th nearest of H held-out ones is beta-binomial
    (M, r, H - r + 1), whatever the law. It is tried at the 1st percentile and at the very nearest held-out sample,
    where a few close copies show best, and the smaller chance is doubled.
    What the test cannot tell from copying: samples smoother than real ones come closer, too, and so do those of a
    generator that knows the training subjects' anatomy. So look at the pairs before accusing it.

    Empty case: fewer than 2 rows in any set are an error, and so is a median held-out distance of 0
    (SharedSamplesError): the sets share their samples, and nothing could come nearer. Time N (H + M) C d; 32 MiB beside
    float64 copies of the inputs.
    Source: Meehan et al. 2020 (data copying: generated against held-out distances to the training set).
    """
    training_rows = _checked_rows("training", training, copies=False)[0]
    held_out_rows = _checked_rows("held_out", held_out, copies=True)
    generated_rows = _checked_rows("generated", generated, copies=True)
    for name, rows in (("held_out", held_out_rows), ("generated", generated_rows)):
        if rows.shape[2] != training_rows.shape[1]:
            raise ValueError(f"{name} has {rows.shape[2]} features per row, but training has {training_rows.shape[1]}")
    if len(held_out_rows) != len(generated_rows):
        raise ValueError(f"generated has {len(generated_rows)} copies per row, but held_out has {len(held_out_rows)}")
    check_count("pairs", pairs, at_least=0)
    check_level(level)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, but is {alpha}")

    unseen = nearest_training(held_out_rows, training_rows)
    if np.median(unseen.distances) == 0:
        raise SharedSamplesError("held_out and training share samples: hold out other subjects")
    common = np.unique(unseen.rows[unseen.distances == 0])
    known = np.sort(unseen.distances[unseen.distances > 0])
    found = nearest_training(generated_rows, training_rows)
    judged = np.flatnonzero(~((found.distances == 0) & np.isin(found.rows, common)))
    if len(known) < 2 or not len(judged):
        raise SharedSamplesError("held_out, generated and training share their samples: nothing is left to judge")
    found = NearestTraining(found.distances[judged], found.rows[judged], found.copies[judged])
    count = len(found.distances)
    rank = max(1, round(_PERCENTILE * (len(known) + 1)))
    expected = rank / (len(known) + 1)
    threshold = float(known[rank - 1])
    close = int(np.count_nonzero(found.distances < threshold))
    interval = scipy.stats.binomtest(close, count, expected).proportion_ci(level)
    p_value = min(1.0, 2 * min(_chance(found.distances, known, order) for order in {1, rank}))
    small = float(np.median(known)) * _NEAR_ZERO
    closest = np.argsort(found.distances, kind="stable")[:pairs]
    return MemorisationAudit(
        threshold=threshold,
        expected_share=expected,
        close_count=close,
        close_share=close / count,
        excess=close / count - expected,
        excess_low=float(interval.low) - expected,
        excess_high=float(interval.high) - expected,
        near_zero=int(np.count_nonzero(found.distances <= small)),
        held_out_near_zero=int(np.count_nonzero(known <= small)),
        p_value=p_value,
        alpha=alpha,
        memorised=p_value < alpha,
        generated_count=count,
        held_out_count=len(known),
        training_count=len(training_rows),
        generated_median=float(np.median(found.distances)),
        held_out_median=float(np.median(known)),
        pairs=tuple(
            ClosePair(int(judged[row]), int(found.rows[row]), float(found.distances[row]), int(found.copies[row]))
            for row in closest
        ),
        shared=len(unseen.distances) - len(known),
    )


def block_means(patches: Iterable[ArrayLike], most: int = 8) -> Floats:
    """(N, x, y, z) means over blocks of patches (N, X, Y, Z) or of an iterator of them: small images to compare.

    Each axis is cut into as many equal blocks as divide it, at most `most`; where none do (31, 127), into nearly equal
    ones, alike from both ends. The means keep anatomy and drop noise, so a copy
    with noise added stays close; and a mirrored patch has mirrored means. One patch at a time is in memory.
    """
    check_count("most", most, at_least=1)
    means: list[Floats] = []
    shape: tuple[int, ...] | None = None
    for index, patch in enumerate(patches):
        volume = checked_numbers(f"patches[{index}]", patch)
        if volume.ndim != 3 or not volume.size or (shape is not None and volume.shape != shape):
            wanted = "an (X, Y, Z) volume" if shape is None else f"of shape {shape}, as the first"
            raise ValueError(f"patches[{index}] must be {wanted}, but has shape {volume.shape}")
        shape = volume.shape
        means.append(_means(volume, [_parts(size, most) for size in shape]))
    if not means:
        raise ValueError("patches must hold at least one patch")
    return np.stack(means)


def _parts(size: int, most: int) -> int:
    """Into how many blocks an axis is cut."""
    divisor = max(parts for parts in range(1, most + 1) if size % parts == 0)
    if divisor > 1 or min(size, most) == 1:
        return divisor
    # The axis is odd and longer than `most` here, and only an odd number of blocks can lie alike from both ends.
    return most if most % 2 else most - 1


def _means(volume: NDArray[Any], parts: Sequence[int]) -> Floats:
    if all(size % count == 0 for size, count in zip(volume.shape, parts, strict=True)):
        blocks = [length for size, count in zip(volume.shape, parts, strict=True) for length in (count, size // count)]
        return np.asarray(volume.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float64))
    means = volume.astype(np.float64)
    for axis, count in enumerate(parts):
        bounds = np.rint(np.linspace(0, volume.shape[axis], count + 1)).astype(np.intp)
        sums = np.add.reduceat(means, bounds[:-1], axis=axis)
        means = np.moveaxis(np.moveaxis(sums, axis, -1) / np.diff(bounds), -1, axis)
    return means


def mirrored(patches: ArrayLike, axes: Sequence[int] = (0, 1, 2)) -> Floats:
    """(C, N, x y z) rows of (N, x, y, z) patches mirrored along every choice of the axes: C = 2 to the number of axes.

    Copy 0 is the patch itself. Copy c is mirrored along axes[i] where bit i of c is set.
    """
    volumes = checked_numbers("patches", patches)
    if volumes.ndim != 4:
        raise ValueError(f"patches must be (N, x, y, z), but have shape {volumes.shape}")
    if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"axes must be different ones of 0, 1, 2, but are {tuple(axes)}")
    copies = [
        np.flip(volumes, tuple(axis + 1 for axis in _mirrored_axes(copy, axes))) for copy in range(2 ** len(axes))
    ]
    return np.stack([copy.reshape(len(volumes), -1) for copy in copies]).astype(np.float64)


def _mirrored_axes(copy: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for bit, axis in enumerate(axes) if copy >> bit & 1)


@dataclass(frozen=True, slots=True, eq=False)
class NearestTraining:
    """(Q,) distance of each query to its nearest training row, that row's number, and the copy that was nearest."""

    distances: Floats
    rows: Parts
    copies: Parts


def nearest_training(queries: Floats, training: Floats) -> NearestTraining:
    """Nearest of the training rows (N, d) to each query, by blocks; of queries (C, Q, d) the nearest copy counts."""
    centre = training.mean(axis=0)  # far from the origin the squared distances would lose digits
    training = training - centre
    norms = np.einsum("nd,nd->n", training, training)
    count = queries.shape[1]
    best, rows, copies = np.full(count, np.inf), np.zeros(count, np.intp), np.zeros(count, np.intp)
    step = max(1, _BLOCK_NUMBERS // len(training))
    for copy, start in itertools.product(range(len(queries)), range(0, count, step)):
        block = slice(start, start + step)
        points = queries[copy, block] - centre
        products = points @ training.T  # (block, N)
        products *= -2
        products += norms  # |x - y|^2 but for |x|^2, which is the same for all y
        nearest = products.argmin(axis=1)
        # The distance itself without cancellation: that of a copy is 0 and not the rounding of large norms.
        distances = np.linalg.norm(points - training[nearest], axis=1)
        closer = distances < best[block]
        best[block][closer] = distances[closer]
        rows[block][closer] = nearest[closer]
        copies[block][closer] = copy
    return NearestTraining(best, rows, copies)


def _chance(distances: Floats, known: Floats, order: int) -> float:
    """Chance of so many generated samples below the order-th smallest known distance, under one law for both."""

    closer = int(np.count_nonzero(distances < known[order - 1]))
    return float(scipy.stats.betabinom.sf(closer - 1, len(distances), order, len(known) - order + 1))


def _checked_rows(name: str, values: ArrayLike, *, copies: bool) -> Floats:
    """(C, N, d) finite float64 rows."""
    rows = checked_numbers(name, values).astype(np.float64, copy=False)
    if rows.ndim == 2:
        rows = rows[None]
    elif not copies or rows.ndim != 3:
        shapes = "(N, d) or (copies, N, d)" if copies else "(N, d)"
        raise ValueError(f"{name} must be {shapes}, but has shape {rows.shape}")
    if rows.shape[0] < 1 or rows.shape[1] < 2 or rows.shape[2] < 1:
        raise ValueError(f"{name} must hold 2 rows of features or more, but has shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds NaN or infinite features")
    return rows
