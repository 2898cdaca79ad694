"""A multiscale autoregressive generator of labelled patches: from a few coarse cells to voxels, level by level.

The probability of a patch is a product: of its coarsest cells one after another, and, at each finer level, of the eight
children of every cell given the level above (after Reed et al. 2017, Parallel multiscale autoregressive density
estimation). Each factor is a class of the label and then, given it, an intensity. So training is plain maximum
likelihood, in which every voxel of every patch teaches, and sampling takes a few passes a level, each over cells that
have no face in common, given all children of the passes before. All of it is given where the patch lies in its volume
(`vesselgan.networks.places`): without that the coarse levels learn heads slowly.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks.logistic import category_sample, mixture_nll, mixture_sample
from vesselgan.networks.places import CELL_FEATURES, PLACE, cell_places
from vesselgan.networks.pyramid import (
    CHILDREN,
    Level,
    join_children,
    label_classes,
    possible_labels,
    pyramid,
    remaining,
    split_children,
)
from vesselgan.networks.sizes import check_patch_size

__all__ = ["PLACES", "AutoregressiveGenerator"]

_FEATURES = 3  # of a voxel, see `_described`
_HIDDEN = 32  # of each child's two small networks
PLACES = 1024  # of training patches, from which those of samples are drawn
_PLACE_FEATURES = 64  # that the coarsest cells are given of their place


class AutoregressiveGenerator(nn.Module):
    """p(coarsest cells) and, per level, p(children | parents); `filters` is the width of every level's network.

    The finest level, which costs most and learns best, has half of it.

    The patch is halved until an axis is odd: 32 x 32 x 16 voxels have four levels above them, of which the last has 2 x
    2 x 1 cells. Raises InputError unless each axis of ``patch_size`` is a multiple of 16.
    """

    scale: Tensor
    places: Tensor

    def __init__(self, patch_size: Sequence[int], filters: int = 64, components: int = 3) -> None:
        super().__init__()
        self.patch_size = check_patch_size(patch_size)
        self.filters = filters
        self.components = components
        self.height = min(_halvings(axis) for axis in self.patch_size)
        self.turns = len(_ORDER)  # as many steps see every pass of every level
        coarsest = [axis >> self.height for axis in self.patch_size]
        self.coarsest = _Coarsest(coarsest, self.height, components)
        widths = [max(1, filters // 2), *[filters] * (self.height - 1)]
        self.levels = nn.ModuleList(_Refinement(level, width, components) for level, width in enumerate(widths))
        self.register_buffer("scale", torch.tensor([0.0, 1.0]))  # mean and SD of intensities, see calibrate()
        self.register_buffer("places", torch.zeros(PLACES, PLACE))

    def calibrate(self, pairs: Tensor, places: Tensor) -> None:
        """Take the mean and the SD of these pairs' intensities as the zero and the unit that the networks see.

        Samples get the places (N, 7) of these pairs, each as often as the others.
        """
        images = pairs[:, 0].float()
        sound = images[images.isfinite().flatten(1).all(dim=1)]  # one that is not would make the whole training garbage
        if len(sound):
            sd, mean = torch.std_mean(sound)
            self.scale.copy_(torch.stack([mean, sd.clamp(min=1e-3)]))
        self.places.copy_(places[torch.arange(PLACES) % len(places)])

    def nll(self, pairs: Tensor, places: Tensor, turn: int, patches: Sequence[int]) -> list[Tensor]:
        """Mean -log p per voxel, in nats, of each level from the finest, and of the coarsest cells; 0-d each.

        Pairs are (B, 2, X, Y, Z), image in [-1, 1] and label (vessel above 0), places (B, 7). A level learns one of its
        passes at a time, here that of `turn`. It looks at the first ``patches[level]`` pairs only, for a coarse level
        costs little and teaches little.
        """
        levels = pyramid(pairs, self.height)
        terms = []
        for number, refinement in enumerate(self.levels):
            count = patches[number]
            level, parent = (Level(*(part[:count] for part in levels[number + up])) for up in (0, 1))
            terms.append(refinement(parent, level, places[:count], turn, self.scale))
        return [*terms, self.coarsest(levels[-1], places, self.scale)]

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Level:
        """Images (count, X, Y, Z) in [-1, 1] and their labels, 0 or 1, of places as training patches have them."""
        drawn = torch.randint(len(self.places), (count,), generator=rng)
        places = self.places[drawn.to(self.places.device)]
        level = self.coarsest.sample(places, self.scale, rng)
        for refinement in reversed(self.levels):
            assert isinstance(refinement, _Refinement)
            level = refinement.sample(level, places, self.scale, rng)
        return level


# In which order the cells of a level get their children, by their coordinates modulo two: no two of one rank touch, and
# the first four make a chequerboard, in which cells have no face in common.
_ORDER = ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 0, 1), (0, 1, 0), (1, 0, 0))
# The finest level takes the two colours of the chequerboard at once each: there parents say nearly all, and passes cost
# most. With two passes on every level FID was twice as large.
_FINEST_PASSES = 2


class _Refinement(nn.Module):
    """p(level | the level above it)."""

    def __init__(self, level: int, filters: int, components: int) -> None:
        super().__init__()
        self.level = level
        # Parents, their children as far as they are known, whether they are, and the place.
        seen = _FEATURES * (1 + len(CHILDREN)) + 1 + CELL_FEATURES
        self.trunk = nn.Sequential(nn.Conv3d(seen, filters, 3, padding=1), _Residual(filters), _Residual(filters))
        self.head = _CellHead(filters, len(CHILDREN), level, components)

    def passes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Of parents (x, y, z), the ranks [first, end) that each pass takes."""
        count = int(_ranks(shape).max()) + 1
        step = max(1, count // _FINEST_PASSES) if self.level == 0 else 1
        return [(first, first + step) for first in range(0, count, step)]

    def forward(self, parent: Level, level: Level, places: Tensor, turn: int, scale: Tensor) -> Tensor:
        """Mean -log p, 0-d, of voxels whose cells are still to come at the start of a pass: the turn's."""
        ranks = _ranks(parent.images.shape[1:])
        passes = self.passes(parent.images.shape[1:])
        first, _ = passes[turn % len(passes)]
        # Half of the cells, so that all turns cost the same: those to come next, or the last, of which some are known.
        half = (int(ranks.max()) + 1) // 2
        start = min(first, half)
        chosen = np.flatnonzero((ranks >= start) & (ranks < start + max(half, 1)))
        to_come = _indices(np.flatnonzero(ranks[chosen] >= first), parent)
        cells_of_turn = _indices(chosen, parent)
        children = Level(*map(split_children, level))
        with _suitable_format(parent.images):
            context = self._context(parent, children, places, ranks < first, scale)
            cells = Level(*(_cells_first(part)[:, cells_of_turn].flatten(0, 1) for part in children))
            parents = Level(*(part.flatten(1)[:, cells_of_turn].flatten() for part in parent))
            nll: Tensor = self.head(context[:, cells_of_turn].flatten(0, 1), parents, cells, scale)
        return nll.view(len(context), -1)[:, to_come].mean()

    def sample(self, parent: Level, places: Tensor, scale: Tensor, rng: torch.Generator) -> Level:
        """The level (B, 2x, 2y, 2z) under parents (B, x, y, z)."""
        shape = parent.images.shape
        ranks = _ranks(shape[1:])
        parents = Level(*(part.flatten(1) for part in parent))
        cells = Level(*(part.new_zeros(*part.shape, len(CHILDREN)) for part in parents))
        with _suitable_format(parent.images):
            for first, end in self.passes(shape[1:]):
                next_ones = _indices(np.flatnonzero((ranks >= first) & (ranks < end)), parent)
                children = Level(*(_cells_last(part, shape) for part in cells))
                context = self._context(parent, children, places, ranks < first, scale)[:, next_ones].flatten(0, 1)
                above, own = (
                    Level(*(part[:, next_ones].flatten(0, 1) for part in level)) for level in (parents, cells)
                )
                for part, drawn in zip(cells, self.head.sample(context, above, own, scale, rng), strict=True):
                    part[:, next_ones] = drawn.view(len(part), len(next_ones), -1)
        return Level(*(join_children(_cells_last(part, shape)) for part in cells))

    def _context(
        self, parent: Level, children: Level, places: Tensor, known: NDArray[np.bool_], scale: Tensor
    ) -> Tensor:
        """(B, cells, filters): what a cell's surroundings say of its children; `known` (cells,) have theirs."""
        size = parent.images.shape[1:]
        marked = torch.from_numpy(known.astype(np.float32)).to(parent.images.device)
        marked = marked.view(1, 1, *size).expand(len(parent.images), -1, *size)
        told = _described(children, self.level, scale).flatten(1, 2) * marked
        seen = [_described(parent, self.level + 1, scale), told, marked, cell_places(places, size)]
        hidden: Tensor = self.trunk(torch.cat(seen, dim=1).contiguous(memory_format=torch.channels_last_3d))
        return F.silu(hidden).permute(0, 2, 3, 4, 1).flatten(1, 3)


class _Coarsest(nn.Module):
    """p(coarsest cells): they are the children of one cell, of which nothing is known but its place."""

    def __init__(self, shape: Sequence[int], level: int, components: int) -> None:
        super().__init__()
        self.shape, self.level = tuple(shape), level
        self.placed = nn.Sequential(
            nn.Linear(PLACE, 2 * _PLACE_FEATURES), nn.SiLU(), nn.Linear(2 * _PLACE_FEATURES, _PLACE_FEATURES), nn.SiLU()
        )
        self.head = _CellHead(_PLACE_FEATURES, math.prod(shape), level, components)

    def forward(self, level: Level, places: Tensor, scale: Tensor) -> Tensor:
        """Mean -log p of the cells, 0-d."""
        cells = Level(*(part.flatten(1) for part in level))
        nll: Tensor = self.head(self.placed(places), None, cells, scale)
        return nll.mean()

    def sample(self, places: Tensor, scale: Tensor, rng: torch.Generator) -> Level:
        """The coarsest level (B, x, y, z) of these places (B, 7)."""
        images = scale.new_zeros(len(places), math.prod(self.shape))
        empty = Level(images, images.long())
        drawn = self.head.sample(self.placed(places), None, empty, scale, rng)
        return Level(*(part.view(len(places), *self.shape) for part in drawn))


class _CellHead(nn.Module):
    """The children of a cell one after another, each from the context and the children before it.

    For each child there are two networks with one hidden layer, whose weights are masked so that the class sees the
    children before it, and the intensity also the child's own class (Germain et al. 2015, MADE). They start from what
    the cell's mean leaves for the children that are still to come.
    """

    def __init__(self, context: int, children: int, level: int, components: int) -> None:
        super().__init__()
        self.level, self.number = level, children
        self.label = _Masked(context, children, label_classes(level), sees_own_class=False)
        self.intensity = _Masked(context, children, 3 * components, sees_own_class=True)
        with torch.no_grad():
            self.intensity.bias[:, components : 2 * components] = torch.linspace(-0.5, 0.5, components)
            self.intensity.bias[:, 2 * components :] = -1.0

    def forward(self, context: Tensor, parents: Level | None, cells: Level, scale: Tensor) -> Tensor:
        """Mean -log p (N,) of the children: context (N, C), parents (N,), cells (N, children)."""
        every, free = slice(0, self.number), slice(0, self._free(parents))
        logits = self._label_logits(context, parents, cells, every, scale)
        of_label = F.cross_entropy(logits.flatten(0, 1), cells.labels.flatten(), reduction="none")
        mixture = self._mixture(context, parents, cells, free, scale)
        return of_label.view(cells.labels.shape).mean(dim=1) + mixture_nll(mixture, cells.images[:, free]).mean(dim=1)

    def sample(
        self, context: Tensor, parents: Level | None, cells: Level, scale: Tensor, rng: torch.Generator
    ) -> Level:
        """Cells (N, children) with children drawn."""
        cells = Level(*(part.clone() for part in cells))
        for child in range(self.number):
            own = slice(child, child + 1)
            cells.labels[:, own] = category_sample(self._label_logits(context, parents, cells, own, scale), rng)
            if child < self._free(parents):
                cells.images[:, own] = mixture_sample(self._mixture(context, parents, cells, own, scale), rng)
            else:
                cells.images[:, own] = self._left(parents, cells, scale).images[:, own]
        return cells

    def _label_logits(
        self, context: Tensor, parents: Level | None, cells: Level, members: slice, scale: Tensor
    ) -> Tensor:
        """(N, members, classes)."""
        left = self._left(parents, cells, scale)
        read = _described(cells, self.level, scale)
        logits: Tensor = self.label(context, read, _left_read(left, scale), members)
        if parents is None:
            return logits
        return logits + possible_labels(parents.labels, cells.labels, left.labels, self.level)[:, members]

    def _mixture(self, context: Tensor, parents: Level | None, cells: Level, members: slice, scale: Tensor) -> Tensor:
        """(N, members, 3M)."""
        left = self._left(parents, cells, scale)
        outputs = self.intensity(context, _described(cells, self.level, scale), _left_read(left, scale), members)
        logits, means, log_scales = outputs.chunk(3, dim=-1)
        means = left.images[:, members, None] + scale[1] * means
        return torch.cat([logits, means, log_scales + torch.log(scale[1])], dim=-1)

    def _free(self, parents: Level | None) -> int:
        """How many children have an intensity of their own: of a cell with a mean, the last one has what is left."""
        return self.number - (parents is not None)

    def _left(self, parents: Level | None, cells: Level, scale: Tensor) -> Level:
        if parents is not None:
            return remaining(parents, cells, self.level)
        return Level(scale[0].expand(cells.images.shape), torch.zeros_like(cells.images))


class _Masked(nn.Module):
    """For each child c an own small network: (context, what is read of children up to c, what is left) -> outputs."""

    mask: Tensor

    def __init__(self, context: int, children: int, outputs: int, *, sees_own_class: bool) -> None:
        super().__init__()
        self.context = nn.Linear(context, children * _HIDDEN)
        self.read = nn.Parameter(torch.randn(_FEATURES * children, children, _HIDDEN) * 0.1)
        self.left = nn.Parameter(torch.randn(children, 2, _HIDDEN) * 0.3)
        self.weight = nn.Parameter(torch.randn(children, _HIDDEN, outputs) * 0.05)
        self.bias = nn.Parameter(torch.zeros(children, outputs))
        mask = torch.zeros(_FEATURES, children, children, 1)
        for child in range(children):
            mask[:, :child, child] = 1
            mask[1:, child, child] = float(sees_own_class)  # the first feature is the intensity
        self.register_buffer("mask", mask.flatten(0, 1), persistent=False)

    def forward(self, context: Tensor, read: Tensor, left: Tensor, members: slice) -> Tensor:
        """Context (N, C), read (N, 3, children), left (N, children, 2) -> outputs (N, members, outputs), float32."""
        rows = slice(members.start * _HIDDEN, members.stop * _HIDDEN)
        hidden = F.linear(context, self.context.weight[rows], self.context.bias[rows])
        hidden = hidden + read.flatten(1) @ (self.read * self.mask)[:, members].flatten(1)
        by_child = hidden.view(len(hidden), -1, _HIDDEN).transpose(0, 1)  # (members, N, hidden)
        by_child = F.silu(by_child + torch.bmm(left[:, members].transpose(0, 1), self.left[members]))
        outputs = torch.bmm(by_child, self.weight[members]).transpose(0, 1)
        return outputs.float() + self.bias[members]


class _Residual(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv3d(filters, filters, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.silu(self.first(F.silu(x))))
        return x + change


def _halvings(axis: int) -> int:
    return (axis & -axis).bit_length() - 1


def _described(level: Level, number: int, scale: Tensor) -> Tensor:
    """(N, 3, ...) for a network to read of (N, ...): intensity, class from -1 to 1, and whether there is any vessel."""
    classes = level.labels * (2 / (label_classes(number) - 1)) - 1
    return torch.stack([(level.images - scale[0]) / scale[1], classes, (level.labels > 0).float()], dim=1)


def _left_read(left: Level, scale: Tensor) -> Tensor:
    """(N, children, 2)."""
    return torch.stack([(left.images - scale[0]) / scale[1], left.labels], dim=-1)


@cache
def _ranks(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """(x y z,), not to be written to: when each cell of a grid gets its children, counted from 0 without gaps."""
    ranks = np.empty((2, 2, 2), dtype=np.intp)
    for rank, parity in enumerate(_ORDER):
        ranks[parity] = rank
    every = ranks[np.ix_(*(np.arange(n) % 2 for n in shape))].ravel()
    return np.unique(every, return_inverse=True)[1]


def _indices(chosen: NDArray[np.intp], level: Level) -> Tensor:
    return torch.from_numpy(chosen).to(level.images.device)


def _cells_first(children: Tensor) -> Tensor:
    """(B, children, x, y, z) -> (B, x y z, children)."""
    return children.flatten(2).movedim(1, 2)


def _cells_last(cells: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, x y z, children) -> (B, children, x, y, z), for parents of that shape."""
    return cells.movedim(2, 1).reshape(len(cells), -1, *shape[1:])


def _suitable_format(volumes: Tensor) -> torch.autocast:
    """Full float32 for grids that are one cell thin, which cost nothing: there oneDNN's bf16 convolutions give NaN."""
    device = volumes.device.type
    thin = min(volumes.shape[-3:]) == 1
    enabled = torch.is_autocast_enabled(device) and not thin
    dtype = torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)
