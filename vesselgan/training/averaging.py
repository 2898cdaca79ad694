"""A running average of a network's weights, which often generates better than the last of them."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """Exponential moving average of a network's weights and running statistics (Yaz et al. 2019).

    After n updates the weight of the past is min(decay, (1 + n) / (10 + n)): the starting weights, which mean nothing,
    are forgotten fast, also in a training that is short against 1 / (1 - decay).
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        # Tensors are cloned and not left to deepcopy, which cannot copy fake ones: those of a prediction.
        clones: dict[int, Any] = {id(buffer): buffer.clone() for buffer in network.buffers()}
        clones |= {id(weight): nn.Parameter(weight.detach().clone(), False) for weight in network.parameters()}
        self._average = copy.deepcopy(network, clones)
        self._updates = torch.zeros((), dtype=torch.int64, device=next(network.parameters()).device)

    @torch.no_grad()
    def update(self, network: nn.Module, held: Tensor | None = None) -> None:
        """Move towards the network's present weights; counters (such as BatchNorm's) are copied.

        Where ``held``, a 0-d bool, is true, the average stays as it is.
        """
        moves = torch.ones_like(self._updates) if held is None else (~held).long()
        self._updates += moves
        count = self._updates.double()
        share = moves * (1 - ((1 + count) / (10 + count)).clamp(max=self.decay))
        mine, theirs = _tensors(self._average), _tensors(network)
        moving = [index for index, tensor in enumerate(theirs) if tensor.is_floating_point()]
        # The share is a tensor, so that nobody waits for a GPU to tell it.
        shares = [share.float()] * len(moving)
        torch._foreach_lerp_([mine[index] for index in moving], [theirs[index] for index in moving], shares)
        for own, other in zip(mine, theirs, strict=True):
            if not other.is_floating_point():
                own.copy_(torch.where(moves.bool(), other, own))

    def network(self) -> Network:
        """The network with averaged weights: the one that is kept here, so use it and leave it as it is."""
        return self._average

    def state_dict(self) -> dict[str, Any]:
        """What changes."""
        return {"updates": self._updates, "weights": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self._updates.fill_(state["updates"])  # a plain number in checkpoints of earlier versions
        self._average.load_state_dict(state["weights"])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
