"""`import`: somebody else's checkpoint -> networks in our own files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import app, console, numbers
from vesselgan.files import atomic_path, write_text

__all__ = ["import_checkpoint"]


@app.command("import")
def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file of the paper's code (Generator_state_dict, ...)")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for generator, critic and what is known of them")],
    patch: Annotated[
        str, typer.Option("--patch", metavar="X,Y,Z", help="Patch size in voxels; the checkpoint does not store it")
    ] = "128,128,64",
) -> None:
    """Turn a checkpoint of the paper's code into our own files. No code in it is run."""
    from safetensors.torch import save_file

    from vesselgan.networks.importing import import_gan

    imported = import_gan(checkpoint, numbers(patch, "--patch", 3, int))
    source = {"file": checkpoint.name, "sha256": imported.sha256, "mixed_precision": imported.mixed_precision}
    generator, critic = imported.generator, imported.critic
    facts: dict[str, dict[str, object]] = {
        "generator": {
            "patch_size": generator.patch_size,
            "filters": generator.filters,
            "latent": generator.latent,
            "precision": "fp32",  # the paper's code generates without autocast, however the weights were trained
        }
    }
    if critic is not None:
        facts["critic"] = {"patch_size": critic.patch_size, "filters": critic.filters, "norm": critic.norm}
    for name, network in (("generator", generator), ("critic", critic)):
        if network is not None:
            with atomic_path(out / f"{name}.safetensors") as temporary:
                save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, temporary)
            write_text(out / f"{name}.json", json.dumps({**facts[name], "source": source}, indent=1))
            console.print(f"{name}: {out / name}.safetensors {facts[name]}", soft_wrap=True, highlight=False)
    console.print(f"from {checkpoint} (SHA-256 {imported.sha256})", soft_wrap=True, highlight=False)
