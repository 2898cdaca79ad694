"""What a claim may say: one readable line of a protocol, validated."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from benchmark.metrics.registry import claimable, find, has_subjects, is_cost, range_of
from vesselgan.errors import did_you_mean

__all__ = ["CHOSEN", "Claim", "ClaimLine", "MetricAtLabel", "Scope", "split_side"]

CHOSEN = "best"  # stands for the synthetic label that is best on validation subjects

Scope = Literal["trained models", "training procedure"]
At = Literal["equal steps", "equal time"]
KEPT = ("set", "labels", "audit")  # kinds of metrics that a generator has on its way, too
COMPARISONS = ("less", "greater", "difference", "equal", "best", "compatible")
BOUNDS = {"difference": "at_most", "equal": "within", "compatible": "within"}


def split_side(side: str) -> tuple[str, str]:
    """Metric and label of 'metric @ label'."""
    metric, _, label = side.partition(" @ ")
    return metric, label


def _metric_at_label(text: str) -> str:
    metric, at, label = (part.strip() for part in text.partition("@"))
    if not at or not label:
        raise ValueError(f"{text!r} is not of the form 'metric @ label', for example 'dsc/intracranial @ SN-MP'")
    if metric not in claimable():
        raise ValueError(f"unknown metric {metric!r}{did_you_mean(metric, claimable())}")
    return f"{metric} @ {label}"


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"compares two: [metric @ label, metric @ label]{_not_so_many(value)}")
    return value


def _one(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise ValueError(f"is about one: [metric @ label]{_not_so_many(value)}")
        return value[0]
    return value


def _some(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("names a label and the metrics in which it is best: [metric @ label, ...]")
    return value


def _not_so_many(value: Any) -> str:
    return f", not {len(value)}" if isinstance(value, list | tuple) else f", not {value!r}"


def _one_name(item: Any) -> Any:
    if isinstance(item, dict) and len(item) == 1:
        name, body = next(iter(item.items()))
        if isinstance(body, dict):
            return {"name": str(name), **body}
    raise ValueError("a claim is one line: 'what is claimed: {less: [metric @ label, metric @ label]}'")


class _ForEditors:
    """The pattern of what is accepted, made of the metrics that are loaded when it is asked for."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": rf"^\s*({'|'.join(claimable())})\s*@\s*\S.*$"}


# An alias of its own, so that the JSON Schema has the pattern once.
MetricAtLabel = TypeAliasType("MetricAtLabel", Annotated[str, AfterValidator(_metric_at_label), _ForEditors()])
Pair = Annotated[tuple[MetricAtLabel, MetricAtLabel], BeforeValidator(_two)]
One = MetricAtLabel | Annotated[list[MetricAtLabel], Field(min_length=1, max_length=1)]
Some = MetricAtLabel | Annotated[list[MetricAtLabel], Field(min_length=1)]


