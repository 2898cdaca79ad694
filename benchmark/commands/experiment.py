"""A protocol with one of its profiles, and the subjects that it is to run on: what `run` and `plan` begin with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from benchmark.datasets.source import ExternalSource, Source, choose_source, find_externals
from benchmark.environment import Node
from benchmark.plan import Findings, Plan, build_plan
from benchmark.protocol.cells import Cell, cells_of
from benchmark.protocol.load import choose_profile, find_protocol, load_protocol
from benchmark.protocol.schema import Profile, Protocol, Requires

__all__ = ["Experiment", "Loaded", "load"]


@dataclass(frozen=True)
class Experiment:
    """Everything that a plan is made of, but for the machine and what was found on it."""

    protocol: Protocol
    profile_name: str
    profile: Profile
    cells: list[Cell]
    source: Source
    externals: Mapping[str, ExternalSource]

    def plan(self, node: Node, findings: Findings = MappingProxyType({})) -> Plan:
        """On a node, with what its numerics checks found so far. Raises InputError."""
        return build_plan(
            self.protocol, self.profile_name, self.profile, self.cells, self.source, node, self.externals, findings
        )


@dataclass(frozen=True)
class Loaded:
    """A protocol's file, and the profile that was chosen."""

    path: Path
    protocol: Protocol
    profile_name: str
    profile: Profile

    def on(
        self,
        data: Path | None,
        layout: str,
        remember: Path | None = None,
        *,
        spacing_mm: tuple[float, float, float] | None = None,
        scored: bool = True,
    ) -> Experiment:
        """On these scans, or on the phantom; see `choose_source`. Raises InputError."""
        source = choose_source(
            self.profile_name, self.profile, data, layout, remember, spacing_mm=spacing_mm, scored=scored
        )
        return self._of(source, remember, has_data=data is not None or self.profile.needs_data)

    def on_as_many(self, layout: str) -> Experiment:
        """On as many subjects as the profile splits, where nobody has named its scans: enough for a plan alone."""
        stand_in = self.profile.model_copy(update={"requires": Requires(data=False), "data": "phantom"})
        source = choose_source(self.profile_name, stand_in, None, layout, scored=False)
        told = replace(source, description="as many subjects as the profile splits, since no --data was given")
        return self._of(told, None, has_data=True)

    def _of(self, source: Source, remember: Path | None, *, has_data: bool) -> Experiment:
        cells = cells_of(self.protocol, self.profile, has_data=has_data)
        externals = find_externals(self.protocol.include, self.path.parent, remember)
        return Experiment(self.protocol, self.profile_name, self.profile, cells, source, externals)


def load(protocol: str, profile: str | None) -> Loaded:
    """A protocol by its name or file. Raises InputError for one that is none, and for an unknown profile."""
    path = find_protocol(protocol)
    loaded = load_protocol(path)
    return Loaded(path, loaded, *choose_profile(loaded, profile))
