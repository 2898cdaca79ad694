"""Tiled segmentation: exact where it can be, covering every voxel, and equal to MONAI's."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tiled_inference import FP32, VoxelWise, by_monai, noise, unet

from vesselgan.errors import InputError
from vesselgan.inference import segment_volume, tile_starts


@pytest.mark.parametrize("shape", [(32, 32, 16), (45, 33, 17), (20, 40, 9), (16, 16, 16), (1, 3, 50)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_tiles_of_a_voxelwise_network_join_without_a_seam(shape: tuple[int, int, int], overlap: float) -> None:
    image = noise(shape)
    probability = segment_volume(VoxelWise(), image, (16, 16, 16), precision=FP32, overlap=overlap, batch=3)
    assert probability.shape == shape
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-2 * image)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(45, 33, 17), (7, 33, 17)])
def test_a_constant_answer_stays_constant_up_to_the_borders(shape: tuple[int, int, int]) -> None:
    constant = segment_volume(VoxelWise(), np.full(shape, 1.5, np.float32), (16, 8, 4), precision=FP32, overlap=0.6)
    np.testing.assert_allclose(constant, 1 / (1 + np.exp(-3.0)), rtol=1e-6)


@pytest.mark.parametrize(("axis", "size", "overlap"), [(16, 16, 0.5), (17, 16, 0.0), (100, 16, 0.25), (127, 64, 0.9)])
def test_tiles_cover_an_axis_and_overlap_enough(axis: int, size: int, overlap: float) -> None:
    starts = tile_starts(axis, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == axis - size
    assert all(0 <= after - before <= size * (1 - overlap) + 1 for before, after in pairwise(starts))
    assert len(starts) == len(set(starts))


def test_neither_input_nor_network_changes_and_progress_counts_every_tile() -> None:
    image, net = noise((20, 18, 16)), unet()
    before, calls = image.copy(), []
    segment_volume(net, image, (16, 16, 16), precision=FP32, batch=3, progress=lambda *at: calls.append(at))
    np.testing.assert_array_equal(image, before)
    assert calls == [(3, 4), (4, 4)]


@pytest.mark.parametrize("changes", [{"overlap": 1.0}, {"overlap": -0.1}, {"batch": 0}, {"image": noise((4, 4))}])
def test_nonsense_is_refused(changes: dict[str, Any]) -> None:
    arguments = {"image": noise((8, 8, 8)), "tile": (8, 8, 8), "precision": FP32} | changes
    with pytest.raises(InputError):
        segment_volume(VoxelWise(), **arguments)


# ------------------------------------------------------------------ beside MONAI


@pytest.mark.parametrize("shape", [(40, 33, 19), (16, 16, 8), (50, 20, 9), (9, 30, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
def test_the_result_is_that_of_monai(shape: tuple[int, int, int], overlap: float) -> None:
    image, net = noise(shape), unet()
    theirs = by_monai(net, image, (16, 16, 8), overlap, 3, "fp32")
    ours = segment_volume(net, image, (16, 16, 8), precision=FP32, overlap=overlap, batch=3)
    assert ours.std() > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    class Broken(VoxelWise):
        def forward(self, tiles: Any) -> Any:
            return super().forward(tiles) * float("nan")

    with pytest.raises(InputError, match="gives NaN or infinity for probabilities"):
        segment_volume(Broken(), noise((16, 16, 16)), (16, 16, 16), precision=FP32)
