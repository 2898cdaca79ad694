"""Vessels as tubes (TubeTK's .tre, MetaIO spatial objects): centrelines with radii, and the voxels inside them.

Honoured, as ITK does: a point's position is its number times ElementSpacing (older files count voxels, newer ones mm
with a spacing of one) and its radius is its number times the spacing of the first axis; each object's TransformMatrix
(row by row), Offset and CenterOfRotation lead to its parent, and from parent to parent to the world, which runs to the
left, to the back and up (LPS). Voxels whose centre lies inside a tube are vessel, and those that a centreline passes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.headers import check_is_file
from vesselgan.errors import InputError

__all__ = ["Tube", "rasterise_tubes", "read_tubes"]

_MOST_BYTES = 2**28  # a whole brain's tubes are a few MB of text
_PAIRS_AT_ONCE = 2_000_000  # of point and voxel: bounds memory
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_KEY = re.compile(r"\s*([A-Za-z]+)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True, eq=False)
class Tube:
    """A centreline with its radii."""

    points_mm: NDArray[np.float64]  # (n, 3) in the world, RAS
    radii_mm: NDArray[np.float64]  # (n,)


@dataclass(frozen=True, eq=False)
class _Object:
    fields: Mapping[str, str]
    rows: Sequence[str]  # of numbers, after "Points ="

    def vector(self, names: Sequence[str], otherwise: Sequence[float]) -> NDArray[np.float64]:
        """The numbers under the first of these names that is there: MetaIO has several for most."""
        text = next((self.fields[name] for name in names if name in self.fields), None)
        values = np.array(otherwise if text is None else text.split(), dtype=np.float64)
        if values.shape != (len(otherwise),) or not np.isfinite(values).all():
            raise ValueError(f"{names[0]} needs {len(otherwise)} numbers")
        return values

    def to_parent(self) -> NDArray[np.float64]:
        """(4, 4): x -> M (x - centre) + centre + offset."""
        matrix = self.vector(("TransformMatrix", "Rotation", "Orientation"), (1, 0, 0, 0, 1, 0, 0, 0, 1)).reshape(3, 3)
        offset = self.vector(("Offset", "Position", "Origin"), (0, 0, 0))
        centre = self.vector(("CenterOfRotation",), (0, 0, 0))
        whole = np.eye(4)
        whole[:3, :3], whole[:3, 3] = matrix, centre + offset - matrix @ centre
        return whole


def read_tubes(path: Path | str) -> list[Tube]:
    """The tubes of a text file of MetaIO spatial objects, in the world's mm (RAS).

    Raises:
        InputError: missing or unreadable file, points in binary, a broken or missing tube.
    """
    path = Path(path)
    check_is_file(path)
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, too many for tubes; is it another kind of file?")
    try:
        text = path.read_bytes().decode("latin-1")
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}); check its type and permissions") from error
    objects = list(_objects(text.splitlines()))
    if not objects:
        raise InputError(f"{path}: no spatial objects (ObjectType = ...) in it; is it a .tre file?")
    by_id = {each.fields["ID"]: each for each in objects if each.fields.get("ID", "-1") != "-1"}  # -1 is none
    tubes = []
    for number, each in enumerate(objects):
        if each.fields["ObjectType"] not in ("Tube", "VesselTube", "Vessel"):
            continue
        try:
            tubes.append(_tube(each, by_id))
        except (KeyError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: object {number + 1} is a broken tube ({what}); write the file again") from None
    if not tubes:
        raise InputError(f"{path}: no tubes among its {len(objects)} objects; is it a .tre file?")
    return tubes


def rasterise_tubes(
    tubes: Iterable[Tube], shape: Sequence[int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], float]:
    """The voxels (X, Y, Z) of a grid that lie in any of the tubes, and the share of centreline points in the grid.

    Between two points of a centreline the tube is the cone that their radii span.

    Args:
        tubes: in mm, RAS.
        shape: of the grid.
        affine: (4, 4), voxel index -> mm, RAS.
    """
    mask = np.zeros(int(np.prod(shape)), dtype=bool)
    to_voxel = np.linalg.inv(affine)
    step_mm = 0.5 * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    inside = total = 0
    for tube in tubes:
        points_mm, radii_mm = _refined(tube, step_mm)
        centres = points_mm @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        nearest = np.rint(centres).astype(np.int64)
        held = ((nearest >= 0) & (nearest < shape)).all(axis=1)
        inside, total = inside + int(held.sum()), total + len(held)
        mask[np.ravel_multi_index(tuple(nearest[held].T), tuple(shape))] = True
        _fill_balls(mask, shape, affine[:3, :3], centres[held], nearest[held], radii_mm[held])
    return mask.reshape(shape), inside / max(total, 1)


def _fill_balls(
    mask: NDArray[np.bool_],
    shape: Sequence[int],
    axes: NDArray[np.float64],
    centres: NDArray[np.float64],
    nearest: NDArray[np.int64],
    radii_mm: NDArray[np.float64],
) -> None:
    """Mark the voxels (of the flat mask) within a radius of each centre (n, 3; in voxels)."""
    order = np.argsort(radii_mm)  # so that a few wide ones do not widen the search of all
    start = 0
    while start < len(order):
        # The box around the widest of a part decides how many points go at once.
        part = order[start : start + max(1, len(order) // 16)]
        # The rows of the inverse are how many voxels of each axis a mm spans at most.
        reach = np.ceil(radii_mm[part].max() * np.linalg.norm(np.linalg.inv(axes), axis=1) + 0.5).astype(np.int64)
        reach = np.minimum(reach, shape)
        offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
        part = part[: max(1, _PAIRS_AT_ONCE // len(offsets))]
        voxels = nearest[part, None] + offsets  # (points, offsets, 3)
        distance_mm = np.linalg.norm((voxels - centres[part, None]) @ axes.T, axis=-1)
        near = (distance_mm <= radii_mm[part, None]) & ((voxels >= 0) & (voxels < shape)).all(axis=-1)
        mask[np.ravel_multi_index(tuple(voxels[near].T), tuple(shape))] = True
        start += len(part)


def _refined(tube: Tube, step_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and radii with no gap wider than a step."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(tube.points_mm, axis=0), axis=1))])
    even = np.linspace(0, along[-1], int(np.ceil(along[-1] / step_mm)) + 1)
    places = np.union1d(along, even)  # the given points stay, for the sake of their radii
    points = np.stack([np.interp(places, along, tube.points_mm[:, axis]) for axis in range(3)], axis=1)
    return points, np.interp(places, along, tube.radii_mm)


def _objects(lines: Iterable[str]) -> Iterable[_Object]:
    """The objects of a file, each with its fields and the rows under its points."""
    fields: dict[str, str] = {}
    rows: list[str] = []
    in_points = False
    for line in lines:
        field = _KEY.match(line)
        if field is None:
            if in_points and line.strip():
                rows.append(line)
            continue
        if field[1] == "ObjectType":
            if fields:
                yield _Object(fields, rows)
            fields, rows = {}, []
        in_points = field[1] == "Points"
        if fields or field[1] == "ObjectType":
            fields[field[1]] = field[2]
    if fields:
        yield _Object(fields, rows)


def _tube(each: _Object, by_id: Mapping[str, _Object]) -> Tube:
    if each.fields.get("BinaryData", "False").lower() in ("true", "1"):
        raise ValueError("its points are binary: write them as text")
    names = each.fields["PointDim"].split()
    columns = [names.index(name) for name in ("x", "y", "z", "r")]
    count = int(each.fields["NPoints"])
    numbers = " ".join(each.rows).split()
    if count < 1 or len(numbers) % count or len(numbers) // count <= max(columns):
        raise ValueError(f"{len(numbers)} numbers for {count} points of {len(names)}")
    # Files of old versions have fewer or more columns than names; what comes first is always in place.
    table = np.array(numbers, dtype=np.float64).reshape(count, -1)[:, columns]
    spacing = each.vector(("ElementSpacing",), (1, 1, 1))
    if not np.isfinite(table).all() or (table[:, 3] < 0).any() or (spacing <= 0).any():
        raise ValueError("a point, radius or spacing that is none")
    whole = np.eye(4)
    seen: list[str] = []
    ancestor: _Object | None = each
    while ancestor is not None:
        whole = ancestor.to_parent() @ whole
        parent = ancestor.fields.get("ParentID", "-1")
        if parent in seen:
            raise ValueError("it is its own ancestor")
        seen.append(parent)
        ancestor = by_id.get(parent)
    points = (table[:, :3] * spacing) @ whole[:3, :3].T + whole[:3, 3]
    scale = float(np.cbrt(abs(np.linalg.det(whole[:3, :3]))))
    return Tube(points * _LPS_TO_RAS, table[:, 3] * spacing[0] * scale)
