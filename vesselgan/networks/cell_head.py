"""The children of a cell of a multiscale autoregressive generator: a class of the label each, and an intensity."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks.logistic import category_sample, mixture_nll, mixture_sample
from vesselgan.networks.pyramid import Level, label_classes, possible_labels, remaining

__all__ = ["FEATURES", "CellHead", "described"]

FEATURES = 3  # of a cell, see `described`
_HIDDEN = 32  # of each child's two small networks


class CellHead(nn.Module):
    """The children of a cell one after another, each from the context and the children before it.

    For each child there are two networks with one hidden layer, whose weights are masked so that the class sees the
    children before it, and the intensity also the child's own class (Germain et al. 2015, MADE). They start from what
    the cell's mean leaves for the children that are still to come, and from how these differ in the usual head.
    """

    def __init__(self, context: int, children: int, level: int, components: int) -> None:
        super().__init__()
        self.level, self.number = level, children
        self.label = _Masked(context, children, label_classes(level), sees_own_class=False)
        self.intensity = _Masked(context, children, 3 * components, sees_own_class=True)
        with torch.no_grad():
            self.intensity.bias[:, components : 2 * components] = torch.linspace(-0.5, 0.5, components)
            self.intensity.bias[:, 2 * components :] = -1.0

    def forward(self, context: Tensor, parents: Level | None, cells: Level, expected: Tensor, scale: Tensor) -> Tensor:
        """Mean -log p (N,) of the children: context (N, C), parents (N,), cells (N, children).

        `expected` (N, children) are their usual intensities; of cells that have parents, only the differences count.
        """
        every, free = slice(0, self.number), slice(0, self._free(parents))
        left = self._left(parents, cells, self._usual(expected), every)
        read, told = described(cells, self.level, scale), _left_read(left, scale)
        logits = self._possible(self.label(context, read, told, every), parents, cells, left, every)
        of_label = F.cross_entropy(logits.flatten(0, 1), cells.labels.flatten(), reduction="none")
        mixture = _mixture(self.intensity(context, read, told[:, free], free), left.images[:, free], scale)
        return of_label.view(cells.labels.shape).mean(dim=1) + mixture_nll(mixture, cells.images[:, free]).mean(dim=1)

    def sample(
        self,
        context: Tensor,
        parents: Level | None,
        cells: Level,
        expected: Tensor,
        scale: Tensor,
        rng: torch.Generator,
    ) -> Level:
        """Cells (N, children) with children drawn."""
        cells = Level(*(part.clone() for part in cells))
        read, usual = described(cells, self.level, scale), self._usual(expected)
        for child in range(self.number):
            own = slice(child, child + 1)
            one = Level(*(part[:, own] for part in cells))
            left = self._left(parents, cells, usual, own)  # for a child by those before it alone
            told = _left_read(left, scale)
            logits = self._possible(self.label(context, read, told, own), parents, cells, left, own)
            one.labels.copy_(category_sample(logits, rng))
            read[:, :, own] = described(one, self.level, scale)
            if child < self._free(parents):
                outputs = self.intensity(context, read, told, own)
                one.images.copy_(mixture_sample(_mixture(outputs, left.images, scale), rng))
            else:
                one.images.copy_(left.images)
            read[:, :, own] = described(one, self.level, scale)
        return cells

    def _possible(self, logits: Tensor, parents: Level | None, cells: Level, left: Level, members: slice) -> Tensor:
        """(N, members, classes): the logits, as far as a cell's class allows."""
        if parents is None:
            return logits
        return logits + possible_labels(parents.labels, cells.labels, left.labels, self.level, members)

    def _free(self, parents: Level | None) -> int:
        """How many children have an intensity of their own: of a cell with a mean, the last one has what is left."""
        return self.number - (parents is not None)

    def _usual(self, expected: Tensor) -> tuple[Tensor, Tensor]:
        """The usual intensities (N, children), and their means over a child and those after it."""
        to_come = torch.arange(self.number, 0, -1, device=expected.device)
        return expected, expected.flip(1).cumsum(dim=1).flip(1) / to_come

    def _left(self, parents: Level | None, cells: Level, usual: tuple[Tensor, Tensor], members: slice) -> Level:
        """What children are likely to have, given those before each; of coarsest cells no label is known."""
        expected, mean = (part[:, members] for part in usual)
        if parents is None:
            return Level(expected, torch.zeros_like(expected))
        left = remaining(parents, cells, self.level, members)
        return Level((left.images + expected - mean).clamp(-1, 1), left.labels)


def _mixture(outputs: Tensor, likely: Tensor, scale: Tensor) -> Tensor:
    """(N, members, 3M): what a network says of intensities, about those that are `likely` (N, members)."""
    logits, means, log_scales = outputs.chunk(3, dim=-1)
    return torch.cat([logits, likely[..., None] + scale[1] * means, log_scales + torch.log(scale[1])], dim=-1)


class _Masked(nn.Module):
    """For each child c an own small network: (context, what is read of children up to c, what is left) -> outputs."""

    mask: Tensor

    def __init__(self, context: int, children: int, outputs: int, *, sees_own_class: bool) -> None:
        super().__init__()
        self.context = nn.Linear(context, children * _HIDDEN)
        self.read = nn.Parameter(torch.randn(FEATURES * children, children, _HIDDEN) * 0.1)
        self.left = nn.Parameter(torch.randn(children, 2, _HIDDEN) * 0.3)
        self.weight = nn.Parameter(torch.randn(children, _HIDDEN, outputs) * 0.05)
        self.bias = nn.Parameter(torch.zeros(children, outputs))
        mask = torch.zeros(FEATURES, children, children, 1)
        for child in range(children):
            mask[:, :child, child] = 1
            mask[1:, child, child] = float(sees_own_class)  # the first feature is the intensity
        self.register_buffer("mask", mask.flatten(0, 1), persistent=False)

    def forward(self, context: Tensor, read: Tensor, left: Tensor, members: slice) -> Tensor:
        """Context (N, C), read (N, 3, children), left (N, members, 2) -> outputs (N, members, outputs), float32."""
        rows = slice(members.start * _HIDDEN, members.stop * _HIDDEN)
        hidden = F.linear(context, self.context.weight[rows], self.context.bias[rows])
        hidden = hidden + read.flatten(1) @ (self.read * self.mask)[:, members].flatten(1)
        by_child = hidden.view(len(hidden), -1, _HIDDEN).transpose(0, 1)  # (members, N, hidden)
        by_child = F.silu(by_child + torch.bmm(left.transpose(0, 1), self.left[members]))
        outputs = torch.bmm(by_child, self.weight[members]).transpose(0, 1)
        return outputs.float() + self.bias[members]


def described(level: Level, number: int, scale: Tensor) -> Tensor:
    """(N, 3, ...) for a network to read of (N, ...): intensity, class from -1 to 1, and whether there is any vessel."""
    classes = level.labels * (2 / (label_classes(number) - 1)) - 1
    return torch.stack([(level.images - scale[0]) / scale[1], classes, (level.labels > 0).float()], dim=1)


def _left_read(left: Level, scale: Tensor) -> Tensor:
    """(N, children, 2)."""
    return torch.stack([(left.images - scale[0]) / scale[1], left.labels], dim=-1)
