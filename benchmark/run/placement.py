"""Which node of a cluster takes a stage: what each of them has, and what stands on it already."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmark.environment import Node
from benchmark.plan import Resources
from vesselgan.errors import InputError

__all__ = ["Place", "Placement"]


@dataclass
class Place:
    """A node of a cluster, and the stages that were put on it."""

    id: str
    name: str  # for people
    node: Node
    cpus: int
    gpus: int = 0
    taken: dict[str, Resources] = field(default_factory=dict)

    @property
    def memory_mib(self) -> float:
        """Of a card, or without one of the node: what a stage may take."""
        machine = self.node.machine
        return 1024 * (machine.get("gpu_memory_gib", 0.0) if self.node.device == "cuda" else machine["memory_gib"])

    def cpus_for(self, resources: Resources) -> int:
        """All of them for a stage that must be alone; never more than there are."""
        return self.cpus if resources.exclusive else min(resources.cpus, self.cpus)

    def could(self, resources: Resources) -> bool:
        """Whether the stage could run here, if nothing else did."""
        checked = not resources.checked or any(self.node.like(node) for node in resources.checked)
        return (
            resources.machine in (None, self.node.machine)
            and checked
            and resources.gpus <= self.gpus
            and resources.memory_mib <= self.memory_mib
        )

    def fits(self, resources: Resources) -> bool:
        """Whether it can run here now."""
        if not self.could(resources):
            return False
        if not self.taken:
            return True
        beside = list(self.taken.values())
        if resources.exclusive or any(one.exclusive for one in beside):
            return False
        return (
            sum(self.cpus_for(one) for one in (*beside, resources)) <= self.cpus
            and sum(one.gpus for one in (*beside, resources)) <= self.gpus
            and (self.node.device == "cuda" or sum(o.memory_mib for o in (*beside, resources)) <= self.memory_mib)
        )


class Placement:
    """The nodes of a cluster. A stage goes to the smallest card that it fits, and else to where the most is free."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = {place.id: place for place in places}
        self._where: dict[str, Place] = {}  # of each stage that was put somewhere

    def room(self, resources: Resources, avoid: frozenset[str] = frozenset()) -> Place | None:
        """The node that would take it now, one of those to `avoid` only if no other ever could.

        Raises InputError where no node could at any time.
        """
        able = [place for place in self.places.values() if place.could(resources)]
        if not able:
            raise InputError(f"no node of the cluster can take a stage that needs {_told(resources)}; {self._has()}")
        able = [place for place in able if place.id not in avoid] or able
        fitting = [place for place in able if place.fits(resources)]
        return min(fitting, key=lambda place: self._rank(place, resources), default=None)

    def place_of(self, key: str) -> Place:
        """Where a stage was put; it may be gone by now."""
        return self._where[key]

    def add(self, place: Place) -> None:
        """A node that came."""
        self.places[place.id] = place

    def lose(self, node_id: str) -> None:
        """A node that went."""
        self.places.pop(node_id, None)

    def put(self, key: str, resources: Resources, place: Place) -> None:
        """Note that a stage runs there."""
        place.taken[key] = resources
        self._where[key] = place

    def ended(self, key: str) -> None:
        """And that it does no more."""
        if place := self._where.pop(key, None):
            del place.taken[key]

    @staticmethod
    def _rank(place: Place, resources: Resources) -> tuple[float, float, str]:
        card = place.memory_mib if resources.gpus else 0.0
        used = sum(place.cpus_for(one) for one in place.taken.values()) / place.cpus
        # What needs no card leaves the nodes that have some to those that do.
        return card if resources.gpus else float(place.gpus), used, place.id

    def _has(self) -> str:
        kinds = sorted({_described(place) for place in self.places.values()})
        return f"there is {'; '.join(kinds)}" if kinds else "none is left"


def _told(resources: Resources) -> str:
    needs = ["a GPU"] if resources.gpus else []
    needs += [f"{resources.memory_mib / 1024:.1f} GiB of memory"] if resources.memory_mib else []
    if resources.machine is not None:
        machine = resources.machine
        needs.append(f"a machine with {machine.get('gpu', machine['cpu'])} and {machine['cores']} cores")
    elif resources.checked:
        needs.append("a machine whose kernels were checked")
    return " and ".join(needs) or "a CPU"


def _described(place: Place) -> str:
    machine = place.node.machine
    cards = f"{place.gpus} x {machine.get('gpu', 'GPU')}, " if place.gpus else ""
    return f"{cards}{machine['cpu']}, {place.cpus} CPUs, {place.memory_mib / 1024:.1f} GiB"
