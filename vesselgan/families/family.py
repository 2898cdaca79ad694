"""What a kind of generator has to be able to do, so that the harness can train, keep, sample, check and forecast it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from vesselgan.recipe import Recipe
from vesselgan.settings import PrecisionName, from_options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vesselgan.data import VolumeStore
    from vesselgan.numerics import Operation
    from vesselgan.profiling.step_counter import StepCost, Trainer
    from vesselgan.synthesis import Pairs
    from vesselgan.training.reporting import OnStep

__all__ = ["GIVEN", "SHOWN", "Family", "Sampler", "Task", "Trained"]

C = TypeVar("C", bound="Settings")

GIVEN = ("patch_size", "precision", "seed")  # settings that a cell decides, and no section of a profile
OBSERVATIONS = 12  # spread over a training: at the paper's 100 epochs one in eight
SHOWN = 2  # pairs that are looked at each time


class Settings(Protocol):
    """What every family's configuration has: it is a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """In voxels."""

    @property
    def precision(self) -> PrecisionName:
        """The number format."""

    @property
    def batch(self) -> int:
        """Real pairs that a step is given."""

    @property
    def steps(self) -> int:
        """Of the training."""


class Sampler(Protocol):
    """A trained generator that makes pairs."""

    @property
    def network(self) -> "nn.Module":
        """What was trained, on its device; its `state_dict` is what is kept."""

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Of each pair, in voxels."""

    @property
    def precision(self) -> PrecisionName:
        """The number format that it was trained in, and computes in."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain values from which, with the weights, `Family.load` makes it again; `precision` is one of them."""

    def sample(self, count: int, *, seed: int, batch: int, start: int = 0) -> "Iterator[Pairs]":
        """Yield `count` labelled pairs in batches, the same for the same seed, batch and machine.

        With `start`, a multiple of `batch`, only those from there on: they are the same as without it. Several threads
        may call it at a time.
        """


@dataclass(frozen=True)
class Task:
    """What a training is given beside its settings: the real pairs, and whom to tell what."""

    store: "VolumeStore"
    recipe: Recipe
    device: str
    checkpoint: Path | None = None
    on_step: "OnStep" = lambda step, readings: None  # called with every step, counted from 0, and its readings
    # Called some OBSERVATIONS times with the steps done and SHOWN pairs, always made of the same random numbers.
    observe: "Callable[[int, Pairs], None]" = lambda steps_done, pairs: None
    # Called after these steps with the steps done and the generator as it is then; it goes on to be trained.
    keep: "Callable[[int, Sampler], None]" = lambda steps_done, sampler: None
    keep_after: Collection[int] = ()

    def look_after(self, steps: int) -> Collection[int]:
        """After which of so many steps `observe` is called: the first, some that are spread evenly, and the last."""
        every = max(1, steps // OBSERVATIONS)
        return {1, *range(every, steps + 1, every), steps}


class Trained(NamedTuple):
    """What comes of a training, and what else is to be told of it, in plain values."""

    sampler: Sampler
    facts: Mapping[str, Any]


class Family(ABC, Generic[C]):
    """A kind of generator. Its `Config` is a frozen dataclass with `batch`, `steps` and what is GIVEN among its fields.

    The section of its name in a profile has all but the latter. `options` are a configuration in plain values, as the
    specification of a stage has it.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # for people, in the singular
    reference: ClassVar[str]
    given: ClassVar[str] = ""  # what it has and does that the paper's generators do not, as a predicate
    Config: ClassVar[type[Any]]
    version: ClassVar[int] = 1  # in the keys of its stages: raised when its code changes what it computes
    recipe: ClassVar[Sequence[str]] = ()  # the deviations that its training reads
    sampling_recipe: ClassVar[Sequence[str]] = ()
    shapeless: ClassVar[Sequence[str]] = ("steps", "seed")  # settings that change no shape of what is computed
    stored_patches: ClassVar[bool] = False  # whether it learns from the patches of the store; others cut their own
    readings: ClassVar[Mapping[str, tuple[str, str]]] = {}  # of its steps: title and axis of a chart

    @abstractmethod
    def train(self, config: C, task: Task) -> Trained:
        """Train to the last step, from the checkpoint if that file exists: then the outcome is as without a stop.

        Raises RuntimeError, with reason and remedy, where it goes wrong.
        """

    @abstractmethod
    def load(self, facts: Mapping[str, Any], weights: "Mapping[str, Tensor]", recipe: Recipe) -> Sampler:
        """The sampler that had these facts and weights, on the CPU; `recipe` is for the deviations of its sampling."""

    @abstractmethod
    def trainer(self, config: C, device: str) -> "Trainer":
        """What makes single steps, to be counted and timed."""

    def configure(self, options: Mapping[str, Any], recipe: Recipe, patches: int) -> C:
        """The configuration of these options; the store has so many patches for training."""
        config: C = from_options(self.Config, options)
        return config

    def probe(self, precision: PrecisionName) -> C:
        """A small training whose step takes a moment on two cores, and whose speed is that of larger ones."""
        config: C = self.Config(patch_size=(32, 32, 16), steps=1, seed=0, precision=precision)
        return config

    def sized(self, config: C) -> C:
        """A training of one step; equal for all whose steps cost the same."""
        usual = {field.name: field.default for field in fields(self.Config) if field.name in self.shapeless}
        return replace(config, **{**usual, "steps": 1, "seed": 0})

    def step_cost(self, config: C) -> "StepCost":
        """What a training step takes, counted on fake tensors."""
        from vesselgan.profiling.step_counter import predict_step

        return predict_step(config, self.trainer)

    def shape_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the options that decide what a step costs, and which operations it calls."""
        return {name: value for name, value in options.items() if name not in self.shapeless}

    def operations(self, config: C, device: str, synthesis_batch: int) -> "list[Operation]":
        """Every operation of training, and of making so many pairs at a time."""
        from vesselgan.numerics import recorded_operations

        return recorded_operations(config, lambda recorded: self.exercise(recorded, device, synthesis_batch))

    def exercise(self, config: C, device: str, synthesis_batch: int) -> None:
        """Make a step, and so many pairs at a time: everything that is computed later, once."""
        import torch

        real = torch.zeros(config.batch, 2, *config.patch_size)
        self.trainer(config, device).step(real)
