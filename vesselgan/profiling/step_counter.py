"""Tensor memory and FLOPs of a training step, counted rather than sampled; also for sizes that do not fit here."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from itertools import count
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vesselgan.training import Precision, UNetConfig, UNetTrainer, WGANTrainer
from vesselgan.training.counting import countable, tensors_to_count

__all__ = [
    "MEMORY_DEFINITION",
    "StepCost",
    "StepCounter",
    "StepMemory",
    "Trainer",
    "predict_step",
    "predict_unet_step",
    "state_tensors",
    "watched_step",
]

MEMORY_DEFINITION = (
    "highest sum of live tensor bytes in one training step (weights, gradients, optimiser state, activations); "
    "without the library's own workspaces, the allocator's reserve and the process"
)

Kind = Literal["parameters", "gradients", "optimiser"]


class Stateful(Protocol):
    """What has networks, and keeps something between the steps that it trains them with."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """What is trained."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, the optimisers' state, and whatever else stays between steps."""


class Trainer(Stateful, Protocol):
    """What makes the training steps that are counted or timed."""

    device: torch.device
    precision: Precision

    def step(self, real: Tensor) -> object:
        """Make one on real pairs (B, 2, X, Y, Z)."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of the tensors that are alive at the peak of a training step, by what they are.

    ``parameters`` are weights and buffers. ``gradients`` are those that an optimiser was given later in the step.
    ``optimiser`` is its moments, and averages of weights. ``activations`` is everything else: what the backward needs,
    the patches, copies in another number format, results on their way.
    """

    parameters: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        """The peak."""
        return sum(astuple(self))


class StepCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations of products, and the bytes of all storages that are alive, with their peak.

    Storages that exist before need :meth:`watch`. A view shares its tensor's storage and is counted once. (PyTorch's
    own FlopCounterMode refuses the gradient penalty's `autograd.grad`, so its table of formulas is used directly.)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self.state = 0  # alive before the step, where `watched_step` made it
        self.flops = 0
        # Storages are numbered, since Python gives an id again.
        self._numbers, self._known = count(), dict[int, int]()
        self._bytes: dict[int, int] = {}
        self._at_peak: dict[int, int] = {}
        self._kinds: dict[int, Kind] = {}

    def watch(self, *tensors: Tensor, kind: Kind | None = None) -> None:
        """Count the storages of these tensors from now until they die; `kind` says what they are, also later."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            name, nbytes = id(storage), storage.nbytes()
            if name not in self._known:
                self._known[name] = number = next(self._numbers)
                self._bytes[number] = nbytes
                self.live += nbytes
                if self.live > self.peak:
                    self.peak, self._at_peak = self.live, self._bytes.copy()
                weakref.finalize(storage, self._forget, name, nbytes)
            if kind:
                self._kinds[self._known[name]] = kind

    def memory(self) -> StepMemory:
        """What was alive at the peak. Gradients are told apart where `gradients_told` was around the step."""
        sums = {"parameters": 0, "gradients": 0, "optimiser": 0, "activations": 0}
        for number, nbytes in self._at_peak.items():
            sums[self._kinds.get(number, "activations")] += nbytes
        return StepMemory(**sums)

    @contextmanager
    def gradients_told(self) -> Iterator[None]:
        """Take what optimisers are given for gradients, whenever it was made."""

        def tell(optimiser: torch.optim.Optimizer, *_: Any) -> None:
            weights = (weight for group in optimiser.param_groups for weight in group["params"])
            self.watch(*(weight.grad for weight in weights if weight.grad is not None), kind="gradients")

        handle = register_optimizer_step_pre_hook(tell)
        try:
            yield
        finally:
            handle.remove()

    def _forget(self, name: int, nbytes: int) -> None:
        del self._bytes[self._known.pop(name)]
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
    """What a training step takes: weights, operations, bytes of tensors at its peak and between steps."""

    parameters: int
    flops: int
    memory: StepMemory
    state_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Live tensors at the peak."""
        return self.memory.total


def predict_step(config: Any, make: Callable[[Any, str], Trainer] = WGANTrainer) -> StepCost:
    """Count one step of a training of any size, a large one without computing it. An estimate of a GPU's memory.

    ``make(config, device)`` gives the trainer of a configuration, which has `precision`, `batch` and `patch_size`.
    """
    config = replace(config, precision=countable(config.precision))
    with tensors_to_count(config.batch, config.patch_size, getattr(config, "filters", None)):
        trainer, real = make(config, "cpu"), torch.zeros(config.batch, 2, *config.patch_size)
        if isinstance(trainer, WGANTrainer) and not config.plain:  # whose steps leave no gradient behind
            trainer.begin()
            return _counted(trainer, trainer.step, real)
        return _predicted(trainer, trainer.step, real)


def predict_unet_step(config: UNetConfig, patch_size: Sequence[int]) -> StepCost:
    """The same for a step of a U-Net on patches (X, Y, Z)."""
    with FakeTensorMode():
        trainer = UNetTrainer(replace(config, precision=countable(config.precision)), "cpu")
        images, labels = torch.empty(2, config.batch, 1, *patch_size).unbind()
        return _predicted(trainer, trainer.step, images.clone(), labels.clone())


def watched_step(trainer: Stateful, step: Callable[..., object], *inputs: Tensor) -> StepCounter:
    """Call `step(*inputs)`, which is not the first step of the trainer, and count it."""
    counter = StepCounter()
    with counter, counter.gradients_told():
        counter.watch(*inputs)
        weights = [tensor for network in trainer.networks for tensor in (*network.parameters(), *network.buffers())]
        counter.watch(*weights, kind="parameters")
        state = state_tensors(trainer)
        given = {id(tensor.untyped_storage()) for tensor in weights}
        counter.watch(*(one for one in state if id(one.untyped_storage()) not in given), kind="optimiser")
        gradients = (weight.grad for weight in weights)
        counter.watch(*(gradient for gradient in gradients if gradient is not None), kind="gradients")
        counter.state = counter.live
        step(*inputs)
    return counter


def state_tensors(trainer: Stateful) -> list[Tensor]:
    """Weights, buffers, gradients and optimiser state of a trainer."""
    parameters = [parameter for network in trainer.networks for parameter in network.parameters()]
    state = [leaf for leaf in tree_leaves(trainer.state_dict()) if isinstance(leaf, Tensor)]
    return state + [parameter.grad for parameter in parameters if parameter.grad is not None]


def _predicted(trainer: Stateful, step: Callable[..., object], *inputs: Tensor) -> StepCost:
    step(*inputs)  # makes the optimisers' state
    return _counted(trainer, step, *inputs)


def _counted(trainer: Stateful, step: Callable[..., object], *inputs: Tensor) -> StepCost:
    counter = watched_step(trainer, step, *inputs)
    parameters = sum(weight.numel() for network in trainer.networks for weight in network.parameters())
    return StepCost(parameters, counter.flops, counter.memory(), counter.state)
