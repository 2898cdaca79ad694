"""The JSON Schema of protocols, for editors. What keys mean together only `load` knows, which has the last word."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from benchmark.protocol.schema import protocol_model
from benchmark.protocol.sections import section_model, section_names
from vesselgan.families import FAMILIES

__all__ = ["FILE", "Untitled", "protocol_json_schema"]

FILE = "protocol.schema.json"  # beside the shipped protocols, which name it in their first line


def protocol_json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a protocol as it stands in YAML, in plain JSON values, with the metrics loaded."""
    schema = protocol_model().model_json_schema(schema_generator=Untitled)
    # In YAML a claim stands under its name; the model has the name inside.
    claim = schema["$defs"]["Claim"]
    del claim["properties"]["name"], claim["required"]
    one = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"$ref": "#/$defs/Claim"}}
    schema["properties"]["claims"]["items"] = one
    schema["properties"]["arms"]["additionalProperties"] = False  # beside its pattern of keys
    # A section of a family stands under its name; the model has all of them under one.
    profile = schema["$defs"]["Profile"]["properties"]
    del profile["families"]
    for name in section_names():
        section = section_model(FAMILIES[name]).model_json_schema(schema_generator=Untitled)
        profile[name] = {key: value for key, value in section.items() if key != "title"}
    return {"$schema": Untitled.schema_dialect, **schema}


class Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes of names, which tell an editor's user nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # a type that pydantic's versions name differently
        """Never."""
        return False
