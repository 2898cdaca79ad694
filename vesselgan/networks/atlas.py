"""What training heads have in common: the mean and the SD of their intensity and how often there is vessel, by place.

A generator that is given it need not learn from patches where skull and scalp lie. It is worked out, not trained, and
it is a mean over all training subjects on a grid of a few voxels a cell, so that it shows none of many.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ATLAS_FEATURES", "ATLAS_SHAPE", "atlas_at", "atlas_intensities", "atlas_of"]

ATLAS_SHAPE = (32, 32, 16)  # cells over a whole volume, of whatever size
ATLAS_FEATURES = 3


def atlas_of(volumes: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]], mirrored: Sequence[int] = ()) -> Tensor:
    """(3, *ATLAS_SHAPE) of images (X, Y, Z) in [-1, 1] and their labels; of their mirror images along axes, too.

    The features are those of a cell over all volumes: the mean intensity plus 1, which is zero for air, the SD of its
    mean intensities, and the square root of its share of vessel. Volumes may differ in shape. At least one is needed.
    """
    sums, number = torch.zeros(ATLAS_FEATURES, *ATLAS_SHAPE, dtype=torch.float64), 0
    for volume in volumes:
        parts = (torch.from_numpy(np.array(part, dtype=np.float32))[None] for part in volume)
        image, share = (F.adaptive_avg_pool3d(part, ATLAS_SHAPE)[0].double() for part in parts)
        sums += torch.stack([image + 1, (image + 1) ** 2, share])
        number += 1
    for axis in mirrored:
        sums = (sums + sums.flip(axis + 1)) / 2
    mean, square, share = (sums / number).unbind()
    return torch.stack([mean, (square - mean**2).clamp(min=0).sqrt(), share.sqrt()]).float()


def atlas_at(atlas: Tensor, places: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, 3, x, y, z): an atlas at the cells of a grid over patches at places (B, 7); zero outside of the volume."""
    axes = [(torch.arange(n, dtype=torch.float32, device=places.device) + 0.5) / n * 2 - 1 for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # from -1 to 1 over the patch
    centre, extent = (part[:, None, None, None].float() for part in (places[:, :3], places[:, 3:6]))
    points = (centre + extent * grid).flip(-1)  # grid_sample takes the last axis first
    return F.grid_sample(atlas.expand(len(places), *atlas.shape), points, align_corners=False)


def atlas_intensities(features: Tensor) -> Tensor:
    """The mean intensities (B, ...) in [-1, 1] of features (B, 3, ...)."""
    return features[:, 0] - 1
