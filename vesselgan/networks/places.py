"""Where a patch lies in its volume, for a generator that is to know: heads look alike in the same places.

A place is 7 numbers: its centre (3), from -1 to 1 along each axis of the volume; its extent (3) as shares of the
volume; and 1 or -1, whether its central voxel is vessel or not, since most patches are cut around one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["CELL_FEATURES", "PLACE", "cell_places", "place_of"]

PLACE = 7
CELL_FEATURES = 4  # of a cell, see `cell_places`


def place_of(
    corner: Sequence[int], patch_size: Sequence[int], shape: Sequence[int], *, on_vessel: bool
) -> NDArray[np.float32]:
    """The place (7,) of a patch whose lowest corner and size, and whose volume's shape, are given in voxels."""
    corner_, size, whole = (np.asarray(part, dtype=np.float64) for part in (corner, patch_size, shape))
    centre = (corner_ + size / 2) / whole * 2 - 1
    return np.concatenate([centre, size / whole, [1 if on_vessel else -1]]).astype(np.float32)


def cell_places(places: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, 7) -> (B, 4, x, y, z): where each cell of a grid over the patch lies in the volume, and the patch's sign."""
    axes = [(torch.arange(n, dtype=torch.float32, device=places.device) + 0.5) / n * 2 - 1 for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (3, x, y, z), from -1 to 1 over the patch
    centre, extent = (part[:, :, None, None, None] for part in (places[:, :3], places[:, 3:6]))
    sign = places[:, 6:, None, None, None].expand(-1, 1, *shape)
    return torch.cat([centre + extent * grid, sign], dim=1)
