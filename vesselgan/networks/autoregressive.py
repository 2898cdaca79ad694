"""A multiscale autoregressive generator of labelled patches: from a few coarse cells to voxels, level by level.

The probability of a patch is a product: of its coarsest cells one after another, and, at each finer level, of the eight
children of every cell given the level above (after Reed et al. 2017, Parallel multiscale autoregressive density
estimation). Each factor is a class of the label and then, given it, an intensity. So training is plain maximum
likelihood, in which every voxel of every patch teaches, and sampling takes a few passes a level, each over cells that
have no face in common, given all children of the passes before. All of it is given where the patch lies in its volume
(`vesselgan.networks.places`) and what training heads have there on average (`vesselgan.networks.atlas`): without that
the coarse levels learn heads slowly.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks.atlas import ATLAS_FEATURES, ATLAS_SHAPE, atlas_at, atlas_intensities
from vesselgan.networks.cell_head import FEATURES, CellHead, described
from vesselgan.networks.places import CELL_FEATURES, PLACE, cell_places
from vesselgan.networks.pyramid import (
    CHILDREN,
    Level,
    join_children,
    pyramid,
    split_children,
)
from vesselgan.networks.sizes import check_patch_size

__all__ = ["PLACES", "AutoregressiveGenerator"]

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
    atlas: Tensor

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
        self.register_buffer("atlas", torch.zeros(ATLAS_FEATURES, *ATLAS_SHAPE))

    def calibrate(self, pairs: Tensor, places: Tensor, atlas: Tensor) -> None:
        """Take the mean and the SD of these pairs' intensities as the zero and the unit that the networks see.

        Samples get the places (N, 7) of these pairs, each as often as the others, and all see this `atlas_of`.
        """
        images = pairs[:, 0].float()
        sound = images[images.isfinite().flatten(1).all(dim=1)]  # one that is not would make the whole training garbage
        if len(sound):
            sd, mean = torch.std_mean(sound)
            self.scale.copy_(torch.stack([mean, sd.clamp(min=1e-3)]))
        self.places.copy_(places[torch.arange(PLACES) % len(places)])
        self.atlas.copy_(atlas)

    def matrices(self) -> list[Tensor]:
        """The weights of layers that are products of matrices, most of all; what reads single cells is none of them."""
        layers = (module for module in self.modules() if isinstance(module, nn.Conv3d | nn.Linear))
        return [layer.weight for layer in layers]

    def nll(self, pairs: Tensor, places: Tensor, turn: int, patches: Sequence[int]) -> list[Tensor]:
        """Mean -log p per voxel, in nats, of each level from the finest, and of the coarsest cells; 0-d each.

        Pairs are (B, 2, X, Y, Z), image in [-1, 1] and label (vessel above 0), places (B, 7). A level learns one of its
        passes at a time, here that of `turn`. It looks at the first ``patches[level]`` pairs only, for a coarse level
        costs little and teaches little.
        """
        levels = pyramid(pairs, self.height)
        means = self._means(places)
        terms = []
        for number, refinement in enumerate(self.levels):
            count = patches[number]
            level, parent = (Level(*(part[:count] for part in levels[number + up])) for up in (0, 1))
            terms.append(refinement(parent, level, places[:count], means[number][:count], turn, self.scale))
        return [*terms, self.coarsest(levels[-1], places, means[-1], self.scale)]

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Level:
        """Images (count, X, Y, Z) in [-1, 1] and their labels, 0 or 1, of places as training patches have them."""
        drawn = torch.randint(len(self.places), (count,), generator=rng)
        places = self.places[drawn.to(self.places.device)]
        means = self._means(places)
        level = self.coarsest.sample(places, means[-1], self.scale, rng)
        for refinement in reversed(self.levels):
            assert isinstance(refinement, _Refinement)
            level = refinement.sample(level, places, means[refinement.level], self.scale, rng)
        return level

    def _means(self, places: Tensor) -> list[Tensor]:
        """(B, 3, ...): the atlas at the cells of every level, but that for the finest it is coarser by one."""
        with torch.autocast(places.device.type, enabled=False):
            means = [atlas_at(self.atlas, places, [axis // 2 for axis in self.patch_size])]
            for _ in range(self.height - 1):
                means.append(F.avg_pool3d(means[-1], 2))
        return [means[0], *means]


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
        # Parents, their children as far as they are known, whether they are, the place, and the atlas.
        seen = FEATURES * (1 + len(CHILDREN)) + 1 + CELL_FEATURES + ATLAS_FEATURES * (len(CHILDREN) if level else 1)
        self.trunk = nn.Sequential(nn.Conv3d(seen, filters, 3, padding=1), _Residual(filters), _Residual(filters))
        self.head = CellHead(filters, len(CHILDREN), level, components)

    def passes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Of parents (x, y, z), the ranks [first, end) that each pass takes."""
        count = int(_ranks(shape).max()) + 1
        step = max(1, count // _FINEST_PASSES) if self.level == 0 else 1
        return [(first, first + step) for first in range(0, count, step)]

    def forward(self, parent: Level, level: Level, places: Tensor, means: Tensor, turn: int, scale: Tensor) -> Tensor:
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
            context = self._context(parent, children, places, means, ranks < first, scale)
            cells = Level(*(_cells_first(part)[:, cells_of_turn].flatten(0, 1) for part in children))
            parents = Level(*(part.flatten(1)[:, cells_of_turn].flatten() for part in parent))
            expected = self._expected(parent, means)[:, cells_of_turn].flatten(0, 1)
            nll: Tensor = self.head(context[:, cells_of_turn].flatten(0, 1), parents, cells, expected, scale)
        return nll.view(len(context), -1)[:, to_come].mean()

    def sample(self, parent: Level, places: Tensor, means: Tensor, scale: Tensor, rng: torch.Generator) -> Level:
        """The level (B, 2x, 2y, 2z) under parents (B, x, y, z)."""
        shape = parent.images.shape
        ranks = _ranks(shape[1:])
        parents = Level(*(part.flatten(1) for part in parent))
        cells = Level(*(part.new_zeros(*part.shape, len(CHILDREN)) for part in parents))
        expected = self._expected(parent, means)
        with _suitable_format(parent.images):
            for first, end in self.passes(shape[1:]):
                next_ones = _indices(np.flatnonzero((ranks >= first) & (ranks < end)), parent)
                children = Level(*(_cells_last(part, shape) for part in cells))
                context = self._context(parent, children, places, means, ranks < first, scale)
                above, own = (
                    Level(*(part[:, next_ones].flatten(0, 1) for part in level)) for level in (parents, cells)
                )
                told, likely = (part[:, next_ones].flatten(0, 1) for part in (context, expected))
                for part, drawn in zip(cells, self.head.sample(told, above, own, likely, scale, rng), strict=True):
                    part[:, next_ones] = drawn.view(len(part), len(next_ones), -1)
        return Level(*(join_children(_cells_last(part, shape)) for part in cells))

    def _expected(self, parent: Level, means: Tensor) -> Tensor:
        """(B, cells, children): intensities that differ as those of the atlas do; on the finest level all are alike."""
        if self.level == 0:
            return means.new_zeros(len(means), parent.images[0].numel(), len(CHILDREN))
        return _cells_first(split_children(atlas_intensities(means)))

    def _context(
        self, parent: Level, children: Level, places: Tensor, means: Tensor, known: NDArray[np.bool_], scale: Tensor
    ) -> Tensor:
        """(B, cells, filters): what a cell's surroundings say of its children; `known` (cells,) have theirs."""
        size = parent.images.shape[1:]
        marked = torch.from_numpy(known.astype(np.float32)).to(parent.images.device)
        marked = marked.view(1, 1, *size).expand(len(parent.images), -1, *size)
        told = described(children, self.level, scale).flatten(1, 2) * marked
        usual = split_children(means.flatten(0, 1)).view(len(means), -1, *size) if self.level else means
        seen = [described(parent, self.level + 1, scale), told, marked, cell_places(places, size), usual]
        hidden: Tensor = self.trunk(torch.cat(seen, dim=1).contiguous(memory_format=torch.channels_last_3d))
        return F.silu(hidden).permute(0, 2, 3, 4, 1).flatten(1, 3)


class _Coarsest(nn.Module):
    """p(coarsest cells): they are the children of one cell, of which nothing is known but its place and the atlas."""

    def __init__(self, shape: Sequence[int], level: int, components: int) -> None:
        super().__init__()
        self.shape, self.level = tuple(shape), level
        self.placed = nn.Sequential(
            nn.Linear(PLACE + ATLAS_FEATURES * math.prod(shape), 2 * _PLACE_FEATURES),
            nn.SiLU(),
            nn.Linear(2 * _PLACE_FEATURES, _PLACE_FEATURES),
            nn.SiLU(),
        )
        self.head = CellHead(_PLACE_FEATURES, math.prod(shape), level, components)

    def forward(self, level: Level, places: Tensor, means: Tensor, scale: Tensor) -> Tensor:
        """Mean -log p of the cells, 0-d."""
        cells = Level(*(part.flatten(1) for part in level))
        nll: Tensor = self.head(self._context(places, means), None, cells, atlas_intensities(means).flatten(1), scale)
        return nll.mean()

    def sample(self, places: Tensor, means: Tensor, scale: Tensor, rng: torch.Generator) -> Level:
        """The coarsest level (B, x, y, z) of these places (B, 7)."""
        images = scale.new_zeros(len(places), math.prod(self.shape))
        empty = Level(images, images.long())
        expected = atlas_intensities(means).flatten(1)
        drawn = self.head.sample(self._context(places, means), None, empty, expected, scale, rng)
        return Level(*(part.view(len(places), *self.shape) for part in drawn))

    def _context(self, places: Tensor, means: Tensor) -> Tensor:
        placed: Tensor = self.placed(torch.cat([places, means.flatten(1)], dim=1))
        return placed


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
