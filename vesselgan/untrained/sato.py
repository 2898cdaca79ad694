"""Sato's line filter on voxels of any shape, in slabs, so that a whole head needs little memory.

scikit-image's `sato` counts in voxels: its Gaussian is a ball of voxels, and in millimetres an ellipsoid wherever
voxels are not cubes. Here scales are millimetres, and the Gaussian is a ball of those. On cubic voxels both agree, away
from the border (`tests/vesselgan/untrained/test_untrained.py`); at it scikit-image mirrors first derivatives as if they
were even.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["default_scales_mm", "responses_by_slab", "vesselness"]

SCALES_IN_VOXELS = (0.7, 1.0, 1.4, 2.0, 2.8)  # steps of about the square root of 2, as Sato et al. advise
_REACH = 6.0  # standard deviations up to which a kernel goes: what lies beyond is below single precision
_SLAB_VOXELS = 2**20

Floats = NDArray[np.float32]


def default_scales_mm(spacings_mm: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Candidate scales: 0.7 to 2.8 edges of the cube that has the volume of the median subject's voxel."""
    if not len(spacings_mm):
        raise ValueError("spacings_mm is empty: the scales of vessels follow from the size of voxels")
    edge = float(np.median([np.prod(spacing) ** (1 / 3) for spacing in spacings_mm]))
    return tuple(round(edge * scale, 4) for scale in SCALES_IN_VOXELS)


def vesselness(image: Floats, *, spacing_mm: Sequence[float], scales_mm: Sequence[float]) -> Floats:
    """Largest response (X, Y, Z) over the scales, for bright lines: 0 where there is none.

    With H the Hessian of the image smoothed by a Gaussian of sigma, and a >= b >= c the eigenvalues of -sigma^2 H, the
    response of a scale is sqrt(max(a, 0) max(b, 0)). In units of the image; of an image in [-1, 1] it is below 1.

    Args:
        image: (X, Y, Z).
        spacing_mm: voxel edges.
        scales_mm: standard deviations sigma of the Gaussians, at least one.

    Source: Sato et al. 1998, Med Image Anal 2:143, eqs. 9 and 22, as in scikit-image's `sato`.
    """
    response = np.empty(image.shape, np.float32)
    for slab, of_scales in responses_by_slab(image, spacing_mm=spacing_mm, scales_mm=scales_mm):
        response[slab] = of_scales.max(axis=0)
    return response


def responses_by_slab(
    image: Floats, *, spacing_mm: Sequence[float], scales_mm: Sequence[float]
) -> Iterator[tuple[slice, Floats]]:
    """Slab after slab along x, the response of each scale (scales, x, Y, Z): the same values as of the whole volume."""
    if not len(scales_mm) or min(scales_mm) <= 0 or min(spacing_mm) <= 0:
        raise ValueError(f"scales_mm {tuple(scales_mm)} and spacing_mm {tuple(spacing_mm)} must be positive lengths")
    kernels = [[_kernels(scale / mm) for mm in spacing_mm] for scale in scales_mm]
    thickness = max(1, _SLAB_VOXELS // max(1, image.shape[1] * image.shape[2]))
    for first in range(0, len(image), thickness):
        slab = slice(first, min(first + thickness, len(image)))
        responses = np.empty((len(scales_mm), slab.stop - slab.start, *image.shape[1:]), np.float32)
        for response, of_axes in zip(responses, kernels, strict=True):
            response[...] = _line_strength(_hessian(image, slab, of_axes))
        yield slab, responses


def _kernels(sigma: float) -> list[NDArray[np.float64]]:
    """Smoothing, first and second derivative by a Gaussian of sigma voxels, times sigma to the derivative's order.

    Each is two convolutions with Gaussians of sigma / sqrt(2): a sampled second derivative of a narrow Gaussian does
    not sum to 0, and then answers to brightness.
    """
    half = sigma / np.sqrt(2)
    place = np.arange(-np.ceil(_REACH * half), np.ceil(_REACH * half) + 1)
    smooth = np.exp(-0.5 * (place / half) ** 2)
    smooth /= smooth.sum()
    slope = place / half**2 * smooth  # to correlate with: derivative of what is seen from the voxel
    return [
        np.convolve(smooth, smooth),
        np.convolve(smooth, slope) * sigma,
        np.convolve(slope, slope) * sigma**2,
    ]


def _hessian(image: Floats, slab: slice, kernels: Sequence[Sequence[NDArray[np.float64]]]) -> dict[str, Floats]:
    """The six second derivatives of a slab, times sigma^2, by the names of their axes."""
    reach = len(kernels[0][0]) // 2
    low, high = max(0, slab.start - reach), min(len(image), slab.stop + reach)
    kept = slice(slab.start - low, slab.stop - low)
    along_x = [_filtered(image[low:high], kernel, 0)[kept] for kernel in kernels[0]]
    found = {}
    for names, orders in _ORDERS.items():
        partial = _filtered(along_x[orders[0]], kernels[1][orders[1]], 1)
        found[names] = _filtered(partial, kernels[2][orders[2]], 2)
    return found


_ORDERS = {"xx": (2, 0, 0), "yy": (0, 2, 0), "zz": (0, 0, 2), "xy": (1, 1, 0), "xz": (1, 0, 1), "yz": (0, 1, 1)}


def _filtered(values: Floats, kernel: NDArray[np.float64], axis: int) -> Floats:
    """Correlation along an axis; the volume is mirrored at its border."""
    filtered: Floats = scipy.ndimage.correlate1d(values, kernel, axis=axis, mode="reflect", output=np.float32)
    return filtered


def _line_strength(hessian: dict[str, Floats]) -> NDArray[np.float64]:
    """sqrt(a b) of the two largest eigenvalues a >= b of -H where both are positive, else 0.

    Eigenvalues by the trigonometric solution of the characteristic equation (Smith 1961, Commun ACM 4:168), which is
    twenty times as fast on arrays as a general solver.
    """
    xx, yy, zz, xy, xz, yz = (-hessian[name].astype(np.float64) for name in ("xx", "yy", "zz", "xy", "xz", "yz"))
    mean = (xx + yy + zz) / 3
    xx, yy, zz = xx - mean, yy - mean, zz - mean
    spread = np.sqrt((xx**2 + yy**2 + zz**2 + 2 * (xy**2 + xz**2 + yz**2)) / 6)
    determinant = xx * (yy * zz - yz**2) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    cosine = np.divide(determinant, 2 * spread**3, out=np.zeros_like(mean), where=spread > 0)
    angle = np.arccos(np.clip(cosine, -1, 1)) / 3
    largest = mean + 2 * spread * np.cos(angle)
    smallest = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    middle = 3 * mean - largest - smallest
    strength: NDArray[np.float64] = np.sqrt(np.maximum(largest, 0) * np.maximum(middle, 0))
    return strength
