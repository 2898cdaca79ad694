"""Patches -> radiomics features: an extractor like those of `vesselgan.features`, without a network."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vesselgan.radiomics.images import VOXEL_MM, derived_images, prepare
from vesselgan.radiomics.matrices import Levels
from vesselgan.radiomics.texture import (
    cooccurrence_features,
    difference_features,
    first_order,
    run_features,
    zone_features,
)

__all__ = ["RadiomicsFeatures", "feature_names", "radiomics_features"]

_BIN_WIDTH = 5
_DEFINITION = "frd-score 1.0.1, v1, extraction_3d.yaml, whole volume but its first voxel"


def radiomics_features(volume: NDArray[np.floating], *, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Name -> value of the 1014 features of a volume (X, Y, Z), voxels of spacing_mm in mm.

    Those that frd-score 1.0.1 hands to its distance (version v1, three axes, no mask), by its names: 77 of intensities
    and grey levels of each of 13 images, and 13 numbers about the volume itself. They equal the peer's (pyradiomics
    3.1.1, its main branch of 2025) to 1e-9 relative; the scale of the volume's intensities matters to 3 of them only.

    Raises:
        InputError: SimpleITK or PyWavelets is missing (the extra `frd`).
        ValueError: not three axes, a constant volume, or one of less than 7 mm along an axis.
    """
    prepared = prepare(volume, spacing_mm)
    features = dict(prepared.facts)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(prepared.mask))
    mask = prepared.mask[box]
    for name, values in derived_images(prepared):
        cropped = values[box]
        levels = _grey_levels(cropped, mask)
        for kind, found in (
            ("firstorder", first_order(cropped[mask].astype(np.float64), levels[mask], VOXEL_MM**3)),
            ("glcm", cooccurrence_features(levels, mask)),
            ("glrlm", run_features(levels, mask)),
            ("glszm", zone_features(levels, mask)),
            ("ngtdm", difference_features(levels, mask)),
        ):
            features |= {f"{name}{kind}_{feature}": value for feature, value in found.items()}
    return features


def feature_names() -> tuple[str, ...]:
    """The names in the order of the columns of `RadiomicsFeatures`."""
    ramp = np.arange(8**3, dtype=np.float32).reshape(8, 8, 8)
    return tuple(sorted(radiomics_features(ramp, spacing_mm=(VOXEL_MM,) * 3)))


@dataclass
class RadiomicsFeatures:
    """A `vesselgan.features.Extractor`: patches -> 1014 features, columns in the order of the names."""

    spacing_mm: Sequence[float]
    name: str = "radiomics_v1"
    version: int = 1
    # There are no weights: what is learned nowhere is defined here.
    weights_sha256: str = field(default_factory=lambda: hashlib.sha256(_DEFINITION.encode()).hexdigest())

    def __call__(self, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Batches (B, X, Y, Z) -> features (N, 1014); a row of NaN where a patch is constant, and so has none."""
        rows: list[list[float] | None] = []
        for batch in batches:
            for patch in batch:
                if patch.min() == patch.max():
                    rows.append(None)
                    continue
                features = radiomics_features(patch, spacing_mm=self.spacing_mm)
                rows.append([features[name] for name in sorted(features)])
        width = next((len(row) for row in rows if row), 0)
        return np.array([row or [np.nan] * width for row in rows]).reshape(len(rows), width)


def _grey_levels(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> Levels:
    """Levels 1, 2, ... of width 5, whose borders are multiples of 5; 0 outside the mask."""
    inside = values[mask]
    lowest, highest = inside.min(), inside.max()
    borders = np.arange(lowest - lowest % _BIN_WIDTH, highest + 2 * _BIN_WIDTH, _BIN_WIDTH)
    levels = np.zeros(values.shape, np.int64)
    levels[mask] = np.digitize(inside, borders)
    return levels
