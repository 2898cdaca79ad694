"""Contours: agreement with the tools whose conventions they claim."""

import math

import numpy as np
import pytest
import SimpleITK
import torch
from golden_metrics import cases, golden_masks
from monai.metrics import compute_average_surface_distance

from vesselgan.metrics import contour_distances, hausdorff_95
from vesselgan.metrics.contours import contour

FULL_CASES = [name for name in cases.MASK_CASES if not name.startswith("empty")]


def itk_surface(mask, spacing_mm):
    """Contour as TopCoW's evaluation has it, padded, and the distances of all voxels to it."""
    image = SimpleITK.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing([float(size) for size in spacing_mm[::-1]])
    surface = SimpleITK.LabelContour(image, fullyConnected=True)
    distances = SimpleITK.Abs(SimpleITK.SignedMaurerDistanceMap(surface, squaredDistance=False, useImageSpacing=True))
    return SimpleITK.GetArrayFromImage(surface).astype(bool), SimpleITK.GetArrayFromImage(distances)


@pytest.mark.parametrize("name", FULL_CASES)
def test_with_26_neighbours_the_distances_are_those_of_simpleitks_contours(name):
    truth, prediction, spacing_mm = golden_masks(name)
    ours, to_ours = itk_surface(truth, spacing_mm)
    theirs, to_theirs = itk_surface(prediction, spacing_mm)
    there, back = to_theirs[ours], to_ours[theirs]
    found = contour_distances(truth, prediction, spacing_mm)
    assert found.hausdorff_95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert found.average == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@pytest.mark.parametrize("name", FULL_CASES)
def test_with_6_neighbours_they_are_those_of_monai_and_metrics_reloaded(name):
    truth, prediction, spacing_mm = golden_masks(name)
    found = contour_distances(truth, prediction, spacing_mm, neighbours=6)
    assert found.hausdorff_95 == pytest.approx(hausdorff_95(truth, prediction, spacing_mm), abs=1e-9)
    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, truth)]
    assd = compute_average_surface_distance(
        *masks, include_background=True, symmetric=True, spacing=[float(size) for size in spacing_mm]
    )
    assert found.average == pytest.approx(assd.item(), rel=1e-5)


def test_a_block_without_one_corner_has_a_voxel_more_on_the_contour_of_26_neighbours():
    block = np.zeros((7, 7, 7), dtype=bool)
    block[1:6, 1:6, 1:6] = True
    block[1, 1, 1] = False
    assert np.count_nonzero(contour(block, 6)) == 5**3 - 3**3 - 1
    assert np.count_nonzero(contour(block, 26)) == 5**3 - 3**3 - 1 + 1


def test_an_empty_mask_follows_the_policy():
    mask = np.ones((2, 3, 6), dtype=bool)
    with pytest.raises(ValueError, match="empty"):
        contour_distances(mask, ~mask)
    assert contour_distances(mask, ~mask, empty="diagonal").average == 7
    assert math.isnan(contour_distances(~mask, ~mask, empty="nan").hausdorff_95)
