"""What critic and generator minimise against each other: a class for each loss, by its name in `LOSSES`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor

from vesselgan.errors import InputError, did_you_mean
from vesselgan.recipe import Recipe
from vesselgan.settings import WGANConfig
from vesselgan.training.losses import Network, Reduction, Reductions, critic_loss, generator_loss

__all__ = ["LOSSES", "AdversarialLoss", "Draw", "Terms", "Wasserstein", "make_loss", "own_options"]

# Uniform numbers in [0, 1) of a shape, on the device. Equal roles of one pass give equal numbers.
Draw = Callable[[str, Sequence[int]], Tensor]


class Terms(NamedTuple):
    """What a network minimises, and what else is logged of the step; 0-d each."""

    loss: Tensor
    readings: Mapping[str, Tensor]


class AdversarialLoss(ABC):
    """A loss is a frozen dataclass, whose fields are its settings.

    A field gets its value from the training's setting, or the recipe's deviation, of its name. One that neither has is
    an option of the loss alone: in a protocol, `losses: {NAME: {OPTION: value}}`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # a subclass is one

    name: ClassVar[str]
    # The names of what `critic` and `generator` read, in their order. The guard judges these numbers as it does losses.
    critic_readings: ClassVar[Sequence[str]] = ()
    generator_readings: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def critic(self, critic: Network, real: Tensor, fake: Tensor, draw: Draw) -> Terms:
        """Of pairs (B, 2, X, Y, Z). `fake` has a graph to the generator only in the paper's code (D3)."""

    @abstractmethod
    def generator(self, critic: Network, fake: Tensor, real: Callable[[], Tensor]) -> Terms:
        """Of generated pairs; `real()` gives those that the critic saw, which costs memory if they are asked for."""


@dataclass(frozen=True, kw_only=True)
class Wasserstein(AdversarialLoss):
    """The paper's: the Wasserstein distance, with a penalty of the critic's gradient (Gulrajani et al. 2017)."""

    name = "wasserstein"
    critic_readings = ("wasserstein", "penalty")

    penalty_weight: float
    penalty_norm: Reduction
    epsilon: Literal["batch", "sample"]
    reductions: Reductions
    inner_scale: float

    def critic(self, critic: Network, real: Tensor, fake: Tensor, draw: Draw) -> Terms:
        """See `critic_loss`; the interpolation weight is drawn for the batch or for each sample (D2)."""
        terms = critic_loss(
            critic,
            real,
            fake,
            draw("epsilon", () if self.epsilon == "batch" else (len(real), 1, 1, 1, 1)),
            weight=self.penalty_weight,
            penalty_norm=self.penalty_norm,
            reductions=self.reductions,
            inner_scale=self.inner_scale,
        )
        return Terms(terms.loss, {"wasserstein": terms.wasserstein, "penalty": terms.penalty})

    def generator(self, critic: Network, fake: Tensor, real: Callable[[], Tensor]) -> Terms:
        """See `generator_loss`."""
        return Terms(generator_loss(critic, fake, reductions=self.reductions), {})


LOSSES: dict[str, type[AdversarialLoss]] = {Wasserstein.name: Wasserstein}


def make_loss(config: WGANConfig, inner_scale: float) -> AdversarialLoss:
    """The loss of these settings; ``inner_scale`` is that of the number format, see `gradient_penalty`.

    Raises InputError for an unknown loss, and for an option that it does not have.
    """
    own, known = dict(config.loss_options), own_options(config.loss)
    if unknown := [name for name in own if name not in known]:
        raise InputError(f"loss {config.loss!r} has no option {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    shared = {**vars(config.recipe), **vars(config), "inner_scale": inner_scale}
    asked = {field.name: shared[field.name] for field in fields(LOSSES[config.loss]) if field.name in shared}
    return LOSSES[config.loss](**asked, **own)


def own_options(name: str) -> list[str]:
    """The names of a loss's options that no other part of a training has. Raises InputError for an unknown loss."""
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}{did_you_mean(name, list(LOSSES))}")
    shared = {field.name for kind in (WGANConfig, Recipe) for field in fields(kind)} | {"inner_scale"}
    return [field.name for field in fields(LOSSES[name]) if field.name not in shared]
