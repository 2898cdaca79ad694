"""The registry of metrics: the facts about each, and the function that computes it. All that names metrics reads it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "KINDS",
    "MEASUREMENTS",
    "REGIONS",
    "REGION_NAMES",
    "Kind",
    "Measurement",
    "Metric",
    "Named",
    "Nothing",
    "Options",
    "OwnFeatures",
    "claimable",
    "derived",
    "every",
    "find",
    "has_subjects",
    "is_cost",
    "measurements",
    "metric",
    "names",
    "range_of",
]

# What a function is given, and how many values it has. In the order in which a reader asks for them.
Kind = Literal["subject", "derived", "set", "labels", "audit", "cost"]
KINDS: tuple[Kind, ...] = ("subject", "derived", "set", "labels", "audit", "cost")
REGION_NAMES = {"all": "all vessels", "intracranial": "intracranial"}
REGIONS = tuple(REGION_NAMES)
BY_REGION = ("subject", "derived")
KEY = re.compile(r"[a-z]\w*(/[a-z]\w*)?", re.ASCII)  # a name that MLflow, YAML and a claim take as it is
Function = TypeVar("Function", bound=Callable[..., Any])


class Options(BaseModel):
    """What a protocol may say of a metric under its name in `metrics:`. Every option has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Nothing(Options):
    """A metric without options."""


class OwnFeatures(Options):
    """Options of a metric of kind `set` that is about features of its own, not about those of the run's network.

    samples: how many patches of each set they are taken of, at most.
    """

    samples: Annotated[int, Field(ge=10)] = 200

    def extractor(self, spacing_mm: Sequence[float]) -> Callable[[Iterable[NDArray[np.float32]]], NDArray[np.float64]]:
        """What takes batches (B, X, Y, Z) of voxels of spacing_mm to features (N, d), NaN where a patch has none."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises InputError where something that it needs is missing here."""


