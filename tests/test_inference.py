"""Tiled segmentation: exact where it can be, covering every voxel."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from vesselgan.inference import segment_volume, tile_starts
from vesselgan.training import choose_precision

FP32 = choose_precision("fp32", "cpu")


class VoxelWise(nn.Module):
    """A network whose answer for a voxel depends on that voxel only, so tiling must not show."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images


@pytest.mark.parametrize("shape", [(32, 32, 16), (45, 33, 17), (20, 40, 9), (16, 16, 16)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_tiles_of_a_voxelwise_network_join_without_a_seam(shape: tuple[int, int, int], overlap: float) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    probability = segment_volume(VoxelWise(), image, (16, 16, 16), precision=FP32, overlap=overlap, batch=3)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-2 * image)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("axis", "size", "overlap"), [(16, 16, 0.5), (17, 16, 0.0), (100, 16, 0.25), (127, 64, 0.9)])
def test_tiles_cover_an_axis_and_overlap_enough(axis: int, size: int, overlap: float) -> None:
    starts = tile_starts(axis, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == axis - size
    assert all(0 <= after - before <= size * (1 - overlap) + 1 for before, after in pairwise(starts))
    assert len(starts) == len(set(starts))
