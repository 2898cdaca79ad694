"""Training pairs from the phantom alone, of random intensities: what a simulation is worth without any patient.

A network that learned from one look of the phantom fails on scanners that look otherwise. So shapes come from the
phantom, and the look is drawn anew for each patch, beyond what is realistic, until real scans are one more case (domain
randomisation; Billot et al. 2023, Med Image Anal 86:102789, SynthSeg). Vessels stay brighter than what is around them,
which is all that this modality promises.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from vesselgan.data.head import FIELD_OF_VIEW_MM, smooth_noise
from vesselgan.data.patches import apply_range, cut, patch_corners, robust_range
from vesselgan.data.phantom import make_phantom

__all__ = ["Randomisation", "phantom_shape", "procedural_patches", "randomise"]

_STREAM = 0x9A7C  # keeps these draws apart from those of samplers and phantoms, which start from the same seed
_SMALLEST_SHAPE = (32, 32, 16)  # of a phantom
_KNOTS = 6  # of the random tone curve
_BIAS_MM = 120.0  # of a field of view that the patch stands for: the field varies once or twice across it
_AROUND = 3.0  # voxels, over which the tissue around vessels is averaged

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """How far looks may differ; every amount is uniform within its limits, and 0 (for factors from 1 to 1) is off.

    Intracranial DSC of a U-Net trained for 300 steps on 20 phantoms, on 6 others (laptop sizes, one seed, threshold
    0.5): with these values 0.914 on the phantom's own look and 0.862 on another (gamma 0.6, blur, noise); with none
    0.921 and 0.002; with stronger ones (tone 0.7, contrast from 0.5, noise 0.1) 0.883 and 0.858.
    """

    tone: float = 0.4  # 0: the phantom's own tones; 1: any rising curve from black to white
    vessel_contrast: tuple[float, float] = (0.6, 1.5)  # times what vessels rise above their surroundings
    gain: float = 0.3  # brightness times 1 +- gain
    offset: float = 0.1  # plus this share of the range, either way
    bias: float = 0.3  # standard deviation of the logarithm of a smooth field, at most
    blur: float = 1.0  # voxels: standard deviation along each axis, at most
    noise: float = 0.06  # of the range: standard deviation of Rician noise, at most

    def __post_init__(self) -> None:
        low, high = self.vessel_contrast
        if not 0 <= self.tone <= 1 or not 0 <= self.gain < 1 or not 0 < low <= high:
            raise ValueError(
                "tone must be from 0 to 1, gain from 0 to below 1, vessel_contrast two rising factors above 0"
            )
        if min(self.offset, self.bias, self.blur, self.noise) < 0:
            raise ValueError("offset, bias, blur and noise must not be negative")


def randomise(image: Floats, label: NDArray[np.bool_], settings: Randomisation, *, seed: int, index: int) -> Floats:
    """The image (X, Y, Z) in [-1, 1] with another look, in [-1, 1]; the label, of its shape, says what is vessel.

    The outcome depends on the arguments alone. The given arrays are left as they are.
    """
    rng = np.random.default_rng([seed, index, _STREAM])
    # Everything is drawn whatever is switched on, so that one setting leaves the other draws as they were.
    steps = rng.dirichlet(np.ones(_KNOTS - 1))
    contrast = rng.uniform(*settings.vessel_contrast)
    gain, offset = 1 + settings.gain * rng.uniform(-1, 1), settings.offset * rng.uniform(-1, 1)
    bias, noise = settings.bias * rng.uniform(), settings.noise * rng.uniform()
    blur = settings.blur * rng.uniform(size=3)
    field = smooth_noise(image.shape, _BIAS_MM, rng)
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32)

    unit = (image + np.float32(1)) / np.float32(2)
    knots = np.linspace(0, 1, _KNOTS)
    tones = (1 - settings.tone) * knots + settings.tone * np.concatenate([[0.0], np.cumsum(steps)])
    unit = np.interp(unit, knots, tones).astype(np.float32)
    _change_vessels(unit, label, np.float32(contrast))
    unit *= np.float32(gain) * np.exp(np.float32(bias) * field)
    unit += np.float32(offset)
    unit = scipy.ndimage.gaussian_filter(unit, blur)
    unit = np.hypot(np.maximum(unit, 0) + np.float32(noise) * real, np.float32(noise) * imaginary)
    looked: Floats = np.minimum(unit, 1) * np.float32(2) - np.float32(1)
    return looked


def procedural_patches(
    shape: Sequence[int],
    patch_size: Sequence[int],
    *,
    subject: int,
    seed: int,
    grid: Sequence[int] | None = (3, 3, 2),
    vessel: int = 32,
    settings: Randomisation | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Images in [-1, 1] and labels (N, X, Y, Z): patches of one phantom, each with a look of its own.

    The same for the same arguments, whatever was made before.

    Args:
        shape: of the phantom; `phantom_shape` gives the one with a dataset's voxels.
        patch_size: voxels per axis.
        subject: from 0; each has an anatomy of its own.
        seed: of the population and its looks. Another one than a phantom dataset's that is tested on.
        grid, vessel: which patches, see `patch_corners`; by default the paper's 18 and 32.
        settings: how far looks may differ.

    Raises:
        InputError: a shape too small to hold a head.
    """
    made = make_phantom(shape, subject=subject, seed=seed)
    scaled = apply_range(made.image, *robust_range(made.image))
    rng = np.random.default_rng([seed, subject, _STREAM])
    corners = patch_corners(made.label, patch_size, grid=grid, vessel=vessel, rng=rng)
    labels = np.stack([cut(made.label, corner, patch_size) for corner in corners])
    images = np.stack(
        [
            randomise(
                cut(scaled, corner, patch_size, fill=-1), label, settings or Randomisation(), seed=seed, index=index
            )
            for index, (corner, label) in enumerate(zip(corners, labels, strict=True), start=subject * len(corners))
        ]
    )
    return images, labels


def phantom_shape(spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """The phantom's shape whose voxels are nearest to the given ones, never below the smallest that holds a head."""
    if len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} must be three positive lengths")
    x, y, z = (
        max(least, round(field / mm))
        for least, field, mm in zip(_SMALLEST_SHAPE, FIELD_OF_VIEW_MM, spacing_mm, strict=True)
    )
    return x, y, z


def _change_vessels(unit: Floats, label: NDArray[np.bool_], factor: np.float32) -> None:
    """Multiply by the factor what vessels rise above the tissue around them, in place."""
    tissue = (~label).astype(np.float32)
    weight = scipy.ndimage.gaussian_filter(tissue, _AROUND)
    around = scipy.ndimage.gaussian_filter(unit * tissue, _AROUND) / np.maximum(weight, np.float32(1e-3))
    unit[label] += (factor - 1) * np.maximum(unit - around, 0)[label]
