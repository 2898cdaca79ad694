"""Projections of volumes and masks as inline PNG, in the view that radiologists use.

Arrays are (X, Y) in canonical (RAS) orientation; pictures have the patient's front at the top and right on the left.
"""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["FOUND", "INVENTED", "MISSED", "Picture", "grey_picture", "grey_values", "mask_picture", "overlay_picture"]

# Told apart by their lightness too, so that a colour-blind reader or a grey print loses nothing.
FOUND, MISSED, INVENTED = "#ffffff", "#ffb000", "#2f86ff"
_DIMMED = 0.42  # the image under an overlay


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
    pixels = np.repeat((grey_values(image, unit=False) * _DIMMED).astype(np.uint8)[..., None], 3, axis=2)
    for mask, colour in ((truth & prediction, FOUND), (truth & ~prediction, MISSED), (prediction & ~truth, INVENTED)):
        pixels[mask] = _rgb(colour)
    return _picture(pixels, spacing_mm, alt)


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
    Image.fromarray(shown).save(buffer, "PNG", optimize=True)
    return Picture(f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}", f"{width:.4g} / {height:.4g}", alt)
