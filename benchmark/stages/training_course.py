"""What is looked at now and then while a generator trains: pictures of the same random numbers."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.files import atomic_path
from vesselgan.synthesis import Pairs

__all__ = ["CourseRecorder"]


class CourseRecorder:
    """Called with the steps done and pairs, adds a moment to `course.npz`.

    The file has, for each moment, the steps done, and projections along the last axis of pairs that are made of the
    same random numbers every time: images int8 (T, N, X, Y), -127..127 for -1..1, and labels bool.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, steps_done: int, pairs: Pairs) -> None:
        """Keep this moment; those that lie behind a crash come again."""
        moment: dict[str, NDArray[Any]] = {
            "steps": np.array([steps_done]),
            "images": np.rint(127 * pairs.images.max(axis=-1)).astype(np.int8)[None],
            "labels": np.any(pairs.labels, axis=-1)[None],
        }
        if self._path.is_file():
            with np.load(self._path) as known:
                earlier = known["steps"] < steps_done
                moment = {name: np.concatenate([known[name][earlier], moment[name]]) for name in moment}
        with atomic_path(self._path) as temporary:
            np.savez(temporary, allow_pickle=False, **moment)