class Claim(BaseModel):
    """One claim: exactly one comparison.

    `less`, `greater`: the first side against the second; with `by_factor`, by that factor at least. `difference` with
    `at_most`: first minus second. `equal` with `within`: the difference either way. `best`: one label against every
    other synthetic one, or those `among` which it is said to be, in one metric or several. `compatible` with `within`:
    the distance from the published value of the protocol's `reference`.

    `at: equal time` compares two generators as they were after as many seconds of training steps, the longer training
    cut to the shorter one; the profile's option `at` says on which way they are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    less: Pair | None = None
    greater: Pair | None = None
    difference: Pair | None = None
    at_most: float | None = None
    equal: Pair | None = None
    best: Annotated[tuple[MetricAtLabel, ...], BeforeValidator(_some, json_schema_input_type=Some)] | None = None
    compatible: Annotated[MetricAtLabel, BeforeValidator(_one, json_schema_input_type=One)] | None = None
    among: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    within: Annotated[float, Field(gt=0)] | None = None
    by_factor: Annotated[float, Field(gt=1)] | None = None
    scope: Scope | None = None
    at: At = "equal steps"
    must_hold: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _one_comparison(self) -> "Claim":
        chosen = [name for name in COMPARISONS if getattr(self, name) is not None]
        if len(chosen) != 1:
            alternatives = ", ".join(f"'{name}'" for name in COMPARISONS)
            raise ValueError(f"a claim has exactly one of {alternatives}, not {len(chosen)}")
        needed = BOUNDS.get(self.kind)
        for bound in ("at_most", "within"):
            if (bound == needed) != (getattr(self, bound) is not None):
                users = " and ".join(f"'{name}'" for name, key in BOUNDS.items() if key == bound)
                given = f"'{self.kind}' needs '{bound}', a number" if bound == needed else f"'{bound}' is for {users}"
                raise ValueError(f"{given}, for example {{difference: [...], at_most: 0.06}}")
        self._refuse_mixtures()
        self._refuse_foreign_scope()
        self._refuse_best_without_better()
        self._refuse_foreign_rivals()
        self._refuse_foreign_factor()
        self._refuse_foreign_time()
        return self

    def _refuse_foreign_time(self) -> None:
        if self.at == "equal steps":
            return
        if self.kind in ("best", "compatible"):
            raise ValueError("'at: equal time' is for claims of two sides, for example {less: [...], at: equal time}")
        found = find(self.metrics[0])
        if found is None or found.kind not in KEPT:
            raise ValueError(f"'at: equal time' is about what generators are scored by, not {self.metrics[0]}")

    def _refuse_foreign_factor(self) -> None:
        if self.by_factor is None:
            return
        if self.kind not in ("less", "greater"):
            raise ValueError("'by_factor' is for 'less' and 'greater', for example {less: [...], by_factor: 2}")
        if range_of(self.metrics[0])[0] < 0:
            raise ValueError(f"{self.metrics[0]} may be negative, so no factor of it has a meaning; choose fid")

    def _refuse_mixtures(self) -> None:
        metrics, labels = ([split_side(side)[part] for side in self.sides] for part in (0, 1))
        if self.kind == "best":
            if len(set(labels)) > 1:
                raise ValueError(f"'best' is about one label, not {labels[0]!r} and {labels[1]!r}")
            if len(set(metrics)) < len(metrics):
                raise ValueError(f"'best' names {metrics[0]!r} twice")
        elif self.kind != "compatible":
            if metrics[0] != metrics[1]:
                raise ValueError(f"a claim compares one metric, not {metrics[0]!r} with {metrics[1]!r}")
            if labels[0] == labels[1]:
                raise ValueError(f"a claim compares two labels, not {self.sides[0]!r} with itself")

    def _refuse_foreign_scope(self) -> None:
        for metric in self.metrics:
            if is_cost(metric) and (self.scope == "training procedure" or self.kind == "compatible"):
                raise ValueError(f"{metric} is measured in rounds on one machine: leave out 'scope' and 'compatible'")
            if _usual_scope(metric) == "training procedure" and self.scope == "trained models":
                raise ValueError(f"{metric} has one value per trained model: only scope 'training procedure' fits")
        if len({_usual_scope(metric) for metric in self.metrics}) > 1 and self.scope is None:
            raise ValueError("its metrics have different units: give 'scope: training procedure', or make two claims")

    def _refuse_foreign_rivals(self) -> None:
        if self.among is None:
            return
        if self.kind != "best":
            raise ValueError("'among' is for 'best', for example {best: [fid @ SN-MP], among: [SN, SN-MP]}")
        label = split_side(self.sides[0])[1]
        if label not in self.among:
            raise ValueError(f"'among' lacks {label!r} itself; add it")

    def _refuse_best_without_better(self) -> None:
        for metric in self.metrics:
            found = find(metric)
            if self.kind == "best" and found is not None and found.metric.better is None:
                raise ValueError(f"no side of {metric} is better: 'best' means nothing there")

    @property
    def kind(self) -> str:
        """The name of its comparison."""
        return next(name for name in COMPARISONS if getattr(self, name) is not None)

    @property
    def sides(self) -> tuple[str, ...]:
        """Every 'metric @ label' that it names."""
        value = getattr(self, self.kind)
        return (value,) if isinstance(value, str) else tuple(value)

    @property
    def factors(self) -> tuple[float, float]:
        """What each side is multiplied by before they are compared."""
        factor = self.by_factor or 1.0
        return (1.0, factor) if self.kind == "greater" else (factor, 1.0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it is about."""
        return tuple(dict.fromkeys(split_side(side)[0] for side in self.sides))

    @property
    def about(self) -> Scope:
        """Its scope, as given or as its metric has it."""
        return self.scope or _usual_scope(self.metrics[0])

    @property
    def statement(self) -> str:
        """The comparison in words."""
        sides, at = self.sides, " at equal time" if self.at == "equal time" else ""
        if self.kind == "best":
            field = "all synthetic labels" if self.among is None else ", ".join(self.among)
            return f"{' and '.join(sides)} {'is' if len(sides) == 1 else 'are'} the best of {field}"
        if self.kind == "compatible":
            return f"{sides[0]} lies within {self.within:g} of the published value"
        if self.kind == "equal":
            return f"{sides[0]} equals {sides[1]} within {self.within:g}{at}"
        if self.kind == "difference":
            return f"{sides[0]} minus {sides[1]} is at most {self.at_most:g}{at}"
        by = f" by a factor of {self.by_factor:g} at least" if self.by_factor else ""
        return f"{sides[0]} is {self.kind} than {sides[1]}{by}{at}"


ClaimLine = Annotated[Claim, BeforeValidator(_one_name)]


def _usual_scope(metric: str) -> Scope:
    return "trained models" if has_subjects(metric) or is_cost(metric) else "training procedure"
