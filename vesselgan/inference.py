"""Whole-volume segmentation by overlapping tiles with Gaussian weights.

Tiles, weights and padding are those of MONAI's ``sliding_window_inference`` with ``mode="gaussian"`` and
``padding_mode="replicate"``, and so is the result (to rounding); a test compares the two.
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks import UNet
from vesselgan.training.precision import Precision

__all__ = ["segment_volume", "tile_starts"]

SIGMA = 0.125  # of the Gaussian, as a share of the tile's side
LEAST_WEIGHT = 1e-3  # so that a corner that only one tile covers is not divided by nearly nothing


def segment_volume(
    net: nn.Module,
    image: NDArray[np.float32],
    tile: Sequence[int],
    *,
    precision: Precision,
    overlap: float = 0.5,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Vessel probability (X, Y, Z) in [0, 1] of an image (X, Y, Z) that is scaled as the network was trained.

    Every voxel is the mean of the tiles that cover it, weighted by a Gaussian around each tile's centre. An image
    smaller than a tile is padded on both sides by repeating its edge voxels. Beside the image it holds one float32
    volume, the weights of one row of tiles, and a batch of tiles.

    Args:
        net: maps (B, 1, *tile) to logits of that shape; its device is where tiles are computed. On a CPU a `UNet` in
            evaluation mode is replaced by its copy for inference: the same values in less time.
        image: (X, Y, Z) of any size.
        tile: voxels per axis.
        precision: the number format of the network; probabilities and their mean are float32.
        overlap: share of a tile that neighbours have in common, at least, in [0, 1).
        batch: tiles at a time.
        progress: is told how many of how many tiles are done.

    Raises:
        InputError: an overlap outside [0, 1), a batch below 1, an image that is not 3-D, probabilities that are none.
    """
    if image.ndim != 3:
        raise InputError(f"image of shape {image.shape}: needs three axes (X, Y, Z)")
    if not 0 <= overlap < 1:
        raise InputError(f"overlap {overlap}: needs a share from 0 to below 1")
    if batch < 1:
        raise InputError(f"batch {batch}: needs at least one tile at a time")
    before = [max(0, size - axis) // 2 for axis, size in zip(image.shape, tile, strict=True)]
    after = [max(0, size - axis) - half for axis, size, half in zip(image.shape, tile, before, strict=True)]
    padded = np.pad(image, list(zip(before, after, strict=True)), mode="edge") if any(after) else image
    starts = [tile_starts(axis, size, overlap) for axis, size in zip(padded.shape, tile, strict=True)]
    total = _weighted_sum(net, padded, tile, starts, precision, batch, progress)
    _divide_by_weights(total, tile, starts)
    if not torch.isfinite(total).all():
        raise InputError(
            "the network gives NaN or infinity for probabilities: its training diverged; take earlier weights"
        )
    inside = tuple(slice(low, low + axis) for low, axis in zip(before, image.shape, strict=True))
    return total[inside].numpy()


def tile_starts(axis: int, size: int, overlap: float) -> list[int]:
    """First voxels of the tiles of `size` that cover an axis of at least that: equal steps, the last one to its end."""
    step = max(1, int(size * (1 - overlap)))
    count = -(-(axis - size) // step) + 1
    return [min(index * step, axis - size) for index in range(count)]


def _weighted_sum(
    net: nn.Module,
    image: NDArray[np.float32],
    tile: Sequence[int],
    starts: Sequence[Sequence[int]],
    precision: Precision,
    batch: int,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """Sum over tiles of weight times probability, (X, Y, Z)."""
    device = next(net.parameters()).device
    if isinstance(net, UNet) and not net.training and device.type == "cpu":
        net = net.for_inference()
    weight, total = _gaussian(tile), torch.zeros(image.shape)
    buffer, corners = np.empty((batch, *tile), np.float32), list(product(*starts))
    for done in range(0, len(corners), batch):
        places = [
            tuple(slice(start, start + size) for start, size in zip(corner, tile, strict=True))
            for corner in corners[done : done + batch]
        ]
        stacked = np.stack([image[place] for place in places], out=buffer[: len(places)])
        tiles = torch.from_numpy(stacked)[:, None].to(device)
        with torch.inference_mode(), precision.autocast():
            # A single channel lies in memory as channels_last_3d does; only its strides say so.
            logits = net(tiles.contiguous(memory_format=torch.channels_last_3d))
            probabilities = logits.float().sigmoid_()[:, 0].cpu()
        for place, probability in zip(places, probabilities, strict=True):
            total[place].addcmul_(probability, weight)
        if progress is not None:
            progress(min(done + batch, len(corners)), len(corners))
    return total


def _divide_by_weights(total: Tensor, tile: Sequence[int], starts: Sequence[Sequence[int]]) -> None:
    """Divide in place by the sum of the weights of the tiles over each voxel.

    Tiles stand on a grid, so their weights are summed axis by axis: along the last axis and the second for one row of
    tiles, (tile, Y, Z), and along the first axis plane by plane.
    """
    weight = _gaussian(tile)
    for axis in (2, 1):
        shape = list(weight.shape)
        shape[axis] = total.shape[axis]
        row = torch.zeros(shape)
        for start in starts[axis]:
            row.narrow(axis, start, tile[axis]).add_(weight)
        weight = row
    for plane, values in enumerate(total):
        first, *others = (weight[plane - start] for start in starts[0] if start <= plane < start + tile[0])
        values.div_(sum(others, first))
    total.clamp_(0, 1)


def _gaussian(tile: Sequence[int]) -> Tensor:
    """Weights of a tile's voxels by their distance from its centre, floored."""
    sides = [torch.exp(-0.5 * (((torch.arange(size) + 0.5) / size - 0.5) / SIGMA) ** 2) for size in tile]
    return torch.einsum("i,j,k->ijk", *sides).clamp_(min=LEAST_WEIGHT)
