"""What MLflow loads a logged generator or U-Net by: `mlflow.pyfunc.load_model("models:/ID").predict(...)`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmark.artifacts.generators import FACTS, load_generator
from benchmark.stages.train_unet import open_unet
from vesselgan.errors import InputError
from vesselgan.families import Sampler
from vesselgan.networks import UNet
from vesselgan.recipe import resolve_recipe

__all__ = ["GeneratorModel", "UNetModel"]

BATCH = 8


class GeneratorModel:
    """A trained generator on the CPU."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def predict(self, asked: pd.DataFrame, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """A row of `count` and `seed` -> (count, 2, X, Y, Z): image in [-1, 1], and vessel label as 0 or 1."""
        count, seed = int(asked["count"].iloc[0]), int(asked["seed"].iloc[0])
        parts = [
            np.stack([pairs.images, pairs.labels.astype(np.float32)], axis=1)
            for pairs in self._sampler.sample(count, seed=seed, batch=BATCH)
        ]
        return np.concatenate(parts).astype(np.float32)


class UNetModel:
    """A trained U-Net on the CPU."""

    def __init__(self, unet: UNet) -> None:
        self._unet = unet

    def predict(self, patches: NDArray[np.float32], params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Patches (N, X, Y, Z), on the scale of those that it learned from -> each voxel's chance of being vessel."""
        with torch.inference_mode():
            parts = [
                self._unet(torch.from_numpy(part)[:, None])
                for part in np.array_split(patches, -(-len(patches) // BATCH))
            ]
        return torch.cat(parts)[:, 0].float().sigmoid().numpy()


def _load_pyfunc(path: str) -> GeneratorModel | UNetModel:
    """Called by MLflow with the folder of the network's files, or of a note on where they are. Raises InputError."""
    folder = Path(path)
    recipe = resolve_recipe("corrected", json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
    if (folder / "place.txt").is_file():
        folder = Path((folder / "place.txt").read_text(encoding="utf-8"))
        if not folder.is_dir():
            raise InputError(f"{folder}: the network is no longer there; run its protocol again")
    if (folder / FACTS).is_file():
        return GeneratorModel(load_generator(folder, recipe, "cpu")[1])
    return UNetModel(open_unet(folder, "cpu")[0])
