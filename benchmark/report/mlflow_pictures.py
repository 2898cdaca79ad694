"""Pictures that MLflow shows beside a run's numbers, as files of their own."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import read_arrays
from benchmark.report.pictures import Picture, grey_picture, mask_picture
from benchmark.report.sections.figures import plane_spacing, prd_figure
from benchmark.report.sections.text import arm_marks
from benchmark.results.format import Results
from benchmark.results.run_folder import Run
from vesselgan.files import write_text

__all__ = ["draw_prd", "draw_samples"]

SHOWN = 8  # pairs
HIGH = 128  # pixels of one picture
GAP = 4
LABELS = "#ffb000"
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def draw_prd(run: Run, results: Results, target: Path) -> None:
    """The curves of precision and recall of the run's cells, and real against real, as SVG."""
    figure = prd_figure(run, arm_marks(results["cells"]))
    write_text(target, str(figure).replace("<svg ", f"<svg {NAMESPACES} ", 1))


def draw_samples(run: Run, shown: Path, target: Path) -> None:
    """The first pairs of a `shown.npz` as PNG: projections of the images above, of their vessel labels below."""
    arrays = read_arrays(shown, ["images", "labels"])
    spacing = plane_spacing(run)
    rows = [
        [grey_picture(image.max(axis=2), spacing, "", unit=True) for image in decoded(arrays["images"][:SHOWN])],
        [mask_picture(np.any(label, axis=2), spacing, LABELS, "") for label in arrays["labels"][:SHOWN]],
    ]
    width = max(1, round(HIGH * _aspect(rows[0][0])))
    sheet = Image.new("RGB", (len(rows[0]) * (width + GAP) + GAP, 2 * (HIGH + GAP) + GAP), "#303030")
    for row, pictures in enumerate(rows):
        for place, picture in enumerate(pictures):
            image = Image.open(BytesIO(b64decode(picture.uri.partition(",")[2]))).convert("RGB")
            sheet.paste(image.resize((width, HIGH)), (GAP + place * (width + GAP), GAP + row * (HIGH + GAP)))
    sheet.save(target, "PNG")  # the smallest file would take ten times as long, for each cell


def _aspect(picture: Picture) -> float:
    width, height = picture.aspect.split(" / ")
    return float(width) / float(height)
