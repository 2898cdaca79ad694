"""The sections of a profile about families of generators: their schema is the family's own configuration."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from vesselgan.errors import InputError, did_you_mean
from vesselgan.families import FAMILIES, WGAN, Family
from vesselgan.families.family import GIVEN

__all__ = ["checked_sections", "complete_section", "section_model", "section_names", "usual_settings", "with_families"]


def section_names() -> list[str]:
    """The families with a section. A WGAN's settings stand in the profile itself, as in the paper's protocol."""
    return [name for name in FAMILIES if name != WGAN.name]


@cache
def section_model(family: Family[Any]) -> type[BaseModel]:
    """What a profile may say of a family: every setting that no cell decides."""
    hints = get_type_hints(family.Config, include_extras=True)
    settings: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(family.Config)
        if field.name not in GIVEN
    }
    config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    return create_model(f"{family.Config.__name__}Section", __config__=config, **settings)


def with_families(values: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as YAML has it, with the sections of families under the one key that they have in the model."""
    sections = {name: values[name] for name in section_names() if name in values}
    if not sections:
        return dict(values)
    rest = {name: value for name, value in values.items() if name not in sections}
    return {**rest, "families": {**values.get("families", {}), **sections}}


def checked_sections(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each section with its defaults. Raises ValidationError with every error at its place."""
    checked: dict[str, dict[str, Any]] = {}
    problems: list[InitErrorDetails] = []
    for name, section in sections.items():
        try:
            checked[name] = _checked(name, section)
        except ValidationError as error:
            problems += [_placed(name, detail) for detail in error.errors()]
    if problems:
        raise ValidationError.from_exception_data("Profile", problems)
    return checked


def usual_settings(family: Family[Any]) -> dict[str, Any]:
    """The defaults of a section, in plain values; what has none is left out."""
    model = section_model(family)
    usual = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct(**usual).model_dump(mode="json", include=set(usual))


def complete_section(family: Family[Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its defaults. Raises InputError where it lacks what has none."""
    try:
        return _checked(family.name, section)
    except ValidationError as error:
        lacking = ", ".join(str(detail["loc"][-1]) for detail in error.errors())
        raise InputError(f"a variant of this profile needs its section '{family.name}', with {lacking}") from None


def _placed(name: str, detail: ErrorDetails) -> InitErrorDetails:
    """An error of a section in the profile, where nobody knows its keys any more."""
    kind: PydanticCustomError | str = detail["type"]
    if kind == "extra_forbidden":
        known = list(section_model(FAMILIES[name]).model_fields)
        unknown = "unknown key" + did_you_mean(str(detail["loc"][-1]), known)
        kind = PydanticCustomError("value_error", "{unknown}", {"unknown": unknown})
    return InitErrorDetails(type=kind, loc=(name, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {}))


def _checked(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    if name not in FAMILIES:
        raise InputError(f"unknown family of generators {name!r}{did_you_mean(name, list(FAMILIES))}")
    return section_model(FAMILIES[name]).model_validate(section).model_dump(mode="json")
