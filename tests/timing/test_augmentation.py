"""Time of varying a batch of patches."""

import time

import numpy as np
import pytest

from vesselgan.data import Augmentation, augment


@pytest.mark.benchmark
def test_a_laptop_batch_takes_about_two_milliseconds() -> None:
    images = np.random.default_rng(0).random((8, 32, 32, 16), dtype=np.float32)
    labels = (images > 0.97).astype(np.float32)
    times = []
    for step in range(200):
        start = time.perf_counter()
        augment(images, labels, Augmentation(), seed=0, step=step)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 3e-3
