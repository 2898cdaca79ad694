"""What the scanner adds to a head: slabs that differ in brightness, an uneven field, ghosts of pulsing blood, noise.

Brightness is that of white matter, 1, until `add_rician_noise` turns it into the scanner's units.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import FIELD_OF_VIEW_MM, Head, smooth_noise

__all__ = ["SLAB_MM", "add_ghosts", "add_rician_noise", "coil_field", "slab_gains"]

SLAB_MM = 30.0
_SLAB_STEP = 0.12  # standard deviation of the slabs' gains
_EDGE_LOSS = 0.25  # of the gain at a slab's edges, where the pulse turns the magnetisation less
_COIL_RISE = (0.5, 0.68)  # from the head's centre to its surface, which is nearer to the coils
_UNEVENNESS = 0.27
_MOST_UNEVEN = 2.0  # times that: a bound, since no scanner's field is without one
_UNEVEN_MM = 60.0
_GHOST = 0.035  # standard deviation of a ghost's amplitude
_GHOSTS = (1, 2)  # multiples of the distance between ghosts, on both sides
_WHITE_MATTER = 110.0  # scanner units
_BRIGHTEST = 4095  # 12 bits
_NOISE = 0.045  # of white matter


def coil_field(head: Head, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Sensitivity (X, Y, Z) of the receiving coils, about 1 from the brain's surface on and least in its middle."""
    field = head.coil_profile(shape, rng.uniform(*_COIL_RISE))
    np.minimum(field, np.float32(1), out=field)  # the coils lie around the head, not on it
    uneven = smooth_noise(shape, _UNEVEN_MM, rng)
    uneven /= np.float32(1) + np.abs(uneven) / np.float32(_MOST_UNEVEN)
    uneven *= np.float32(_UNEVENNESS)
    uneven += np.float32(1)
    field *= uneven
    return field


def slab_gains(slices: int, first_slab_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain of each slice (Z,): steps from slab to slab, and a dip where two slabs meet."""
    place = ((np.arange(slices) + 0.5) * FIELD_OF_VIEW_MM[2] / slices - first_slab_mm) / SLAB_MM
    slab = np.floor(place).astype(int)
    steps = 1 + _SLAB_STEP * rng.standard_normal(int(slab.max() - slab.min()) + 1)
    across = 2 * (place - slab) - 1  # -1 and 1 at the slab's edges
    square = across * across
    gains = np.maximum(steps, 0.6)[slab - slab.min()] * (1 - _EDGE_LOSS * square * square * square)
    return np.asarray(gains, dtype=np.float32)


def add_ghosts(
    image: NDArray[np.float32],
    voxels: NDArray[np.intp],
    blood: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Add faint copies of pulsing blood along the phase-encoding axis x, in place.

    Args:
        image: (X, Y, Z).
        voxels: flat indices (k,) of voxels with blood.
        blood: what it adds to their brightness (k,).
        rng: draws the distance between ghosts, which is that of the heart's beat in k-space, and their amplitudes.
    """
    across = image.shape[0]
    plane = image.shape[1] * image.shape[2]
    distance = int(rng.integers(across // 7, across // 4))
    flat = image.reshape(-1)
    for multiple in _GHOSTS:
        for sign in (-1, 1):
            amplitude = np.float32(_GHOST * rng.standard_normal() / multiple)
            moved = (voxels + sign * multiple * distance * plane) % flat.size  # beyond the edge it folds over
            flat[moved] += amplitude * blood
    np.maximum(image, np.float32(0), out=image)


def add_rician_noise(image: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Magnitude of signal plus complex noise, in whole scanner units, in place."""
    image += np.float32(_NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(_NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
    np.hypot(image, imaginary, out=image)
    image *= np.float32(_WHITE_MATTER)
    np.rint(image, out=image)
    np.clip(image, 0, _BRIGHTEST, out=image)
