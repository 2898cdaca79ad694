"""Labelled patches at several scales: what a multiscale generator predicts, from coarse to fine.

Level 0 is the patch itself, and a voxel of level k+1 is a cell of 2x2x2 voxels of level k, its children. It holds their
mean intensity, and a class that says how much of the cell is vessel: label voxels have two classes, cells nine.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "CHILDREN",
    "Level",
    "join_children",
    "label_classes",
    "label_shares",
    "possible_labels",
    "pyramid",
    "remaining",
    "split_children",
]

# Of a cell, in the order in which they are predicted: the first four touch each other by edges only, so that together
# they show the whole cell, and the other four lie between them.
CHILDREN = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1))
_CLASSES = 9  # a cell of 2x2x2 voxels has 0 to 8 of vessel
_NEVER = 1e4  # as a logit


class Level(NamedTuple):
    """A patch at one scale."""

    images: Tensor  # (B, X, Y, Z) in [-1, 1]
    labels: Tensor  # (B, X, Y, Z), classes


def pyramid(pairs: Tensor, height: int) -> list[Level]:
    """Pairs (B, 2, X, Y, Z), image in [-1, 1] and label (vessel above 0), at levels 0 to `height`."""
    images, shares = pairs[:, :1].float(), (pairs[:, 1:] > 0).float()
    levels = [Level(images[:, 0], shares[:, 0].long())]
    for level in range(1, height + 1):
        images, shares = F.avg_pool3d(images, 2), F.avg_pool3d(shares, 2)
        levels.append(Level(images[:, 0], _quantised(shares[:, 0], level)))
    return levels


def label_classes(level: int) -> int:
    """How many classes a label has at a level."""
    return _CLASSES if level else 2


def label_shares(labels: Tensor, level: int) -> Tensor:
    """The share of vessel that a class stands for, in [0, 1]: exact up to level 1, the middle of a range above."""
    if level == 0:
        return labels.float()
    return (labels.float() / (_CLASSES - 1)) ** min(level, 3)


def split_children(volumes: Tensor) -> Tensor:
    """(B, 2X, 2Y, 2Z) -> (B, 8, X, Y, Z)."""
    return torch.stack([volumes[:, x::2, y::2, z::2] for x, y, z in CHILDREN], dim=1)


def join_children(children: Tensor) -> Tensor:
    """(B, 8, X, Y, Z) -> (B, 2X, 2Y, 2Z): undoes :func:`split_children`."""
    size: Sequence[int] = [2 * axis for axis in children.shape[2:]]
    volumes = children.new_empty(len(children), *size)
    for child, (x, y, z) in zip(children.unbind(1), CHILDREN, strict=True):
        volumes[:, x::2, y::2, z::2] = child
    return volumes


def remaining(parents: Level, children: Level, level: int, members: slice = slice(None)) -> Level:
    """What of their cell's mean these children and those after them have left, as means over them; both (N, members).

    Parents are (N,), children (N, 8) of `level`; only those before a child matter to its own numbers. The means of a
    cell and of its children agree, so the last child's intensity is what is left, but for rounding; and so is, on level
    0, its label.
    """
    number = children.images.shape[1]
    up_to = slice(0, members.stop)  # sums over the first children need the first children only
    before = Level(children.images[:, up_to], label_shares(children.labels[:, up_to], level))
    whole = Level(parents.images, label_shares(parents.labels, level + 1))
    waiting = torch.arange(number, 0, -1, device=children.images.device)[members]
    left = (
        (number * mean[:, None] - (part.cumsum(dim=1) - part)[:, members]) / waiting
        for mean, part in zip(whole, before, strict=True)
    )
    images, labels = left
    return Level(images.clamp(-1, 1), labels.clamp(0, 1))


def possible_labels(
    parents: Tensor, children: Tensor, left: Tensor, level: int, members: slice = slice(None)
) -> Tensor:
    """(N, members, K) to add to logits, so that children (N, 8) agree with the classes of their parents (N,).

    On level 0 a parent's class counts its vessel voxels, and the share that is `left` (N, members) is a child's
    probability if nothing else is known. Above, a cell without vessel has none in its children, and one with vessel has
    some.
    """
    if level == 0:
        return torch.stack([torch.log1p(-left), torch.log(left)], dim=-1).clamp(min=-_NEVER)
    offsets = torch.zeros(*left.shape, _CLASSES, device=children.device)
    offsets[..., 1:].masked_fill_((parents == 0)[:, None, None], -_NEVER)
    if range(children.shape[1])[members][-1] == children.shape[1] - 1:
        barren = (parents > 0) & (children[:, :-1] == 0).all(dim=1)
        offsets[:, -1, 0].masked_fill_(barren, -_NEVER)
    return offsets


def _quantised(shares: Tensor, level: int) -> Tensor:
    """Vessel shares in [0, 1] as classes 0 to 8: exact at level 1; above, finer for small shares; 0 only for none."""
    classes = (shares ** (1 / min(level, 3)) * (_CLASSES - 1)).round().long()
    return torch.where((shares > 0) & (classes == 0), 1, classes)
