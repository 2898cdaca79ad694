"""Tensor memory and FLOPs of a training step, counted rather than sampled; also for sizes that do not fit here."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vesselgan.training import Precision, PrecisionName, WGANTrainer

__all__ = ["MEMORY_DEFINITION", "StepCost", "StepCounter", "Trainer", "predict_step", "state_tensors"]

MEMORY_DEFINITION = (
    "highest sum of live tensor bytes in one training step (weights, gradients, optimiser state, activations); "
    "without the library's own workspaces, the allocator's reserve and the process"
)


class Trainer(Protocol):
    """What makes the training steps that are counted or timed."""

    device: torch.device
    precision: Precision

    @property
    def networks(self) -> Sequence[nn.Module]:
        """What is trained."""

    def step(self, real: Tensor) -> object:
        """Make one on real pairs (B, 2, X, Y, Z)."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, the optimisers' state, and whatever else stays between steps."""


class StepCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations of products, and the bytes of all storages that are alive, with their peak.

    Storages that exist before need :meth:`watch`. A view shares its tensor's storage and is counted once. (PyTorch's
    own FlopCounterMode refuses the gradient penalty's `autograd.grad`, so its table of formulas is used directly.)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self.flops = 0
        self._known: set[int] = set()

    def watch(self, *tensors: Tensor) -> None:
        """Count the storages of these tensors from now until they die."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            name = id(storage)
            if name not in self._known:
                self._known.add(name)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, name, storage.nbytes())

    def _forget(self, name: int, nbytes: int) -> None:
        self._known.discard(name)
        self.live -= nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.native_batch_norm_backward.default:
            # On fake tensors it returns even what its mask does not ask for.
            outputs = tuple(output if wanted else None for output, wanted in zip(outputs, args[-1], strict=True))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=outputs)
        self.watch(*(leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)))
        return outputs


@dataclass(frozen=True)
class StepCost:
    """What a training step takes: floating-point operations, bytes of live tensors at the peak and between steps."""

    flops: int
    peak_bytes: int
    state_bytes: int


def predict_step(config: Any, make: Callable[[Any, str], Trainer] = WGANTrainer) -> StepCost:
    """Count one step of a training of any size without computing it, on fake tensors. An estimate of a GPU's memory.

    ``make(config, device)`` gives the trainer of a configuration, which has `precision`, `batch` and `patch_size`.
    """
    # Equal in bytes and products, and countable on a CPU: a GradScaler would have to read numbers that are not there.
    countable: dict[str, PrecisionName] = {"fp16": "bf16", "tf32": "fp32"}
    config = replace(config, precision=countable.get(config.precision, config.precision))
    with FakeTensorMode():
        trainer = make(config, "cpu")
        real = torch.empty(config.batch, 2, *config.patch_size)
        trainer.step(real)  # makes the optimisers' state
        with StepCounter() as counter:
            counter.watch(real, *state_tensors(trainer))
            state = counter.live
            trainer.step(real)
    return StepCost(counter.flops, counter.peak, state)


def state_tensors(trainer: Trainer) -> list[Tensor]:
    """Weights, buffers, gradients and optimiser state of a trainer."""
    parameters = [parameter for network in trainer.networks for parameter in network.parameters()]
    state = [leaf for leaf in tree_leaves(trainer.state_dict()) if isinstance(leaf, Tensor)]
    return state + [parameter.grad for parameter in parameters if parameter.grad is not None]
