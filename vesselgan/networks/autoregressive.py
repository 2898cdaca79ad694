"""A multiscale autoregressive generator of labelled patches: from a few coarse cells to voxels, level by level.

The probability of a patch is a product: of its coarsest cells one after another, and, at each finer level, of the eight
children of every cell given the level above (after Reed et al. 2017, Parallel multiscale autoregressive density
estimation). Each factor is a class of the label and then, given it, an intensity. So training is plain maximum
likelihood, in which every voxel of every patch teaches, and sampling takes two passes a level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks.logistic import category_sample, mixture_nll, mixture_sample
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

__all__ = ["AutoregressiveGenerator"]

_FEATURES = 3  # of a voxel, see `_described`
_HIDDEN = 32  # of each child's two small networks


class AutoregressiveGenerator(nn.Module):
    """p(coarsest cells) and, per level, p(children | parents); `filters` is the width of every level's network.

    The patch is halved until an axis is odd: 32 x 32 x 16 voxels have four levels above them, of which the last has 2 x
    2 x 1 cells. Raises InputError unless each axis of ``patch_size`` is a multiple of 16.
    """

    scale: Tensor

    def __init__(self, patch_size: Sequence[int], filters: int = 64, components: int = 3) -> None:
        super().__init__()
        self.patch_size = check_patch_size(patch_size)
        self.filters = filters
        self.components = components
        self.height = min(_halvings(axis) for axis in self.patch_size)
        self.turns = len(_GROUPS)
        coarsest = [axis >> self.height for axis in self.patch_size]
        self.coarsest = _Coarsest(coarsest, self.height, components)
        self.levels = nn.ModuleList(_Refinement(level, filters, components) for level in range(self.height))
        self.register_buffer("scale", torch.tensor([0.0, 1.0]))  # mean and SD of intensities, see calibrate()

    def calibrate(self, pairs: Tensor) -> None:
        """Take the mean and the SD of these pairs' intensities as the zero and the unit that the networks see."""
        sd, mean = torch.std_mean(pairs[:, 0].float())
        self.scale.copy_(torch.stack([mean, sd.clamp(min=1e-3)]))

    def nll(self, pairs: Tensor, turn: int, patches: Sequence[int]) -> list[Tensor]:
        """Mean -log p per voxel, in nats, of each level from the finest, and of the coarsest cells; 0-d each.

        Pairs are (B, 2, X, Y, Z), image in [-1, 1] and label (vessel above 0). A level predicts its groups of
        children in turns, here that of `turn`. It looks at the first ``patches[level]`` pairs only, for a coarse
        level costs little and teaches little.
        """
        levels = pyramid(pairs, self.height)
        terms = []
        for number, refinement in enumerate(self.levels):
            count = patches[number]
            level, parent = (Level(*(part[:count] for part in levels[number + up])) for up in (0, 1))
            terms.append(refinement(parent, level, turn % len(_GROUPS), self.scale))
        return [*terms, self.coarsest(levels[-1], self.scale)]

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Level:
        """Images (count, X, Y, Z) in [-1, 1] and their labels, 0 or 1."""
        level = self.coarsest.sample(count, self.scale, rng)
        for refinement in reversed(self.levels):
            assert isinstance(refinement, _Refinement)
            level = refinement.sample(level, self.scale, rng)
        return level


# Two passes a level: the second sees the children of the first in all cells. With four passes above the voxels each
# child learned from fewer examples, and vessels came in more pieces.
_GROUPS = (slice(0, 4), slice(4, 8))


