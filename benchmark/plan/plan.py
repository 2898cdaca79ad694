"""What a plan is made of: the specs of a run's stages, each with its key, and what each takes while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypedDict, cast

from benchmark.artifacts.options import PatchCorners, Remedy, Runtime
from benchmark.artifacts.roles import Role
from benchmark.artifacts.store import Spec
from benchmark.artifacts.values import CheckFindings
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.datasets.source import Source
from benchmark.environment import Machine, Node
from benchmark.protocol.cells import Cell
from benchmark.protocol.schema import Profile, Protocol
from vesselgan.processor import narrowest

__all__ = ["CellPlan", "Findings", "NodeFacts", "Plan", "Resources", "corners_of"]

Findings = Mapping[str, CheckFindings]  # of the finished numerics checks, by their keys


class NodeFacts(TypedDict, total=False):
    """What of a node a stage's key has beside device, threads and torch, where the stage is about that node."""

    machine: Machine
    libraries: Mapping[str, str]
    instructions: Sequence[str]


@dataclass(frozen=True)
class Resources:
    """What a stage takes of a node while it runs; it decides where and when, and so is in no key."""

    cpus: int = 1
    gpus: int = 0
    exclusive: bool = False  # nothing else of the run beside it on its node: what it times would be slower
    memory_mib: float = 0.0  # of the card's, or without one of the node's; as far as it was counted
    machine: Machine | None = None  # what is timed or checked on it is about this one alone
    checked: Sequence[Node] = ()  # kernels are right on nodes like these; where it calls none, on any


@dataclass(frozen=True)
class CellPlan:
    """A cell and the keys of its stages by role (`artifacts.roles`)."""

    cell: Cell
    stages: dict[str, str]


@dataclass
class Plan:
    """The stages of a run in an order in which each stands behind what it needs."""

    protocol: Protocol
    profile_name: str
    profile: Profile
    node: Node  # that computes
    source: Source
    findings: Findings = field(default_factory=dict)
    specs: dict[str, Spec] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)  # of each of the specs
    checks: list[str] = field(default_factory=list)  # those of the specs that are numerics checks
    same_check: dict[str, list[str]] = field(default_factory=dict)  # of a check, on nodes of other kinds
    cells: list[CellPlan] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's folder name under `runs/` and `reports/`."""
        return f"{self.protocol.protocol}-{self.profile_name}"

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.node.device

    def keys_of(self, role: Role) -> list[str]:
        """Keys of the stages that fill a role in some cell, each once."""
        return list(dict.fromkeys(cell.stages[role] for cell in self.cells if role in cell.stages))

    def add(
        self,
        stage: str,
        options: Mapping[str, object],
        needs: Mapping[str, str],
        threads: int | None,
        checks: Sequence[str] = (),
        *,
        facts: NodeFacts | None = None,
        exclusive: bool = False,
        where: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Add a stage (once) and return its key; `threads` is None for stages without torch.

        `checks` are keys of numerics checks. What gets round a wrong kernel decides the bytes, so it is in the key.
        Where all kernels are right it is nothing, and the key is that of every such machine. `facts` of the node that
        decide the result beside device, threads and torch are in the key, too; `where` files lie is not.
        """
        facts = facts or {}
        runtime = cast(Runtime, {**facts})
        if threads is not None:
            runtime.update({"device": self.device, "threads": threads, "torch": self.node.torch})
            if self.profile.deterministic:  # later than the first runs, whose keys say nothing of it
                runtime["deterministic"] = self.profile.deterministic
        if remedy := self._remedy(checks):
            runtime["remedy"] = remedy
        spec = Spec(stage, STAGE_VERSIONS[stage], options, needs, runtime, dict(where), sorted(checks))
        if spec.key not in self.specs:
            self.specs[spec.key] = spec
            on_gpu = threads is not None and self.device == "cuda"
            checked = [self.node, *self._others_like(checks)] if checks else []
            self.resources[spec.key] = Resources(
                threads or 1, int(on_gpu), exclusive, machine=facts.get("machine"), checked=checked
            )
        return spec.key

    def verify(self, options: Mapping[str, object], threads: int) -> str:
        """Add the numerics check of a network (once) and return its key."""
        keys = []
        for node in (self.node, *self.node.others):
            facts: NodeFacts = {
                "machine": node.machine,
                "libraries": node.libraries,
                "instructions": node.instructions,
            }
            keys.append(self.add("verify", options, {}, threads, facts=facts))
        self.checks += [key for key in keys if key not in self.checks]
        self.same_check[keys[0]] = keys[1:]
        return keys[0]

    def _others_like(self, checks: Sequence[str]) -> list[Node]:
        """Nodes of other kinds that may compute what rests on these checks: theirs found the same."""
        others = list(zip(self.node.others, *(self.same_check[key] for key in checks), strict=True))
        return [
            node
            for node, *keys in others
            if all(key in self.findings and not self.refused(key) for key in keys)
            and self._remedy(keys) == self._remedy(checks)
        ]

    def refused(self, check: str) -> bool:
        """Whether this numerics check has failed: what rests on it cannot be computed here."""
        return "refused" in self.findings.get(check, {})

    def _remedy(self, checks: Sequence[str]) -> Remedy:
        """What the finished ones of these checks say to do; empty where all kernels are right."""
        asked = (self.findings[key].get("remedy") for key in sorted(checks) if key in self.findings)
        found = [remedy for remedy in asked if remedy]
        # One set of instructions holds for a whole process: the narrowest of those that the checks ask for.
        sets = [each["instructions"] for each in found if "instructions" in each]
        ways = {operation: way for each in found for operation, way in each.get("operations", {}).items()}
        together: Remedy = {}
        if sets:
            together["instructions"] = narrowest(sets)
        if ways:
            together["operations"] = ways
        return together


def corners_of(profile: Profile) -> PatchCorners:
    """Where patches are cut, as stages are told it."""
    return {"grid": profile.patches.grid, "vessel": profile.patches.vessel}
