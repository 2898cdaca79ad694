"""Statistics of labels, and their distances."""

import math

import numpy as np
import pytest
from golden_metrics import cases

from vesselgan import metrics


def lines(*segments, shape=(20, 12, 12)):
    mask = np.zeros(shape, bool)
    for segment in segments:
        mask[segment] = True
    return mask


FORK = lines((slice(2, 10), 6, 6), (9, slice(6, 11), 6), (9, slice(2, 7), 6))


def test_volume_components_and_branches_of_plain_shapes():
    one, two = lines((slice(2, 10), 6, 6)), lines((slice(2, 10), 2, 2), (slice(2, 10), 9, 9))
    found = metrics.label_statistics([one, two, FORK, np.zeros((20, 12, 12), bool)])
    assert found.volume_fraction == pytest.approx([8 / 2880, 16 / 2880, FORK.mean(), 0])
    assert found.component_count.tolist() == [1, 2, 1, 0]
    assert found.branch_count.tolist() == [1, 2, 3, 0]
    assert found.empty == 1


def test_a_line_one_voxel_wide_has_a_radius_of_half_a_voxel():
    found = metrics.label_statistics([lines((slice(2, 10), 6, 6))], (0.5, 0.5, 0.5))
    assert found.radius == pytest.approx([0.25] * 8)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_line_of_oblong_voxels_has_half_the_width_of_one(axis):
    line, spacing = np.zeros((9, 9, 9), bool), np.array([0.5, 0.5, 0.5])
    line[tuple(slice(None) if each == axis else 4 for each in range(3))] = True
    spacing[axis] = 2.0
    assert metrics.label_statistics([line], spacing).radius == pytest.approx([0.25] * 9)


@pytest.mark.parametrize("radius", [1.5, 2.5, 3.5])
def test_the_radius_of_a_tube_is_found_to_a_voxel(radius):
    tube = cases.gen_tube([32, 24, 20], radius, amp=2.0)
    in_voxels = metrics.label_statistics([tube]).radius
    assert np.median(in_voxels) == pytest.approx(radius, abs=1)
    np.testing.assert_allclose(metrics.label_statistics([tube], (0.4, 0.4, 0.4)).radius, 0.4 * in_voxels)


def test_patches_may_come_one_by_one_as_arrays_or_tensors():
    import torch

    patches = np.stack([FORK, lines((slice(2, 10), 6, 6))])
    expected = metrics.label_statistics(patches)
    for given in (iter(patches.astype(np.uint8)), torch.from_numpy(patches)):
        found = metrics.label_statistics(given)
        np.testing.assert_array_equal(found.radius, expected.radius)
        np.testing.assert_array_equal(found.branch_count, expected.branch_count)


def test_distances_are_zero_for_equal_labels_and_the_shift_for_thicker_ones():
    thin, thick = (
        metrics.label_statistics([cases.gen_tube([24, 20, 16], radius, amp=3.0)] * 3) for radius in (1.5, 3.5)
    )
    same = metrics.label_distances(real=thin, generated=thin)
    assert list(same) == ["volume_fraction", "radius", "branch_count", "component_count"]
    assert all(
        distance.wasserstein == 0 and distance.real_mean == distance.generated_mean for distance in same.values()
    )
    found = metrics.label_distances(real=thin, generated=thick)
    assert found["radius"].wasserstein == pytest.approx(2, abs=0.5)
    shift = found["volume_fraction"].generated_mean - found["volume_fraction"].real_mean
    assert found["volume_fraction"].wasserstein == pytest.approx(shift)
    assert found["component_count"].wasserstein == 0
    assert metrics.label_distances(real=thick, generated=thin)["radius"].wasserstein == pytest.approx(
        found["radius"].wasserstein
    )


def test_labels_without_any_vessel_or_wall_have_no_radius():
    nothing, everything = (metrics.label_statistics([np.full((4, 4, 4), value)]) for value in (False, True))
    assert (nothing.empty, everything.empty) == (1, 0)
    found = metrics.label_distances(real=nothing, generated=everything)
    assert math.isnan(found["radius"].wasserstein)
    assert found["volume_fraction"].wasserstein == 1


@pytest.mark.parametrize(
    ("labels", "spacing_mm", "message"),
    [
        ([], None, "labels must hold at least one patch"),
        ([np.ones((3, 3), bool)], None, r"labels\[0\] must be an \(X, Y, Z\) patch, but has shape \(3, 3\)"),
        ([FORK, FORK * 0.5], None, r"labels\[1\] must be a binary mask of booleans or integers"),
        ([FORK * 2], None, r"labels\[0\] must be a binary mask, but holds"),
        ([FORK], (1, 1), "spacing_mm must hold three lengths"),
    ],
)
def test_bad_labels_are_refused_by_name(labels, spacing_mm, message):
    with pytest.raises(ValueError, match=f"^{message}.*$"):
        metrics.label_statistics(labels, spacing_mm)
