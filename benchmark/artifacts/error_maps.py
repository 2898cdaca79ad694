"""Where a segmentation goes wrong, as volumes that any NIfTI viewer lays over the scan."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from vesselgan.data import as_in_file, load_volume, save_volume
from vesselgan.metrics import distance_map

__all__ = ["FOUND_CODE", "INVENTED_CODE", "MISSED_CODE", "ErrorMap", "error_codes", "load_error_map", "save_maps"]

nib: Any = nibabel  # half of it carries no types

FOUND_CODE, MISSED_CODE, INVENTED_CODE = 1, 2, 3

# The distances of a volume, and nothing where there are none.
ErrorMap = tuple[NDArray[np.uint8], NDArray[np.float32] | None]


def save_maps(
    folder: Path,
    name: str,
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    affine: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    placement: Path | None = None,
) -> None:
    """Write `predictions/NAME`, `errors/NAME` and `distances/NAME` (.nii.gz) with this affine.

    With `placement` (`VolumeStore.placement`), in the scan's own order of voxels, and with its forms and codes.

    Errors are 1 found, 2 missed, 3 invented, 0 elsewhere. Distances are those of each missed or invented voxel to the
    other mask, in millimetres (float32), and 0 elsewhere. Where truth or prediction is empty there is no distance, and
    no such file.
    """
    stored = None if placement is None else nib.load(placement).affine

    def save(kind: str, data: NDArray[Any], description: str) -> None:
        path = folder / kind / f"{name}.nii.gz"
        turned = data if stored is None else as_in_file(stored, data)
        save_volume(path, turned, affine, description, placed_as=placement)

    save("predictions", prediction, "prediction: 1 vessel")
    save("errors", error_codes(truth, prediction), "1 found, 2 missed, 3 invented")
    if truth.any() and prediction.any():
        save("distances", distance_map(truth, prediction, spacing_mm), "mm from an error to the other mask")


def error_codes(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """1 found, 2 missed, 3 invented, 0 elsewhere; of the masks' shape."""
    codes = np.zeros(truth.shape, np.uint8)
    codes[truth & prediction] = FOUND_CODE
    codes[truth & ~prediction] = MISSED_CODE
    codes[prediction & ~truth] = INVENTED_CODE
    return codes


def load_error_map(errors: Path, distances: Path | None) -> ErrorMap:
    """A subject's files of both as `save_maps` wrote them."""
    return load_volume(errors).data.astype(np.uint8), None if distances is None else load_volume(distances).data
