"""Whole-volume segmentation by overlapping tiles with Gaussian weights."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vesselgan.training.precision import Precision

__all__ = ["segment_volume", "tile_starts"]


def segment_volume(
    net: nn.Module,
    image: NDArray[np.float32],
    tile: Sequence[int],
    *,
    precision: Precision,
    overlap: float = 0.5,
    batch: int = 4,
) -> NDArray[np.float32]:
    """Vessel probability (X, Y, Z) in [0, 1] of an image (X, Y, Z) that is scaled as the network was trained.

    Every voxel is the mean of the tiles that cover it, weighted by a Gaussian around each tile's centre. An image
    smaller than a tile is padded by repeating its edge voxels. `net` maps (B, 1, *tile) to logits of that shape.
    """
    padding = [(0, max(0, size - axis)) for axis, size in zip(image.shape, tile, strict=True)]
    padded = np.pad(image, padding, mode="edge")
    weight = _gaussian(tile)
    total = np.zeros(padded.shape, np.float32)
    weights = np.zeros(padded.shape, np.float32)
    device = next(net.parameters()).device
    corners = list(product(*(tile_starts(axis, size, overlap) for axis, size in zip(padded.shape, tile, strict=True))))
    for group in _groups(corners, batch):
        places = [tuple(slice(start, start + size) for start, size in zip(c, tile, strict=True)) for c in group]
        tiles = torch.from_numpy(np.stack([padded[place] for place in places])[:, None]).to(device)
        with torch.inference_mode(), precision.autocast():
            logits = net(tiles.contiguous(memory_format=torch.channels_last_3d))
        probabilities = torch.sigmoid(logits.float())[:, 0].cpu().numpy()
        for place, probability in zip(places, probabilities, strict=True):
            total[place] += weight * probability
            weights[place] += weight
    total /= weights
    return total[tuple(slice(axis) for axis in image.shape)]


def tile_starts(axis: int, size: int, overlap: float) -> list[int]:
    """First voxels of the tiles that cover an axis of at least `size`: evenly spread, sharing `overlap` or more."""
    step = max(1, int(size * (1 - overlap)))
    count = -(-(axis - size) // step) + 1
    return [round(index * (axis - size) / max(1, count - 1)) for index in range(count)]


def _gaussian(tile: Sequence[int]) -> NDArray[np.float32]:
    """Weights of a tile: standard deviation an eighth of each side, floored so that corners keep a vote."""
    sides = [np.exp(-0.5 * (((np.arange(size) + 0.5) / size - 0.5) / 0.125) ** 2) for size in tile]
    weight: NDArray[np.float64] = np.einsum("i,j,k->ijk", *sides)
    return np.maximum(weight, 1e-3).astype(np.float32)


def _groups(items: Sequence[tuple[int, ...]], size: int) -> Iterable[Sequence[tuple[int, ...]]]:
    return (items[start : start + size] for start in range(0, len(items), size))
