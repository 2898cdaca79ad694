"""Tubes as voxels: volumes that are known, the transforms of spatial objects, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from data_trees import tubes

from vesselgan.data import rasterise_tubes, read_tubes
from vesselgan.data.tubes import Tube
from vesselgan.errors import InputError

AFFINE = np.diag([0.25, 0.25, 0.25, 1.0])


def straight(start, end, radius, count=20) -> Tube:
    points = np.linspace(start, end, count)
    return Tube(points, np.broadcast_to(np.asarray(radius, float), (count,)))


@pytest.mark.parametrize("radius", [1.0, 1.7, 2.5])
@pytest.mark.parametrize("end", [(15, 5, 6), (15, 9, 11)], ids=["along an axis", "across"])
def test_a_cylinder_has_its_volume(radius: float, end: tuple[float, ...]) -> None:
    start = np.array([5.0, 5.0, 6.0])
    mask, share = rasterise_tubes([straight(start, end, radius)], (80, 64, 64), AFFINE)
    length = np.linalg.norm(np.array(end) - start)
    volume = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3  # with a half ball at either end
    assert mask.sum() * 0.25**3 == pytest.approx(volume, rel=0.03)
    assert share == 1


def test_a_cone_has_its_volume() -> None:
    radii = np.linspace(1, 2, 30)
    mask, _ = rasterise_tubes([Tube(np.linspace((4, 8, 8), (16, 8, 8), 30), radii)], (80, 64, 64), AFFINE)
    volume = np.pi * 12 / 3 * (1 + 2 + 4) + 2 / 3 * np.pi * (1 + 8)
    assert mask.sum() * 0.25**3 == pytest.approx(volume, rel=0.03)


def test_voxels_of_unequal_sides_change_the_grid_and_not_the_volume() -> None:
    tube = [straight((5, 5, 5), (12, 8, 14), 1.5)]
    fine, _ = rasterise_tubes(tube, (80, 80, 80), AFFINE)
    flat, _ = rasterise_tubes(tube, (60, 50, 25), np.diag([1 / 3, 0.4, 0.8, 1]))
    assert flat.sum() * 0.8 * 0.4 / 3 == pytest.approx(fine.sum() * 0.25**3, rel=0.03)


def test_a_tube_thinner_than_a_voxel_leaves_an_unbroken_line() -> None:
    mask, _ = rasterise_tubes([straight((2, 2, 2), (17, 11, 14), 0.01, count=2)], (20, 20, 20), np.eye(4))
    from scipy.ndimage import label

    assert mask.sum() >= 16
    assert label(mask, np.ones((3, 3, 3)))[1] == 1


def test_what_lies_outside_is_cut_and_counted() -> None:
    mask, share = rasterise_tubes([straight((-10, 5, 5), (10, 5, 5), 1, count=41)], (40, 40, 40), AFFINE)
    assert share == pytest.approx(0.5, abs=0.03)
    assert mask.any()


POINTS = np.array([[10.0, 20, 30], [11, 20, 30], [12, 21, 31]])


def test_positions_and_radii_are_scaled_as_itk_does(tmp_path: Path) -> None:
    """Position times the spacing of its axis, radius times that of the first; LPS becomes RAS."""
    path = tubes(tmp_path / "a.tre", POINTS, np.array([1.0, 1, 2]), ElementSpacing="0.5 0.6 0.8", Offset="100 -7 3")
    (tube,) = read_tubes(path)
    np.testing.assert_allclose(tube.points_mm[0], [-(10 * 0.5 + 100), -(20 * 0.6 - 7), 30 * 0.8 + 3])
    np.testing.assert_allclose(tube.radii_mm, [0.5, 0.5, 1.0])


def test_an_object_turns_about_its_centre(tmp_path: Path) -> None:
    turn = "0 -1 0 1 0 0 0 0 1"  # a quarter, from x to y
    path = tubes(tmp_path / "a.tre", POINTS, np.ones(3), TransformMatrix=turn, CenterOfRotation="10 10 0")
    (tube,) = read_tubes(path)
    np.testing.assert_allclose(tube.points_mm[0], [-(10 - (20 - 10)), -10, 30])


def test_transforms_lead_from_parent_to_parent(tmp_path: Path) -> None:
    child = tubes(tmp_path / "a.tre", POINTS, np.ones(3), ParentID=7, Offset="1 0 0").read_text()
    group = "ObjectType = Group\nNDims = 3\nID = 7\nParentID = 8\nTransformMatrix = 2 0 0 0 2 0 0 0 2\nEndGroup = \n"
    root = "ObjectType = Group\nNDims = 3\nID = 8\nParentID = -1\nOffset = 0 0 5\nEndGroup = \n"
    (tmp_path / "b.tre").write_text(child + group + root)
    (tube,) = read_tubes(tmp_path / "b.tre")
    np.testing.assert_allclose(tube.points_mm[0], [-2 * 11, -2 * 20, 2 * 30 + 5])
    np.testing.assert_allclose(tube.radii_mm, 2)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ObjectType = Tube", "ObjectType = Line", "no tubes among its 2 objects"),
        ("ObjectType", "Kind", "no spatial objects"),
        ("NPoints = 3", "NPoints = 30", "object 2 is a broken tube (75 numbers for 30 points of 25)"),
        ("NPoints = 3", "", "no 'NPoints'"),
        ("x y z r", "x y z s", "is not in list"),
        ("10.000000", "ten", "could not convert"),
        ("10.000000", "nan", "a point, radius or spacing that is none"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1", "ElementSpacing needs 3 numbers"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 0 1", "a point, radius or spacing that is none"),
        ("ParentID = -1", "ParentID = 1", "its own ancestor"),
        ("PointDim", "BinaryData = True\nPointDim", "its points are binary"),
    ],
)
def test_a_broken_tube_is_told_in_one_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    path = tubes(tmp_path / "a.tre", POINTS, np.ones(3))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError) as caught:
        read_tubes(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert expected in message
