"""The connection to a Ray cluster, and what its nodes are."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any, TypedDict, cast

from benchmark.environment import Machine, Node, choose_device, this_node, usable_cores
from benchmark.run.engine import Site
from benchmark.run.placement import Place
from vesselgan.errors import InputError

__all__ = ["Cluster", "cluster_at", "computes", "first_line", "import_ray", "most_frequent", "on_node", "place_of"]

ANSWER_S = 10.0  # that a cluster may take to answer at all
PROBE_S = 180.0  # that a node may take to say what it is
CACHE_BYTES = 80 * 2**20  # Ray's for objects, of which there are none: the least that it allows
# A task that asks for no GPU sees all of them, to tell which they are.
SEES_ALL = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}


class RayNode(TypedDict):
    """A node, as Ray tells of it."""

    NodeID: str
    NodeManagerHostname: str
    Alive: bool
    Resources: Mapping[str, float]


class NodeAnswer(TypedDict):
    """What a node says of itself: the fields of `Node`."""

    device: str
    torch: str
    machine: Machine
    libraries: Mapping[str, str]
    instructions: Sequence[str]
    others: Sequence[Node]


class Cluster:
    """A connection to Ray, and what its nodes are."""

    def __init__(self, site: Site, device: str) -> None:
        if ":" in device:
            raise InputError(f"--device {device}: Ray gives each stage a GPU of its own; use --device cuda")
        self._ray, self._device = import_ray(), device
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            _connect(self._ray, site)
        self.places = self._ask_all()
        self.node = most_frequent(self.places)

    def ask(self, node_id: str) -> Any:
        """What a node is, as a future."""
        task = self._ray.remote(num_cpus=0, max_retries=1, scheduling_strategy=on_node(node_id))(_what_it_is)
        return task.options(runtime_env=SEES_ALL if self._device != "cpu" else None).remote(self._device)

    def leave(self) -> None:
        """End the connection, unless somebody else made it."""
        if self._connected_here:
            self._ray.shutdown()
        _clusters.clear()

    def _ask_all(self) -> list[Place]:
        nodes = [node for node in self._ray.nodes() if node["Alive"] and computes(node)]
        places = []
        for node, answer in [(node, self.ask(node["NodeID"])) for node in nodes]:
            try:
                places.append(place_of(node, self._ray.get(answer, timeout=PROBE_S)))
            except InputError:
                raise
            except Exception as error:
                cause = getattr(error, "cause", None)
                raise InputError(f"node {_name(node)} of the cluster: {first_line(cause or error)}") from None
        if not places:
            raise InputError("the Ray cluster has no node with CPUs; start one with 'ray start'")
        # With and without a GPU, the same stage has two keys: where there are GPUs, what has none runs beside them.
        devices = {place.node.device for place in places}
        return [place for place in places if len(devices) == 1 or place.node.device == "cuda"]


_clusters: dict[Site, Cluster] = {}


def cluster_at(site: Site, device: str) -> Cluster:
    """The connection of this process to a site, made once."""
    if site not in _clusters:
        _clusters[site] = Cluster(site, device)
    return _clusters[site]


def import_ray() -> Any:
    """The module, which nothing else needs. Raises InputError."""
    if find_spec("ray") is None:
        raise InputError("--engine ray needs Ray: pip install 'ray[client]>=2.40,<3' (the extra [cluster])")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


def _connect(ray: Any, site: Site) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if site.address is None:
        options: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": CACHE_BYTES}
        options |= {"num_cpus": usable_cores(), "num_gpus": site.gpus}
    elif site.gpus:
        raise InputError("--gpus: the cluster at --address knows its GPUs; leave it out")
    else:
        options = {"address": site.address}
        _refuse_silence(site.address)
    with _signals_kept():
        try:
            ray.init(**options, **quiet)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, ImportError) as error:
            where = f"--address {site.address}" if site.address else "--engine ray"
            raise InputError(f"{where}: Ray says: {first_line(error)}") from None
    with suppress(ImportError):  # what Ray prints of a node that died is a page, and this engine tells it in a line
        from ray._private import worker

        worker.print_to_stdstream = lambda data, ignore_prefix: None


def _refuse_silence(address: str) -> None:
    """Ray itself would ask for minutes whether there is a cluster."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:  # auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"--address {address}: nothing answers there ({error}); start one with 'ray start --head'"
        ) from None


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def most_frequent(places: Sequence[Place]) -> Node:
    """The node of the kind that has most cards, or most CPUs; with one of each other kind beside it."""
    kinds: list[Node] = []
    weight: Counter[int] = Counter()
    for place in places:
        index = next((index for index, kind in enumerate(kinds) if kind.like(place.node)), len(kinds))
        if index == len(kinds):
            kinds.append(place.node)
        weight[index] += 1000 * place.gpus + place.cpus
    first = kinds[weight.most_common(1)[0][0]]
    return replace(first, others=[kind for kind in kinds if kind is not first])


def on_node(node_id: str, *, soft: bool = False) -> Any:
    """How Ray is told that a task is for a node; `soft`: or for another, if it is gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


def computes(node: RayNode) -> bool:
    """Whether a node takes stages: a head node may be there for the driver alone."""
    return float(node["Resources"].get("CPU", 0)) >= 1


def place_of(node: RayNode, facts: NodeAnswer) -> Place:
    """A node of a cluster, from what Ray says of it and what it says of itself."""
    resources = node["Resources"]
    gpus = int(resources.get("GPU", 0)) if facts["device"] == "cuda" else 0
    return Place(node["NodeID"], _name(node), Node(**facts), int(resources["CPU"]), gpus)


def _name(node: RayNode) -> str:
    """The machine's name, and enough of the node's to tell several on one machine apart."""
    return f"{node['NodeManagerHostname']}/{node['NodeID'][:6]}"


def first_line(error: BaseException) -> str:
    """Of what Ray says, which is often a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _what_it_is(device: str) -> NodeAnswer:
    return cast(NodeAnswer, asdict(this_node(choose_device(device))))
