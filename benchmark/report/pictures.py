"""Projections of volumes and masks as inline PNG, in the view that radiologists use.

Arrays are (X, Y) in canonical (RAS) orientation; pictures have the patient's front at the top and right on the left.
"""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "FOUND",
    "INVENTED",
    "MISSED",
    "Picture",
    "error_picture",
    "grey_picture",
    "grey_values",
    "mask_picture",
    "overlay_picture",
    "reduced",
]

# Told apart by their lightness too, so that a colour-blind reader or a grey print loses nothing.
FOUND, MISSED, INVENTED = "#ffffff", "#ffb000", "#2f86ff"
_DIMMED = 0.42  # the image under an overlay
MOST_PIXELS = 384  # on a side: more than a page shows of one picture among several


@dataclass(frozen=True)
class Picture:
    """A PNG as data URI with its width over its height in millimetres."""

    uri: str
    aspect: str
    alt: str


def grey_picture(
    image: NDArray[np.float32], spacing_mm: tuple[float, float], alt: str, *, unit: bool = False
) -> Picture:
    """An image (X, Y); `unit` maps [-1, 1] to black and white, otherwise the picture's own percentiles do."""
    return _picture(grey_values(image, unit=unit), spacing_mm, alt)


def mask_picture(mask: NDArray[np.bool_], spacing_mm: tuple[float, float], colour: str, alt: str) -> Picture:
    """A mask (X, Y) in one colour on black."""
    return _picture(np.where(mask[..., None], _rgb(colour), np.uint8(0)), spacing_mm, alt)


def overlay_picture(
    image: NDArray[np.float32],
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: tuple[float, float],
    alt: str,
) -> Picture:
    """Projections of truth and prediction over the dimmed image: found, missed and invented vessels."""
    pixels = _dimmed(image)
    for mask, colour in ((truth & prediction, FOUND), (truth & ~prediction, MISSED), (prediction & ~truth, INVENTED)):
        pixels[mask] = _rgb(colour)
    return _picture(pixels, spacing_mm, alt)


def error_picture(
    image: NDArray[np.float32],
    found: NDArray[np.bool_],
    missed_mm: NDArray[np.float32],
    invented_mm: NDArray[np.float32],
    near_mm: float,
    spacing_mm: tuple[float, float],
    alt: str,
) -> Picture:
    """Errors along each line of sight over the dimmed image.

    `missed_mm` and `invented_mm` (X, Y) hold the distance of the farthest such error, 0 where there is none. The
    farther one has the pixel, if it is farther than `near_mm` or no found vessel lies on that line.
    """
    pixels = _dimmed(image)
    pixels[found] = _rgb(FOUND)
    farthest = np.maximum(missed_mm, invented_mm)
    drawn = (farthest > near_mm) | ((farthest > 0) & ~found)
    for mask, colour in ((missed_mm >= invented_mm, MISSED), (invented_mm > missed_mm, INVENTED)):
        pixels[drawn & mask] = _rgb(colour)
    return _picture(pixels, spacing_mm, alt)


def reduced(projection: NDArray[Any]) -> NDArray[Any]:
    """A projection (X, Y) of at most MOST_PIXELS a side, each the highest value of a block."""
    side = -(-max(projection.shape) // MOST_PIXELS)
    if side == 1:
        return projection
    padded = np.pad(projection, [(0, -size % side) for size in projection.shape])
    blocks = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    return np.asarray(blocks.max(axis=(1, 3)))


def _dimmed(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.repeat((grey_values(image, unit=False) * _DIMMED).astype(np.uint8)[..., None], 3, axis=2)


def grey_values(image: NDArray[np.float32], *, unit: bool) -> NDArray[np.uint8]:
    """Intensities as 0 to 255: `unit` maps [-1, 1], otherwise the picture's own percentiles 1 and 99.8 do."""
    low, high = (-1.0, 1.0) if unit else (float(value) for value in np.percentile(image, (1, 99.8)))
    scaled = (image.astype(np.float64) - low) / ((high - low) or 1.0)
    return (255 * np.clip(scaled, 0, 1)).round().astype(np.uint8)


def _rgb(colour: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8)


def _picture(pixels: NDArray[np.uint8], spacing_mm: tuple[float, float], alt: str) -> Picture:
    width, height = pixels.shape[0] * spacing_mm[0], pixels.shape[1] * spacing_mm[1]
    # Rows run from front to back, columns from the patient's right to left: both against the RAS axes.
    shown = np.ascontiguousarray(pixels.swapaxes(0, 1)[::-1, ::-1])
    buffer = BytesIO()
    _with_palette(shown).save(buffer, "PNG", optimize=True)
    return Picture(f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}", f"{width:.4g} / {height:.4g}", alt)


def _with_palette(shown: NDArray[np.uint8]) -> Image.Image:
    """The same picture; one of few colours, such as a dimmed scan with marks, takes half the bytes by a palette."""
    if shown.ndim == 2:
        return Image.fromarray(shown)
    packed = shown.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours, index = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        return Image.fromarray(shown)
    image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8)).convert("P")
    image.putpalette([int(colour) >> shift & 255 for colour in colours for shift in (16, 8, 0)])
    return image
