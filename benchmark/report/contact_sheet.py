"""A sheet of small pictures: every subject's maximum intensity projections, plain and with its vessels over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmark.report.pictures import MISSED, grey_values
from vesselgan.data import LoadedSubject
from vesselgan.files import atomic_path

__all__ = ["Tile", "draw_tile", "write_sheets"]

PIXELS_HIGH = 150  # of the axial picture
COLUMNS, ROWS = 3, 4  # subjects on a sheet
GAP, CAPTION = 6, 16  # pixels
DIMMED = 0.6  # the image under its vessels
VESSELS = MISSED  # orange: seen on grey by the colour-blind too
PLANES = ((0, 1), (0, 2), (1, 2))  # axial, coronal, sagittal: what runs to the right of the picture, and up it


@dataclass(frozen=True, eq=False)
class Tile:
    """One subject's pictures, with its name below."""

    name: str
    picture: Image.Image


def draw_tile(subject: LoadedSubject) -> Tile:
    """Three projections above, the same with the vessels below; patient's right, and a profile's front, on the left."""
    size_mm = [count * mm for count, mm in zip(subject.image.shape, subject.spacing_mm, strict=True)]
    pixels_per_mm = PIXELS_HIGH / size_mm[1]
    upper, lower = [], []
    for across, up in PLANES:
        through = 3 - across - up
        grey = grey_values(subject.image.max(axis=through), unit=False)
        vessels = subject.label.max(axis=through)
        colours = np.repeat((grey * DIMMED).astype(np.uint8)[..., None], 3, axis=2)
        colours[vessels] = np.frombuffer(bytes.fromhex(VESSELS[1:]), dtype=np.uint8)
        size = tuple(max(1, round(size_mm[axis] * pixels_per_mm)) for axis in (across, up))
        upper.append(_picture(np.repeat(grey[..., None], 3, axis=2), size))
        lower.append(_picture(colours, size))
    width = sum(picture.width for picture in upper) + 2 * GAP
    heights = [max(picture.height for picture in row) for row in (upper, lower)]
    tile = Image.new("RGB", (width, sum(heights) + GAP + CAPTION), "black")
    for row, top in ((upper, 0), (lower, heights[0] + GAP)):
        left = 0
        for picture in row:
            tile.paste(picture, (left, top))
            left += picture.width + GAP
    spacing = " x ".join(f"{mm:.3g}" for mm in subject.spacing_mm)
    name = f"{subject.key}   {spacing} mm   vessels {subject.label.mean():.2%}"
    ImageDraw.Draw(tile).text((2, tile.height - CAPTION + 2), name, fill="white", font=ImageFont.load_default())
    return Tile(subject.key, tile)


def write_sheets(tiles: Sequence[Tile], folder: Path) -> list[Path]:
    """`contact-sheet.png`, or numbered ones where one does not hold all; earlier ones go. Returns the paths."""
    for old in folder.glob("contact-sheet*.png"):
        old.unlink()
    on_one = COLUMNS * ROWS
    pages = [tiles[start : start + on_one] for start in range(0, len(tiles), on_one)]
    paths = []
    for number, page in enumerate(pages, 1):
        width = max(tile.picture.width for tile in page) + 2 * GAP
        height = max(tile.picture.height for tile in page) + 2 * GAP
        columns, rows = min(COLUMNS, len(page)), -(-len(page) // COLUMNS)
        sheet = Image.new("RGB", (columns * width, rows * height), "#303030")
        for index, tile in enumerate(page):
            sheet.paste(tile.picture, (index % COLUMNS * width + GAP, index // COLUMNS * height + GAP))
        path = folder / ("contact-sheet.png" if len(pages) == 1 else f"contact-sheet-{number:02d}.png")
        with atomic_path(path) as temporary:
            sheet.save(temporary, "PNG", optimize=True)
        paths.append(path)
    return paths


def _picture(pixels: NDArray[np.uint8], size: tuple[int, ...]) -> Image.Image:
    """(across, up, 3) as a picture: both axes run against the rows and columns that a radiologist looks at."""
    shown = np.ascontiguousarray(pixels.swapaxes(0, 1)[::-1, ::-1])
    return Image.fromarray(shown).resize((size[0], size[1]), Image.Resampling.BOX)
