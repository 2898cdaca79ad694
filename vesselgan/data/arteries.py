"""The arteries of a head: a circle of Willis with its feeders, the trees that leave it, and arteries of the scalp."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.head import Head
from vesselgan.data.vessel_tree import Branch, Trunk, grow_tree, path_lengths, smooth_path

__all__ = ["calibre_widening", "grow_arteries"]

_SMALLEST_RADIUS_MM = 0.33  # about what TOF-MRA shows at 0.5 mm
_FINE_MM = 0.6  # voxels up to this size show the real calibres
_THINNEST_VOXELS = 2.0  # diameter of the thinnest branch on coarser grids, where no network could tell it from noise

# Right side (x > 0), mm: x to the right, y to the front, z up from the lowest slice. Left is the mirror image.
_NODES = {
    "ica_neck": (27, -10, -3),
    "ica_petrous": (25, -6, 4),
    "ica_carotid_canal": (17, -1, 8),
    "ica_cavernous": (12, 7, 13),
    "ica_genu": (12, 17, 15),
    "ica_siphon": (12, 18, 21),
    "ica_clinoid": (11, 11, 24),
    "ica_top": (13, 9, 29),
    "m1_bow": (22, 11, 31),
    "m1_end": (34, 7, 32),
    "a1_bow": (8, 15, 32),
    "a1_end": (3, 21, 33),
    "pcom_bow": (11, 0, 27),
    "p1_end": (10, -8, 29),
    "p2_bow": (16, -16, 30),
    "p2_end": (21, -26, 31),
    "temporal": (66, 8, -2),
    "occipital": (36, -66, -2),
    "va_neck": (13, -28, -3),
    "va_bow": (10, -24, 3),
}
_WANDER_MM = (0.8, 1.2, 1.2)  # standard deviation between subjects
_MIDLINE = {"ba_start": (0, -18, 9), "ba_bow": (1, -14, 17), "ba_tip": (0, -11, 27)}


@dataclass(frozen=True)
class _Artery:
    nodes: str  # names along the centreline; "-left" crosses over
    radius_mm: float
    both_sides: bool = True
    feeders: int = 1  # that join into it
    absent: float = 0.0  # share of subjects and sides without it
    communicating: bool = False  # feeds from either end, and alone where the other artery to its end is absent


# A feeder stands before what it feeds. Where the first artery to a node is absent, a communicating one takes its place.
_CIRCLE = (
    _Artery("ica_neck ica_petrous ica_carotid_canal ica_cavernous ica_genu ica_siphon ica_clinoid ica_top", 2.3),
    _Artery("va_neck va_bow ba_start", 1.5),
    _Artery("ba_start ba_bow ba_tip", 1.65, both_sides=False, feeders=2),
    _Artery("ica_top m1_bow m1_end", 1.55),
    _Artery("ica_top a1_bow a1_end", 1.2, absent=0.06),
    _Artery("a1_end a1_end-left", 0.75, both_sides=False, absent=0.15, communicating=True),
    _Artery("ba_tip p1_end", 1.2, absent=0.12),
    _Artery("ica_top pcom_bow p1_end", 0.75, absent=0.3, communicating=True),
    _Artery("p1_end p2_bow p2_end", 1.2),
)
_ALONE = 1.4  # times wider is a communicating artery that feeds a territory alone


@dataclass(frozen=True)
class _Tree:
    root: str  # node
    direction: tuple[float, float, float]
    radius_mm: float
    territory: tuple[float, float, float]  # its centre, mm; a point is perfused by the tree with the nearest one
    most_terminals: int = 1000


_BRAIN_TREES = (
    _Tree("m1_end", (1, -0.3, 0.5), 1.5, (50, 0, 55)),
    _Tree("a1_end", (0, 0.8, 0.6), 1.2, (4, 40, 66)),
    _Tree("p2_end", (0.6, -1, 0.2), 1.2, (18, -52, 42)),
    _Tree("ba_tip", (1, -0.5, -0.3), 0.75, (22, -45, 14)),
)
_SCALP_TREES = (
    _Tree("temporal", (0, 0.1, 1), 1.1, (60, 10, 50), most_terminals=8),
    _Tree("occipital", (0, -0.3, 1), 0.9, (40, -75, 40), most_terminals=5),
)
_ACROSS = (1.5, 1.0, 1.0)  # territories are layered from the middle outwards
_BRAIN_DEPTHS = (0.65, 0.97)  # 0 is the brain's centre, 1 its surface: TOF-MRA shows arteries rather than arterioles


def grow_arteries(head: Head, *, voxel_mm: float, rng: np.random.Generator) -> list[Branch]:
    """All arteries of one subject: parents stand before their children.

    Grids too coarse for the real calibres get wider and fewer branches, none thinner than 2 voxels.

    Args:
        head: where brain and scalp lie.
        voxel_mm: mean edge length of a voxel.
        rng: draws everything that differs between subjects.
    """
    smallest_mm = _smallest_radius_mm(voxel_mm)
    widening = calibre_widening(voxel_mm)
    step_mm = 0.4 * voxel_mm
    nodes = _subject_nodes(head, rng)
    branches, fed_by = _draw_circle(nodes, widening, step_mm, rng)
    for trees, on_scalp in ((_BRAIN_TREES, False), (_SCALP_TREES, True)):
        reachable = head.sample_scalp(4000, rng) if on_scalp else head.sample_brain(4000, _BRAIN_DEPTHS, rng)
        centres = np.array([(sign * tree.territory[0], *tree.territory[1:]) for tree in trees for sign in (1, -1)])
        nearest = np.linalg.norm((reachable[:, None] - centres) * _ACROSS, axis=2).argmin(axis=1)
        for index, (tree, side) in enumerate((tree, side) for tree in trees for side in ("right", "left")):
            root = _on(side, tree.root)
            feeder = fed_by.get(root, -1)
            widest_mm = branches[feeder].radius_mm if feeder >= 0 else np.inf
            radius_mm = min(tree.radius_mm * widening * _spread(rng), widest_mm)
            terminals = min(max(2, round((radius_mm / smallest_mm) ** 3)), tree.most_terminals)
            trunk = Trunk(
                head.onto_scalp(nodes[root]) if on_scalp else nodes[root],
                np.array(tree.direction) * (1 if side == "right" else -1, 1, 1),
                radius_mm,
                distance_mm=float(branches[feeder].distance_mm[-1]) if feeder >= 0 else 0.0,
                parent=feeder,
            )
            branches += grow_tree(
                trunk,
                rng.permutation(reachable[nearest == index])[:terminals],
                step_mm=step_mm,
                rng=rng,
                offset=len(branches),
                settle=head.onto_scalp if on_scalp else head.into_brain,
            )
    return branches


def calibre_widening(voxel_mm: float) -> float:
    """How many times wider than real ones vessels are on a grid with voxels of this size; 1 on fine grids."""
    return float((_smallest_radius_mm(voxel_mm) / _SMALLEST_RADIUS_MM) ** 0.5)


def _smallest_radius_mm(voxel_mm: float) -> float:
    return _SMALLEST_RADIUS_MM if voxel_mm <= _FINE_MM else _THINNEST_VOXELS * voxel_mm / 2


def _draw_circle(
    nodes: dict[str, NDArray[np.float64]], widening: float, step_mm: float, rng: np.random.Generator
) -> tuple[list[Branch], dict[str, int]]:
    """The circle of Willis with its feeders, and node -> the branch that ends there."""
    branches: list[Branch] = []
    fed_by: dict[str, int] = {}
    missing: set[str] = set()
    for artery in _CIRCLE:
        for side in ("right", "left") if artery.both_sides else ("right",):
            names = [_on(side, name) for name in artery.nodes.split()]
            if artery.communicating and names[0] not in fed_by:
                names.reverse()
            fed_already = names[-1] in fed_by
            replaced = not artery.communicating and artery.nodes not in missing  # and never on both sides
            if rng.random() < artery.absent and (fed_already or replaced):
                missing.add(artery.nodes)
                continue
            points = smooth_path(np.array([nodes[name] for name in names]), step_mm)
            radius_mm = artery.radius_mm * widening * _spread(rng)
            if artery.communicating and not fed_already:
                radius_mm *= _ALONE
            feeder, start_mm = fed_by.get(names[0], -1), 0.0
            if feeder >= 0:
                start_mm = float(branches[feeder].distance_mm[-1])
                radius_mm = min(radius_mm, branches[feeder].radius_mm * artery.feeders ** (1 / 3))  # Murray's law
            fed_by.setdefault(names[-1], len(branches))
            branches.append(Branch(points, radius_mm, path_lengths(points, start_mm), feeder))
    return branches, fed_by


def _subject_nodes(head: Head, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    nodes = {name: np.array(position) for name, position in _MIDLINE.items()}
    for side, sign in (("right", 1), ("left", -1)):
        nodes |= {_on(side, name): np.array([sign * x, y, z]) for name, (x, y, z) in _NODES.items()}
    return {name: head.place(position + rng.normal(scale=_WANDER_MM, size=3)) for name, position in nodes.items()}


def _on(side: str, node: str) -> str:
    return node if node in _MIDLINE or "-" in node else f"{node}-{side}"


def _spread(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.85, 1.15))
