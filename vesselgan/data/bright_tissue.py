"""What is bright on time-of-flight images and yet no vessel: choroid plexus, pituitary, small spots of short T1."""

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import Head, blend_ellipsoid

__all__ = ["add_bright_tissue"]

_FIXED = (  # centre and radii, mm in the upright head; brightness from and to, white matter being 1
    ((16, -30, 51), (3.0, 7.0, 4.5), (1.5, 2.4)),  # glomus of the choroid plexus in the atrium of a lateral ventricle
    ((-16, -30, 51), (3.0, 7.0, 4.5), (1.5, 2.4)),
    ((9, -8, 60), (2.0, 9.0, 2.5), (1.3, 2.0)),  # choroid plexus on the floor of the body of a lateral ventricle
    ((-9, -8, 60), (2.0, 9.0, 2.5), (1.3, 2.0)),
    ((0, 10, 15), (6.5, 5.0, 3.5), (1.4, 2.0)),  # pituitary, between the carotids
    ((0, 6, 16), (2.5, 1.8, 2.0), (1.8, 2.6)),  # its posterior lobe
)
_SPOTS = (4, 10)  # short T1: fat in the falx, old blood, calcium with marrow
_SPOT_RADII_MM = (1.0, 2.5)
_SPOT_BRIGHTNESS = (1.8, 3.6)


def add_bright_tissue(tissue: NDArray[np.float32], head: Head, rng: np.random.Generator) -> None:
    """Blend bright tissue into the brightness (X, Y, Z) of a head, in place; a spot between voxel centres is lost."""
    for centre, radii_mm, brightness in _FIXED:
        where = head.place(np.array(centre) + rng.normal(scale=1.0, size=3))
        blend_ellipsoid(tissue, where, np.array(radii_mm) * rng.uniform(0.8, 1.2), rng.uniform(*brightness))
    places = head.sample_brain(200, (0.0, 0.98), rng)
    count = int(rng.integers(*_SPOTS))
    for where in places[:count]:
        size_mm = rng.uniform(*_SPOT_RADII_MM)
        blend_ellipsoid(tissue, where, size_mm * rng.uniform(0.7, 1.3, size=3), rng.uniform(*_SPOT_BRIGHTNESS))
