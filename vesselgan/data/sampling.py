"""Which samples make the batch of a training step, as a function of the step alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpochSampler", "PlaceSampler", "PoissonSampler"]


class EpochSampler:
    """Indices of a step's batch: every epoch is a new permutation of all samples, drawn from (seed, epoch).

    Nothing is remembered between steps, so a resumed training sees the batches that it would have seen. With
    `drop_last` False an epoch ends with a batch of what is left over, as in the paper's code (D13).
    """

    def __init__(self, samples: int, batch: int, *, seed: int, drop_last: bool) -> None:
        if samples < 1 or batch < 1:
            raise ValueError(f"samples ({samples}) and batch ({batch}) must be at least 1")
        self.samples = samples
        self.batch = min(batch, samples)
        self.steps_per_epoch = samples // self.batch if drop_last else -(-samples // self.batch)
        self._seed = seed
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def __call__(self, step: int) -> NDArray[np.intp]:
        """Indices (B,) of the samples of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self._seed, epoch]).permutation(self.samples)
        return self._order[1][place * self.batch : (place + 1) * self.batch]


class PoissonSampler:
    """Indices of a step's batch where every sample comes in by chance, apart from all others: batches vary in size.

    This is what the accounting of differential privacy assumes. A batch may be empty; on average it has `batch`.
    """

    def __init__(self, samples: int, batch: int, *, seed: int) -> None:
        if samples < 1 or batch < 1:
            raise ValueError(f"samples ({samples}) and batch ({batch}) must be at least 1")
        self.samples = samples
        self.batch = min(batch, samples)
        self.sample_rate = self.batch / samples
        self.steps_per_epoch = samples // self.batch
        self._seed = seed

    def __call__(self, step: int) -> NDArray[np.intp]:
        """Indices of the samples of a step, in order, counted from 0; any number of them."""
        return np.flatnonzero(np.random.default_rng([self._seed, step]).random(self.samples) < self.sample_rate)


class PlaceSampler:
    """Where a step's patches are cut, anew for every step: each around a vessel voxel of a subject, or from anywhere.

    All subjects are equally likely, and so are all vessel voxels of one; a share `anywhere` of the patches, and all of
    a subject without vessels, is placed inside of the volume with equal chance.
    """

    def __init__(
        self,
        labels: Sequence[NDArray[np.bool_]],
        patch_size: Sequence[int],
        batch: int,
        *,
        anywhere: float,
        seed: int,
    ) -> None:
        self._shapes = [label.shape for label in labels]
        # Half the bytes of what flatnonzero gives: a volume has less than 2**31 voxels.
        self._vessels = [np.flatnonzero(label).astype(np.int32) for label in labels]
        self._patch_size = np.asarray(patch_size)
        self.batch, self._anywhere, self._seed = batch, anywhere, seed

    def __call__(self, step: int) -> NDArray[np.int64]:
        """(batch, 4): the subject's number, and the corner in its voxels, of each patch of a step, counted from 0."""
        rng = np.random.default_rng([self._seed, step])
        subjects = rng.integers(len(self._shapes), size=self.batch)
        free = rng.random(self.batch) < self._anywhere
        corners = [
            self._anywhere_in(self._shapes[subject], rng)
            if anywhere or not len(self._vessels[subject])
            else self._at_vessel(subject, rng)
            for subject, anywhere in zip(subjects.tolist(), free.tolist(), strict=True)
        ]
        return np.column_stack([subjects, np.stack(corners)])

    def _at_vessel(self, subject: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """So that the patch's central voxel (index size // 2) is a vessel voxel; it may overhang the border."""
        vessels = self._vessels[subject]
        voxel = np.unravel_index(vessels[rng.integers(len(vessels))], self._shapes[subject])
        corner: NDArray[np.int64] = np.asarray(voxel, np.int64) - self._patch_size // 2
        return corner

    def _anywhere_in(self, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
        """On an axis shorter than the patch it is centred."""
        spare = np.asarray(shape) - self._patch_size
        corner: NDArray[np.int64] = np.where(spare < 0, spare // 2, rng.integers(np.maximum(spare, 0) + 1))
        return corner
