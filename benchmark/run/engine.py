"""What the scheduler asks of whatever runs stages, and of whoever watches."""

from dataclasses import dataclass
from typing import Literal, Protocol

from benchmark.plan import CellPlan

__all__ = ["Engine", "Event", "Observer"]


@dataclass(frozen=True)
class Event:
    """What a worker says about the stage that it was given."""

    kind: Literal["progress", "done", "failed", "bad_input", "locked"]
    key: str
    done: int = 0
    total: int = 0
    text: str = ""


class Engine(Protocol):
    """What runs stages: the local engine now."""

    @property
    def free(self) -> int:
        """How many more stages can be taken now."""

    def submit(self, key: str) -> None:
        """Take a planned stage."""

    def next_event(self) -> Event:
        """Wait for news."""


class Observer(Protocol):
    """Who is told about the run's progress."""

    def stage_started(self, key: str) -> None:
        """A stage was handed to a worker."""

    def stage_event(self, event: Event) -> None:
        """A worker said something about a stage."""

    def cell_finished(self, cell: CellPlan, status: str) -> None:
        """All stages of a cell ended."""
