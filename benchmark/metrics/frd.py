"""Fréchet Radiomics Distance: between clouds of features that no network has learned, where a protocol asks for it."""

import math
from collections.abc import Sequence

from benchmark.metrics.registry import Metric, OwnFeatures, metric
from vesselgan.metrics import FeatureSets, frechet_radiomics_distance
from vesselgan.metrics.estimates import Estimate
from vesselgan.radiomics import RadiomicsFeatures, check_libraries

__all__ = ["RadiomicsOptions", "frechet_radiomics"]


class RadiomicsOptions(OwnFeatures):
    """How many patches of each set: their features take longer than a network's."""

    def extractor(self, spacing_mm: Sequence[float]) -> RadiomicsFeatures:
        """`RadiomicsFeatures`."""
        return RadiomicsFeatures(spacing_mm)

    def check(self) -> None:
        """Raises InputError where a library of the extra `frd` is missing."""
        check_libraries()


@metric(
    Metric("frd", "FRD", better="lower", decimals=2, limits=(-math.inf, math.inf), cited="konz2026"),
    kind="set",
    options=RadiomicsOptions,
    later=True,
    glossary={
        "FRD": "Fréchet Radiomics Distance (v1), the logarithm of a squared distance: 1 less is a distance 2.7 times "
        "smaller. Its features (grey levels, textures) are defined and not learned, so it needs no network's weights.",
    },
)
def frechet_radiomics(sets: FeatureSets, _: RadiomicsOptions) -> Estimate | None:
    """`frechet_radiomics_distance` of equal counts; None where nothing differs, of which there is no logarithm."""
    found = sets.equal.jackknifed(lambda real, generated: frechet_radiomics_distance(real=real, generated=generated))
    return found if math.isfinite(found.value) else None
