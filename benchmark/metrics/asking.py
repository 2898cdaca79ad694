"""What a protocol asks for -> what a stage's options say of it -> the functions that are called, and what they find."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from benchmark.metrics.loading import MODULES
from benchmark.metrics.registry import MEASUREMENTS, Kind, Measurement, Named, Nothing, OwnFeatures, measurements
from vesselgan.errors import InputError

__all__ = [
    "Chosen",
    "Wanted",
    "asked_metrics",
    "chosen",
    "default_options",
    "refuse_missing",
    "refuse_unfit",
    "stage_options",
    "values_of",
]

# Name -> the options of its own model, None where it is left out: of a protocol, and in the options of a stage.
Wanted = Mapping[str, Mapping[str, object] | None]


@dataclass(frozen=True)
class Chosen:
    """A measurement that is to be made, with its options."""

    measurement: Measurement
    options: BaseModel

    def call(self, given: Any) -> Any:
        """What the function returns."""
        function = self.measurement.function
        assert function is not None  # of what is derived nothing is chosen
        return function(given) if self.measurement.options is Nothing else function(given, self.options)

    def by_key(self, found: Any) -> dict[str, Any]:
        """What it returned, by key, without what has no value. Raises ValueError for a key that it did not declare."""
        keys = [metric.key for metric in self.measurement.metrics]
        by_key = dict(found) if isinstance(found, Mapping) else {keys[0]: found}
        if foreign := by_key.keys() - set(keys):
            raise ValueError(f"metric {self.measurement.name}: gave {', '.join(foreign)}, declared {', '.join(keys)}")
        return {key: value for key, value in by_key.items() if value is not None}


def stage_options(asked: Wanted, *kinds: Kind) -> dict[str, Mapping[str, object] | None]:
    """What the options of a stage say of the metrics of these kinds; `asked` is the dump of a protocol's `metrics`.

    Of the built-in ones their options, None for one that is left out. One of somebody's own has its version, too, since
    its code is no part of the stage's; it is named only where it is asked for, so that all other keys stay as they are.
    """
    content: dict[str, Mapping[str, object] | None] = {}
    for each in measurements(*kinds):
        options = asked.get(each.name)
        if options is None and each.later:
            continue
        if each.is_asked_for and each.is_built_in:
            content[each.name] = options
        elif each.is_asked_for and options is not None:
            content[each.name] = {"version": each.version, "options": options}
    return content


def asked_metrics(asked: Wanted) -> list[Named]:
    """Every metric that a run of a protocol has; `asked` is the dump of its `metrics`."""
    wanted = (each for each in measurements() if not each.is_asked_for or asked.get(each.name) is not None)
    return [named for each in wanted for named in each.named]


def default_options(*kinds: Kind, also: Collection[str] = ()) -> dict[str, Mapping[str, object] | None]:
    """The same where no protocol asks: every metric that is loaded with its default options.

    Of what came later, only those that `also` names.
    """
    wanted = (each for each in measurements(*kinds) if not each.later or each.name in also)
    asked = {each.name: each.options().model_dump(mode="json") for each in wanted}
    return stage_options(asked, *kinds)


def refuse_unfit(options: Wanted) -> None:
    """Raises InputError for a metric that is not loaded, or not in the version that the stage was planned with."""
    for name, content in options.items():
        measurement = MEASUREMENTS.get(name)
        if measurement is None:
            raise InputError(
                f"metric {name}: is not loaded here; name the module or file that registers it in {MODULES}"
            )
        if not measurement.is_built_in and content is not None and content["version"] != measurement.version:
            planned = f"planned with version {content['version']}, which is {measurement.version} here"
            raise InputError(f"metric {name}: {planned}; plan it again")


def refuse_missing(options: Wanted) -> None:
    """Raises InputError for a metric of features of its own of which a library is missing here."""
    for each in chosen("set", options):
        if isinstance(each.options, OwnFeatures):
            try:
                each.options.check()
            except InputError as error:
                raise InputError(f"metric {each.measurement.name}: {error}") from None


def chosen(kind: Kind, options: Wanted) -> list[Chosen]:
    """What is measured where a stage has these options, of one kind: what always is, and what was asked for."""
    refuse_unfit(options)
    found = []
    for each in measurements(kind):
        content = options.get(each.name)
        if not each.is_asked_for:
            found.append(Chosen(each, each.options()))
        elif content is not None:
            own = content if each.is_built_in else content["options"]
            found.append(Chosen(each, each.options.model_validate(own)))
    return found


def values_of(kind: Kind, given: Any, options: Wanted) -> dict[str, float]:
    """What all of `chosen` find, by key. Raises ValueError for a value that is no number."""
    values: dict[str, float] = {}
    for each in chosen(kind, options):
        values |= {key: float(value) for key, value in each.by_key(each.call(given)).items()}
    for key, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {key}: is {value}; a function returns None where there is no value")
    return values
