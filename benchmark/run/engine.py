"""What the scheduler asks of whatever runs stages, and of whoever watches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, Protocol, Self, TypeVar

from benchmark.artifacts.store import Maps, Store
from benchmark.environment import Node, choose_device, this_node, usable_cores
from benchmark.plan import CellPlan, Plan, Resources
from vesselgan.errors import InputError

__all__ = ["ENGINES", "HERE", "Engine", "Event", "EventKind", "Observer", "Site", "register"]

EventKind = Literal["progress", "notice", "done", "failed", "bad_input", "locked"]


@dataclass(frozen=True)
class Event:
    """What a worker says about the stage that it was given, or an engine of a worker; a `notice` is for the user."""

    kind: EventKind
    key: str
    done: int = 0
    total: int = 0
    text: str = ""


@dataclass(frozen=True)
class Site:
    """Where an engine computes, as far as a person says it; each field is an option of its name."""

    gpus: int | None = None
    address: str | None = None
    map: Maps = ()


HERE = Site()


class Engine(ABC):
    """What runs stages, here or elsewhere.

    A planned stage is a folder of the store with a `spec.json`; wherever that folder is seen, `run_stage` computes it.
    The driver may be killed at any moment: what an engine started must then end by itself, or the next run waits for
    the locks that it holds.
    """

    takes: ClassVar[frozenset[str]] = frozenset()  # the fields of a `Site` that it knows
    by_memory: ClassVar[bool] = False  # whether it asks what memory a stage takes, which costs seconds to count

    @abstractmethod
    def __init__(self, store: Store, workers: int) -> None:
        """For the stages of a store, with `workers` of them at a time at the most."""

    @abstractmethod
    def free(self, resources: Resources) -> bool:
        """Whether a stage that takes this can be taken now. An exclusive one is alone on its node."""

    @abstractmethod
    def submit(self, key: str, resources: Resources) -> None:
        """Take a planned stage for which it is free, or one that it told to be locked."""

    @abstractmethod
    def next_event(self) -> Event:
        """Wait for news of the stages that were taken."""

    @abstractmethod
    def close(self) -> None:
        """End what still runs; an unfinished stage is taken up by the next run."""

    @classmethod
    def open(cls, store: Store, workers: int, site: Site) -> Self:
        """The engine at a site, of which it was asked for its node. Raises InputError."""
        return cls(store, workers)

    @classmethod
    def check(cls, site: Site, name: str) -> None:
        """Raises InputError where a site says what this engine, of that name, does not know."""
        for field in fields(site):
            if getattr(site, field.name) != field.default and field.name not in cls.takes:
                raise InputError(f"--{field.name}: --engine {name} has no such option; leave it out")

    @classmethod
    def node(cls, device: str, site: Site = HERE) -> Node:
        """The machine that computes, with the device that `--device` asks for: here, this one. Raises InputError."""
        return this_node(choose_device(device))

    @classmethod
    def places(cls, plan: Plan, keys: Sequence[str], site: Site) -> Mapping[str, str]:
        """Where each of these stages would go, by key; empty where all go to this machine."""
        return {}

    @classmethod
    def default_workers(cls, plan: Plan, site: Site = HERE) -> int:
        """How many stages at a time, if nobody says: here, what the cores carry. On a GPU one, to have its memory."""
        shared = [resources for resources in plan.resources.values() if not resources.exclusive]
        if any(resources.gpus for resources in shared):
            return site.gpus or 1
        return max(1, usable_cores() // max((resources.cpus for resources in shared), default=1))


ENGINES: dict[str, type[Engine]] = {}
Kind = TypeVar("Kind", bound=type[Engine])


def register(name: str) -> Callable[[Kind], Kind]:
    """Make an engine known as `--engine NAME`."""

    def add(kind: Kind) -> Kind:
        ENGINES[name] = kind
        return kind

    return add


class Observer(Protocol):
    """Who is told about the run's progress."""

    def stage_started(self, key: str) -> None:
        """A stage was handed to a worker."""

    def stage_event(self, event: Event) -> None:
        """A worker said something about a stage."""

    def cell_finished(self, cell: CellPlan, status: str) -> None:
        """All stages of a cell ended."""
