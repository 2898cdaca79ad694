"""What a generator's [-1, 1] becomes in a file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError

__all__ = ["Intensities"]

_FEWEST_STEPS = 200  # of whole numbers between black and white; rounding to fewer would be seen
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Intensities:
    """The values that -1 and 1 are written as. Raises InputError unless they are finite and in this order.

    Whole numbers (int16), as scanners count, where the range has at least 200 of them and fits, else float32.
    """

    black: float
    white: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.black) and np.isfinite(self.white) and self.black < self.white):
            raise InputError(f"intensities {self.black:g} to {self.white:g}: give two numbers, black below white")

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16 or float32."""
        fits = _INT16.min <= self.black and self.white <= _INT16.max
        return np.dtype(np.int16 if fits and self.white - self.black >= _FEWEST_STEPS else np.float32)

    def stored(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Images of any shape in [-1, 1] as they are written."""
        # Weighted ends and not a slope, so that -1 and 1 become black and white exactly.
        share = (images.astype(np.float64) + 1) / 2
        values = self.black * (1 - share) + self.white * share
        return (np.rint(values) if self.dtype == np.int16 else values).astype(self.dtype)
