"""How synthetic pairs are stored, whoever made them. Imports no torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.values import PairsValues

__all__ = ["INT16_SCALE", "decoded", "describe_pairs", "encoded"]

INT16_SCALE = 32767  # intensities in [-1, 1] are stored as 16-bit integers, half the bytes of float32
SHOWN_PAIRS = 16  # kept in a small file of their own for the report


def encoded(images: NDArray[np.float32]) -> NDArray[np.int16]:
    """Intensities in [-1, 1] as they are stored."""
    return np.rint(images * INT16_SCALE).astype(np.int16)


def decoded(images: NDArray[np.int16]) -> NDArray[np.float32]:
    """Stored intensities in [-1, 1] again."""
    return images.astype(np.float32) / np.float32(INT16_SCALE)


def describe_pairs(folder: Path, images: NDArray[np.int16], labels: NDArray[np.bool_]) -> PairsValues:
    """Write `shown.npz`, the first pairs, and return what there is to say of all (N, X, Y, Z)."""
    np.savez(folder / "shown.npz", images=images[:SHOWN_PAIRS], labels=labels[:SHOWN_PAIRS])
    shares = labels.reshape(len(labels), -1).mean(axis=1)
    return {"pairs": len(labels), "vessel_share": float(shares.mean()), "without_vessel": int((shares == 0).sum())}
