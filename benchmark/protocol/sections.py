"""Parts of a profile whose schema is code: settings of a family of generators, options of a loss."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from vesselgan.errors import InputError, did_you_mean
from vesselgan.families import FAMILIES, WGAN, Family
from vesselgan.families.family import GIVEN

__all__ = [
    "checked_losses",
    "checked_sections",
    "complete_section",
    "section_model",
    "section_names",
    "usual_settings",
    "with_families",
]


def section_names() -> list[str]:
    """The families with a section. A WGAN's settings stand in the profile itself, as in the paper's protocol."""
    return [name for name in FAMILIES if name != WGAN.name]


@cache
def section_model(family: Family[Any]) -> type[BaseModel]:
    """What a profile may say of a family: every setting that no cell decides."""
    return _model_of(family.Config, [field.name for field in fields(family.Config) if field.name not in GIVEN])


def with_families(values: Mapping[str, object]) -> dict[str, object]:
    """A profile as YAML has it, with the sections of families under the one key that they have in the model."""
    sections = {name: values[name] for name in section_names() if name in values}
    if not sections:
        return dict(values)
    rest = {name: value for name, value in values.items() if name not in sections}
    given = values.get("families", {})
    return {**rest, "families": {**given, **sections} if isinstance(given, Mapping) else given}


def checked_sections(sections: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """Each section with its defaults. Raises ValidationError with every error at its place."""
    return {name: model.model_dump(mode="json") for name, model in _checked(sections, _model_of_family).items()}


def checked_losses(losses: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """Options of losses, as they are given. Raises ValidationError with every error at its place."""
    given = _checked(losses, _model_of_loss)
    return {name: model.model_dump(mode="json", exclude_unset=True) for name, model in given.items()}


def usual_settings(family: Family[Any]) -> dict[str, object]:
    """The defaults of a section, in plain values; what has none is left out."""
    model = section_model(family)
    usual = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct(**usual).model_dump(mode="json", include=set(usual))


def complete_section(family: Family[Any], section: Mapping[str, object]) -> dict[str, object]:
    """A section with its defaults. Raises InputError where it lacks what has none."""
    try:
        return section_model(family).model_validate(section).model_dump(mode="json")
    except ValidationError as error:
        lacking = ", ".join(str(detail["loc"][-1]) for detail in error.errors())
        raise InputError(f"a variant of this profile needs its section '{family.name}', with {lacking}") from None


def _model_of_family(name: str) -> type[BaseModel]:
    if name not in section_names():
        raise InputError(f"unknown family of generators {name!r}{did_you_mean(name, section_names())}")
    return section_model(FAMILIES[name])


def _model_of_loss(name: str) -> type[BaseModel]:
    from vesselgan.training.adversarial import LOSSES, own_options  # torch, which most protocols are read without

    return _model_of(LOSSES.get(name), own_options(name))


def _model_of(kind: Any, names: Collection[str]) -> type[BaseModel]:
    """Some fields of a dataclass as a model, which refuses all others."""
    hints = get_type_hints(kind, include_extras=True)
    settings: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(kind)
        if field.name in names
    }
    config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    return create_model(kind.__name__, __config__=config, **settings)


def _checked(
    sections: Mapping[str, Mapping[str, object]], model_of: Callable[[str], type[BaseModel]]
) -> dict[str, BaseModel]:
    """Each section as the model of its name."""
    checked: dict[str, BaseModel] = {}
    problems: list[InitErrorDetails] = []
    for name, section in sections.items():
        model = model_of(name)
        try:
            checked[name] = model.model_validate(section)
        except ValidationError as error:
            problems += [_placed(name, model, detail) for detail in error.errors()]
    if problems:
        raise ValidationError.from_exception_data("Profile", problems)
    return checked


def _placed(name: str, model: type[BaseModel], detail: ErrorDetails) -> InitErrorDetails:
    """An error of a section at its place in the profile, where nobody knows the section's keys any more."""
    kind: PydanticCustomError | str = detail["type"]
    if kind == "extra_forbidden":
        unknown = "unknown key" + did_you_mean(str(detail["loc"][-1]), list(model.model_fields))
        kind = PydanticCustomError("value_error", "{unknown}", {"unknown": unknown})
    return InitErrorDetails(type=kind, loc=(name, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {}))
