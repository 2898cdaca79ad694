"""The thirteen images that radiomics features are taken of: the volume itself, blurred Laplacians, wavelet bands.

Where a filter's last digit decides on which side of a grey level's border a voxel falls, nothing but the same filter
gives the same features: SimpleITK resamples and filters, PyWavelets decomposes, as they do within pyradiomics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError

__all__ = ["PreparedVolume", "check_libraries", "derived_images", "prepare"]

VOXEL_MM = 2.0
_SCALE = 100.0  # standard deviation of a normalised volume
_LAPLACIAN_MM = (2.0, 3.0, 4.0, 5.0)
_WAVELET = "coif1"
_FEWEST_VOXELS = 4  # per axis, after resampling: what the recursive Gaussian needs


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """A volume normalised and resampled, its mask, and the numbers about both that belong to the features."""

    image: Any  # SimpleITK
    mask: NDArray[np.bool_]  # (Z, Y, X)
    facts: dict[str, float]


def check_libraries() -> None:
    """Raises InputError where SimpleITK or PyWavelets, of the extra `frd`, is not installed."""
    for module in ("SimpleITK", "pywt"):
        _needed(module)


def prepare(volume: NDArray[np.floating], spacing_mm: Sequence[float]) -> PreparedVolume:
    """Normalise (X, Y, Z) to mean 0 and standard deviation 100, resample to cubes of 2 mm by cubic B-splines.

    The mask is the whole volume but for its first voxel, which frd-score leaves out to go round a fault of pyradiomics
    with masks that are full.

    Raises:
        ValueError: not three axes, a constant volume, or fewer than 4 voxels of 2 mm along an axis.
    """
    sitk = _needed("SimpleITK")
    if volume.ndim != 3:
        raise ValueError(f"volume must be (X, Y, Z), but has shape {volume.shape}")
    # A NIfTI header keeps spacing in single precision, and the number of resampled voxels is rounded up from it.
    spacing = np.asarray(spacing_mm, np.float32).astype(np.float64)
    size = np.ceil(np.array(volume.shape) * (spacing / VOXEL_MM)).astype(int)
    if min(volume.shape) < 2 or size.min() < _FEWEST_VOXELS:
        extent = " x ".join(f"{n * mm:g}" for n, mm in zip(volume.shape, spacing, strict=True))
        raise ValueError(
            f"volume of {extent} mm: radiomics features need more than {2 * (_FEWEST_VOXELS - 1)} mm each way"
        )
    values = np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32)
    if values.min() == values.max():
        raise ValueError(f"volume is constant ({values.flat[0]:g}): it has no radiomics features")
    full = np.ones(values.shape, np.uint32)
    full[0, 0, 0] = 0
    image, mask = sitk.GetImageFromArray(values), sitk.GetImageFromArray(full)
    for each in (image, mask):
        each.SetSpacing(spacing.tolist())
    facts = _facts("Image-original", values) | _mask_facts("Mask-original", full > 0)
    image = sitk.Normalize(image) * _SCALE
    if not np.allclose(spacing, VOXEL_MM):
        resample = sitk.ResampleImageFilter()
        resample.SetOutputSpacing([VOXEL_MM] * 3)
        resample.SetOutputOrigin((0.5 * (VOXEL_MM - spacing) / spacing * spacing).tolist())  # corners coincide
        resample.SetSize(size.tolist())
        resample.SetOutputPixelType(image.GetPixelID())
        resample.SetInterpolator(sitk.sitkBSpline)
        image = resample.Execute(image)
        resample.SetOutputPixelType(mask.GetPixelID())
        resample.SetInterpolator(sitk.sitkNearestNeighbor)
        mask = resample.Execute(mask)
    inside = sitk.GetArrayFromImage(mask) > 0
    resampled = sitk.GetArrayFromImage(image)
    facts |= _facts("Image-interpolated", resampled) | _mask_facts("Mask-interpolated", inside)
    facts |= _facts("Mask-interpolated", resampled[inside])
    return PreparedVolume(image, inside, facts)


def derived_images(prepared: PreparedVolume) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values (Z, Y, X) of each image, of the mask's shape."""
    sitk, pywt = _needed("SimpleITK"), _needed("pywt")
    values = sitk.GetArrayFromImage(prepared.image)
    yield "", values
    for sigma in _LAPLACIAN_MM:
        laplacian = sitk.LaplacianRecursiveGaussianImageFilter()
        laplacian.SetNormalizeAcrossScale(True)
        laplacian.SetSigma(sigma)
        yield (
            f"log-sigma-{sigma:.1f}-mm-3D_".replace(".", "-"),
            sitk.GetArrayFromImage(laplacian.Execute(prepared.image)),
        )
    # The transform takes even sizes; what is added is taken off again.
    even = np.pad(values, [(0, n % 2) for n in values.shape], "wrap")
    bands = pywt.swtn(even, pywt.Wavelet(_WAVELET), level=1, start_level=0, axes=(2, 1, 0))[0]
    kept = tuple(slice(n) for n in values.shape)
    for name, band in bands.items():
        yield f"wavelet-{name.replace('a', 'L').replace('d', 'H')}_", band[kept]


def _facts(of: str, values: NDArray[Any]) -> dict[str, float]:
    exact = values.astype(np.float64)
    return {
        f"diagnostics_{of}_Mean": float(exact.mean()),
        f"diagnostics_{of}_Minimum": float(exact.min()),
        f"diagnostics_{of}_Maximum": float(exact.max()),
    }


def _mask_facts(of: str, mask: NDArray[np.bool_]) -> dict[str, float]:
    """All but a corner is one piece."""
    return {f"diagnostics_{of}_VoxelNum": float(np.count_nonzero(mask)), f"diagnostics_{of}_VolumeNum": 1.0}


def _needed(module: str) -> Any:
    """A module of the extra `frd`, imported when first needed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"radiomics features need {module}, which is missing; pip install 'vesselgan-benchmark[frd]'"
        ) from error
