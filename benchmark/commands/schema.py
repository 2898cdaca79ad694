"""`schema`: the JSON Schema of protocols, for editors, and of results.json, for programs; and `--version`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmark import __version__
from benchmark.commands.options import app, console
from vesselgan.files import write_text

__all__ = ["schema"]


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"vesselgan-benchmark {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and stop", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Check, compare and use 3D generative models of labelled brain-vessel MRI."""


@app.command()
def schema(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; printed if left out", dir_okay=False)
    ] = None,
    results: Annotated[bool, typer.Option("--results", help="That of results.json instead")] = False,
) -> None:
    """Write the JSON Schema of protocols. An editor with a YAML language server completes and checks them with it."""
    from benchmark.protocol.json_schema import protocol_json_schema
    from benchmark.results.json_schema import results_json_schema

    text = json.dumps(results_json_schema() if results else protocol_json_schema(), indent=1) + "\n"
    if out is None:
        print(text, end="")
        return
    write_text(out, text)
    hint = "" if results else f": begin a protocol beside it with '# yaml-language-server: $schema={out.name}'"
    console.print(f"{out}{hint}", soft_wrap=True, highlight=False)
