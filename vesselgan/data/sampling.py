"""Which samples make the batch of a training step: epochs of random order, as a function of the step alone."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpochSampler", "PoissonSampler"]


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
