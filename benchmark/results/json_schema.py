"""The JSON Schema of results.json, for whoever reads it by program."""

from typing import Any

from pydantic import TypeAdapter

from benchmark.protocol.json_schema import Untitled
from benchmark.results.format import Results

__all__ = ["FILE", "results_json_schema"]

FILE = "results.schema.json"  # in this folder, as `python -m benchmark schema --results` writes it


def results_json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) in plain JSON values. Objects of results.json have no other keys than it names.

    What stages and the machine tell of themselves is passed on whole, and may say more.
    """
    schema = TypeAdapter(Results).json_schema(schema_generator=Untitled)
    return {"$schema": Untitled.schema_dialect, **schema, "title": "results.json"}
