"""How synthetic pairs are stored, whoever made them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["INT16_SCALE", "describe_pairs"]

INT16_SCALE = 32767  # intensities in [-1, 1] are stored as 16-bit integers, half the bytes of float32
SHOWN_PAIRS = 16  # kept in a small file of their own for the report


def describe_pairs(folder: Path, images: NDArray[np.int16], labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Write `shown.npz`, the first pairs, and return what there is to say of all (N, X, Y, Z)."""
    np.savez(folder / "shown.npz", images=images[:SHOWN_PAIRS], labels=labels[:SHOWN_PAIRS])
    shares = labels.reshape(len(labels), -1).mean(axis=1)
    return {"pairs": len(labels), "vessel_share": float(shares.mean()), "without_vessel": int((shares == 0).sum())}
