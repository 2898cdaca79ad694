"""The Ray engine: the stages of a run on the nodes of a Ray cluster, which share the folder of the run.

A stage is a Ray task that runs `run_stage`. The driver decides on which node, since it knows what is to be alone there
and which machine a stage is about; Ray starts it where its CPUs and GPUs are free, also of other drivers. A stage whose
node or process dies is given to another one, where it goes on from its checkpoint. All tasks end with their driver.
"""

import asyncio
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypedDict

from benchmark.artifacts.store import Maps, Store, environment_for, mapped
from benchmark.environment import Node
from benchmark.plan import Plan, Resources
from benchmark.run.engine import HERE, Engine, Event, EventKind, Site, register
from benchmark.run.placement import Place, Placement
from benchmark.run.ray_cluster import cluster_at, computes, first_line, import_ray, on_node, place_of
from vesselgan.errors import InputError

__all__ = ["RayEngine"]

TRIES = 4  # of a stage whose processes die: one of these may be due to another one on its node
TELL_EVERY_S = 1.0  # of a stage's progress: hundreds of them tell one driver
LOOK_EVERY_S = 10.0  # for nodes that came or went


@register("ray")
class RayEngine(Engine):
    """Run stages on a Ray cluster: the one at `--address`, or one of this machine alone that ends with the run."""

    takes = frozenset({"address", "gpus", "map"})
    by_memory = True

    def __init__(self, store: Store, workers: int, site: Site = HERE) -> None:
        self._ray, self._cluster = import_ray(), cluster_at(site, "auto")
        self._store, self._workers, self._maps = store, workers, site.map
        store.share()
        self._root = mapped(store.root.resolve(), site.map)
        # A list of places of its own, since the next run's stages are put on empty nodes.
        self._placement = Placement(replace(place, taken={}) for place in self._cluster.places)
        self._work = self._ray.remote(max_retries=0)(_work)
        self._probes: dict[Any, str] = {}  # of nodes that came later
        self._tasks: dict[Any, str] = {}
        self._resources: dict[str, Resources] = {}
        self._deaths: Counter[str] = Counter()
        self._avoid: dict[str, frozenset[str]] = {}  # nodes on which a stage's process died
        self._events: deque[Event] = deque()
        self._looked = time.monotonic()
        self._open_mailbox()

    @classmethod
    def open(cls, store: Store, workers: int, site: Site) -> Self:
        """At an address. Raises InputError."""
        return cls(store, workers, site)

    @classmethod
    def node(cls, device: str, site: Site = HERE) -> Node:
        """The kind of which the cluster has the most nodes, and the others beside it. Raises InputError."""
        return cluster_at(site, device).node

    @classmethod
    def default_workers(cls, plan: Plan, site: Site = HERE) -> int:
        """As many as there are GPUs, or as the CPUs carry."""
        places = cluster_at(site, plan.device).places
        shared = [resources for resources in plan.resources.values() if not resources.exclusive]
        if any(resources.gpus for resources in shared):
            return max(1, sum(place.gpus for place in places))
        cpus = max((resources.cpus for resources in shared), default=1)
        return max(1, sum(max(1, place.cpus // cpus) for place in places))

    @classmethod
    def places(cls, plan: Plan, keys: Sequence[str], site: Site) -> Mapping[str, str]:
        """If all stages took equally long and nothing else ran."""
        placement = Placement(replace(place, taken={}) for place in cluster_at(site, plan.device).places)
        found: dict[str, str] = {}
        running: deque[str] = deque()
        for key in keys:
            while (place := placement.room(plan.resources[key])) is None:
                placement.ended(running.popleft())
            placement.put(key, plan.resources[key], place)
            running.append(key)
            found[key] = place.name
        return found

    def free(self, resources: Resources) -> bool:
        """Whether a node takes it now."""
        return len(self._resources) < self._workers and self._placement.room(resources) is not None

    def submit(self, key: str, resources: Resources) -> None:
        """Give it to a node."""
        place = self._placement.room(resources, self._avoid.get(key, frozenset()))
        if place is None:  # of a second try: all nodes are busy, so it waits there for its turn
            place = next(place for place in self._placement.places.values() if place.could(resources))
        self._resources[key] = resources
        self._placement.put(key, resources, place)
        variables = environment_for(self._store.spec(key))
        task = self._work.options(
            num_cpus=place.cpus_for(resources),
            num_gpus=place.gpus if resources.exclusive and resources.gpus else resources.gpus,
            scheduling_strategy=on_node(place.id),
            runtime_env={"env_vars": variables} if variables else None,
            name=key,
        ).remote(self._root, self._maps, self._store.shared_id, key, self._mailbox)
        self._tasks[task] = key

    def next_event(self) -> Event:
        """Wait for a stage's end or progress, and give the stages of dead nodes to others meanwhile."""
        while not self._events:
            done, _ = self._ray.wait([*self._tasks, self._news, *self._probes], timeout=LOOK_EVERY_S)
            if time.monotonic() - self._looked >= LOOK_EVERY_S:
                self._look_for_nodes()
            for task in done:
                if task in self._tasks:
                    self._ended(task, self._tasks.pop(task))
                elif task in self._probes:
                    self._met(self._probes.pop(task), task)
                else:
                    self._hear(task)
        return self._events.popleft()

    def close(self) -> None:
        """End all tasks, and the cluster if it was of this run alone."""
        for task in self._tasks:
            with suppress(Exception):
                self._ray.cancel(task, force=True)
        self._tasks.clear()
        with suppress(Exception):
            self._ray.kill(self._mailbox)
        self._cluster.leave()

    def _ended(self, task: Any, key: str) -> None:
        errors = self._ray.exceptions
        place = self._placement.place_of(key)
        try:
            event = Event(**self._ray.get(task))
        except (errors.NodeDiedError, errors.TaskUnschedulableError, errors.LocalRayletDiedError):
            self._placement.lose(place.id)
            self._again(key, place, f"{place.name} is gone")
            return
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            self._again(key, place, f"its process on {place.name} died ({first_line(error)})")
            return
        except errors.RayError as error:  # it could not even begin, such as where the project is not installed
            event = Event("failed", key, text=f"{place.name}: {first_line(error)}")
        self._let_go(key)
        self._events.append(event)

    def _again(self, key: str, place: Place, why: str) -> None:
        resources = self._resources[key]
        self._let_go(key)
        self._deaths[key] += 1
        if self._deaths[key] >= TRIES:
            self._events.append(Event("failed", key, text=f"{why}, and so it went {TRIES} times"))
            return
        self._avoid[key] = self._avoid.get(key, frozenset()) | {place.id}
        try:
            self.submit(key, resources)
        except InputError as error:
            self._events.append(Event("bad_input", key, text=f"{why}: {error}"))
        else:
            there = self._placement.place_of(key).name
            self._events.append(Event("notice", key, text=f"{why}; it goes on on {there}"))

    def _let_go(self, key: str) -> None:
        self._placement.ended(key)
        del self._resources[key]

    def _open_mailbox(self) -> None:
        """Where tasks tell of their progress; beside the driver, so that it lives as long."""
        here = self._ray.get_runtime_context().get_node_id()
        mailbox = self._ray.remote(num_cpus=0)(_Mailbox)
        self._mailbox = mailbox.options(scheduling_strategy=on_node(here, soft=True)).remote()
        self._news = self._mailbox.take.remote()

    def _hear(self, news: Any) -> None:
        try:
            told = self._ray.get(news)
        except self._ray.exceptions.RayError:  # stages go on, but those that were begun tell of no progress
            self._open_mailbox()
            return
        self._events.extend(event for event in (Event(**one) for one in told) if event.key in self._resources)
        self._news = self._mailbox.take.remote()

    def _look_for_nodes(self) -> None:
        self._looked = time.monotonic()
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for gone in self._placement.places.keys() - alive.keys():
            self._placement.lose(gone)
        for new in alive.keys() - self._placement.places.keys() - set(self._probes.values()):
            if computes(alive[new]):
                self._probes[self._cluster.ask(new)] = new

    def _met(self, node_id: str, probe: Any) -> None:
        with suppress(Exception):  # a node that cannot tell what it is takes no stage
            node = {node["NodeID"]: node for node in self._ray.nodes()}[node_id]
            self._placement.add(place_of(node, self._ray.get(probe)))


# What follows runs on the nodes.


class EventFacts(TypedDict):
    """An `Event` in plain values, as it travels between machines."""

    kind: EventKind
    key: str
    done: int
    total: int
    text: str


def _facts(event: Event) -> EventFacts:
    return {"kind": event.kind, "key": event.key, "done": event.done, "total": event.total, "text": event.text}


class _Mailbox:
    """Events of stages on their way to the driver."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[EventFacts] = asyncio.Queue()

    async def put(self, event: EventFacts) -> None:
        await self._events.put(event)

    async def take(self) -> list[EventFacts]:
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events


def _work(root: str, maps: Maps, shared_id: str, key: str, mailbox: Any) -> EventFacts:
    """Run a stage, unless this node sees another folder than the driver."""
    store = Store(Path(root), maps=maps)
    if blind := _blind(store, shared_id):
        return _facts(Event("bad_input", key, text=blind))

    told = 0.0

    def tell(done: int, total: int, what: str) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TELL_EVERY_S or done >= total:
            told = now
            mailbox.put.remote(_facts(Event("progress", key, done, total, what)))

    from benchmark.run.worker import outcome_of  # brings torch, which the driver can do without

    event = outcome_of(store, key, tell)
    if event.kind != "done" and (blind := _blind(store, shared_id)):  # whatever else was said is because of that
        event = Event("bad_input", key, text=blind)
    return _facts(event)


def _blind(store: Store, shared_id: str) -> str:
    try:
        seen = store.shared_id
    except OSError as error:
        seen = f"({error.strerror})"
    if seen == shared_id:
        return ""
    return (
        f"{store.root}: as {socket.gethostname()} sees it, this is not the folder of the run; mount that there, or say "
        "where it lies with --map HERE=THERE"
    )