class _Refinement(nn.Module):
    """p(level | the level above it)."""

    def __init__(self, level: int, filters: int, components: int) -> None:
        super().__init__()
        self.level = level
        # Parents, children of the first group, and which group is next.
        seen = _FEATURES * (1 + _GROUPS[-1].start) + len(_GROUPS)
        self.trunk = nn.Sequential(nn.Conv3d(seen, filters, 3, padding=1), _Residual(filters), _Residual(filters))
        self.head = _CellHead(filters, len(CHILDREN), level, components)

    def forward(self, parent: Level, level: Level, group: int, scale: Tensor) -> Tensor:
        """Mean -log p of the group's voxels, 0-d."""
        children = Level(*map(split_children, level))
        with _suitable_format(parent.images):
            context = self._context(parent, children, group, scale)
            cells = Level(*map(_cells_first, children))
            nll: Tensor = self.head(context, _cells(parent), cells, _GROUPS[group], scale)
        return nll

    def sample(self, parent: Level, scale: Tensor, rng: torch.Generator) -> Level:
        """The level (B, 2x, 2y, 2z) under parents (B, x, y, z)."""
        shape = (len(parent.images), len(CHILDREN), *parent.images.shape[1:])
        children = Level(parent.images.new_zeros(shape), parent.labels.new_zeros(shape))
        with _suitable_format(parent.images):
            for group, members in enumerate(_GROUPS):
                context = self._context(parent, children, group, scale)
                cells = Level(*map(_cells_first, children))
                drawn = self.head.sample(context, _cells(parent), cells, members, scale, rng)
                children = Level(*(_cells_last(part, shape) for part in drawn))
        return Level(*map(join_children, children))

    def _context(self, parent: Level, children: Level, group: int, scale: Tensor) -> Tensor:
        """(cells, filters): what a cell's surroundings say of its children of the group."""
        known = _described(Level(*(part[:, : _GROUPS[-1].start] for part in children)), self.level, scale)
        known[:, :, _GROUPS[group].start :] = 0
        turns = known.new_zeros(len(known), len(_GROUPS), *known.shape[3:])
        turns[:, group] = 1
        seen = torch.cat([_described(parent, self.level + 1, scale), known.flatten(1, 2), turns], dim=1)
        hidden: Tensor = self.trunk(seen.contiguous(memory_format=torch.channels_last_3d))
        return F.silu(hidden).permute(0, 2, 3, 4, 1).flatten(0, 3)


class _Coarsest(nn.Module):
    """p(coarsest cells): they are the children of one cell without surroundings, of which nothing is known."""

    def __init__(self, shape: Sequence[int], level: int, components: int) -> None:
        super().__init__()
        self.shape, self.level = tuple(shape), level
        self.head = _CellHead(1, math.prod(shape), level, components)

    def forward(self, level: Level, scale: Tensor) -> Tensor:
        """Mean -log p of the cells, 0-d."""
        cells = Level(*(part.flatten(1) for part in level))
        nll: Tensor = self.head(self._context(cells), None, cells, slice(0, math.prod(self.shape)), scale)
        return nll

    def sample(self, count: int, scale: Tensor, rng: torch.Generator) -> Level:
        """The coarsest level (count, x, y, z)."""
        images = scale.new_zeros(count, math.prod(self.shape))
        empty = Level(images, images.long())
        drawn = self.head.sample(self._context(empty), None, empty, slice(0, math.prod(self.shape)), scale, rng)
        return Level(*(part.view(count, *self.shape) for part in drawn))

    @staticmethod
    def _context(cells: Level) -> Tensor:
        return cells.images.new_zeros(len(cells.images), 1)


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

    def forward(self, context: Tensor, parents: Level | None, cells: Level, members: slice, scale: Tensor) -> Tensor:
        """Mean -log p of some children: context (N, C), parents (N,), cells (N, children)."""
        logits = self._label_logits(context, parents, cells, members, scale)
        of_label = F.cross_entropy(logits.flatten(0, 1), cells.labels[:, members].flatten())
        open_to = slice(members.start, min(members.stop, self._free(parents)))
        mixture = self._mixture(context, parents, cells, open_to, scale)
        return of_label + mixture_nll(mixture, cells.images[:, open_to]).mean()

    def sample(
        self,
        context: Tensor,
        parents: Level | None,
        cells: Level,
        members: slice,
        scale: Tensor,
        rng: torch.Generator,
    ) -> Level:
        """Cells (N, children) with these children drawn; the others stay."""
        cells = Level(*(part.clone() for part in cells))
        for child in range(members.start, members.stop):
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


def _cells(parent: Level) -> Level:
    """(B, x, y, z) -> (B x y z,)."""
    return Level(*(part.flatten() for part in parent))


def _cells_first(children: Tensor) -> Tensor:
    """(B, children, ..., x, y, z) -> (B x y z, children, ...)."""
    return children.movedim((-3, -2, -1), (1, 2, 3)).flatten(0, 3)


def _cells_last(cells: Tensor, shape: Sequence[int]) -> Tensor:
    """(B x y z, children) -> (B, children, x, y, z) of that shape."""
    return cells.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def _suitable_format(volumes: Tensor) -> torch.autocast:
    """Full float32 for grids that are one cell thin, which cost nothing: there oneDNN's bf16 convolutions give NaN."""
    device = volumes.device.type
    thin = min(volumes.shape[-3:]) == 1
    enabled = torch.is_autocast_enabled(device) and not thin
    dtype = torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)