@dataclass(frozen=True)
class Metric:
    """The facts about one metric, for claims, tables and pages.

    key: its name in results.json, protocols and claims; per subject it is followed by a region, as in `dsc/all`.
    better: which side is, if any. limits: what no value leaves, and so no mean of values. biased_by_n: of kind `set`,
    whether unequal numbers of patches alone make a difference. empty_is_undefined: of kind `subject`, whether its value
    for an empty mask stands for none. cited: a methods section names the metric, with this key of `references.bib`
    where it is not empty; None leaves it among the others.
    """

    key: str
    title: str
    better: Literal["lower", "higher"] | None
    unit: str = ""
    decimals: int = 3
    limits: tuple[float, float] = (0.0, math.inf)
    biased_by_n: bool = True
    empty_is_undefined: bool = False
    cited: str | None = None

    @property
    def title_with_unit(self) -> str:
        """`bAVD (mm)`."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Measurement:
    """A function with the metrics that it computes in one pass, and the name under which a protocol asks for it."""

    name: str
    kind: Kind
    metrics: tuple[Metric, ...]
    function: Callable[..., Any] | None
    options: type[BaseModel] = Nothing
    version: int = 1
    always: bool = False
    later: bool = False
    glossary: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_built_in(self) -> bool:
        """Whether its code belongs to a stage, whose version then stands for it."""
        return self.function is None or self.function.__module__.startswith(f"{__package__}.")

    @property
    def is_asked_for(self) -> bool:
        """Whether it is computed only where a protocol names it."""
        return not self.always and self.kind not in ("cost", "derived")

    @property
    def named(self) -> "list[Named]":
        """Its metrics by the names that they have in results.json."""
        regions = REGIONS if self.kind in BY_REGION else ("",)
        return [Named(metric, self.kind, region) for metric in self.metrics for region in regions]


@dataclass(frozen=True)
class Named:
    """A metric as it stands in results.json: one with a region is two of them."""

    metric: Metric
    kind: Kind
    region: str = ""

    @property
    def name(self) -> str:
        """`fid`, `dsc/all`."""
        return f"{self.metric.key}/{self.region}" if self.region else self.metric.key

    @property
    def title(self) -> str:
        """`FID`, `DSC, all vessels`."""
        return f"{self.metric.title}, {REGION_NAMES[self.region]}" if self.region else self.metric.title

    @property
    def title_with_unit(self) -> str:
        """`bAVD, all vessels (mm)`."""
        return f"{self.title} ({self.metric.unit})" if self.metric.unit else self.title


MEASUREMENTS: dict[str, Measurement] = {}


def metric(
    *rows: Metric,
    kind: Kind,
    name: str | None = None,
    options: type[BaseModel] = Nothing,
    version: int = 1,
    always: bool = False,
    later: bool = False,
    glossary: Mapping[str, str] | None = None,
) -> Callable[[Function], Function]:
    """Register the function below as what computes these metrics.

    Args:
        rows: a function of one metric returns its value, one of several a mapping by key. None is "it has no value
            here".
        kind: what the function is given, see `benchmark.metrics`.
        name: under which a protocol asks for it; the key of its first metric where none is given.
        options: their model, whose value is passed as second argument; without one there is no second argument.
        version: raised whenever the function computes something else; it is in the key of the stage that calls it. One
            that is built in needs none, since its code is that of a stage.
        always: computed whether a protocol names it or not; of built-in ones only.
        later: built in after runs were made: where no protocol asks for it, it stands in no key.
        glossary: term -> explanation, for the page.

    Raises ValueError where a name is taken, or unfit.
    """

    def register(function: Function) -> Function:
        measurement = Measurement(
            name or rows[0].key, kind, rows, function, options, version, always, later, dict(glossary or {})
        )
        _add(measurement)
        return function

    return register


def derived(*rows: Metric, name: str, glossary: Mapping[str, str]) -> None:
    """Register metrics that are made of results, and of which no claim can be."""
    _add(Measurement(name, "derived", rows, None, glossary=glossary))


def _add(measurement: Measurement) -> None:
    taken = {each.name: other.name for other in MEASUREMENTS.values() for each in other.named}
    for each in measurement.named:
        if not KEY.fullmatch(each.name):
            raise ValueError(f"metric {each.name!r}: a key is made of small letters, digits and _")
        if each.name in taken:
            raise ValueError(f"metric {each.name!r}: there is one of that key, of {taken[each.name]!r}")
    if measurement.name in MEASUREMENTS:
        raise ValueError(f"metric {measurement.name!r}: there is one of that name")
    if measurement.always and not measurement.is_built_in:
        raise ValueError(f"metric {measurement.name!r}: one that is not built in is computed where a protocol names it")
    measurement.options()  # raises where an option has no default
    MEASUREMENTS[measurement.name] = measurement


def measurements(*kinds: Kind) -> list[Measurement]:
    """Those of some kinds, or all, in the order in which a reader asks for them."""
    wanted = kinds or KINDS
    return [each for kind in KINDS if kind in wanted for each in MEASUREMENTS.values() if each.kind == kind]


def every(*kinds: Kind) -> dict[str, Named]:
    """The metrics of some kinds, or all, by their names in results.json, in the order of `measurements`."""
    return {named.name: named for each in measurements(*kinds) for named in each.named}


def names(*kinds: Kind) -> list[str]:
    """The names of `every`."""
    return list(every(*kinds))


def find(name: str) -> Named | None:
    """The metric of a name in results.json; None where none that is loaded has it."""
    return every().get(name)


def claimable() -> list[str]:
    """The vocabulary of claims and of published values."""
    return names(*(kind for kind in KINDS if kind != "derived"))


def has_subjects(name: str) -> bool:
    """Whether a metric has one value per test subject; costs have one per round, all others one per trained model."""
    found = find(name)
    return found is not None and found.kind == "subject"


def is_cost(name: str) -> bool:
    """Whether it is measured in rounds on one machine."""
    found = find(name)
    return found is not None and found.kind == "cost"


def range_of(name: str) -> tuple[float, float]:
    """What a metric cannot leave, and so no mean of it."""
    found = find(name)
    return (-math.inf, math.inf) if found is None else found.metric.limits
