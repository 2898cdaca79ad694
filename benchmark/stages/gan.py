"""Training of a WGAN on real pairs, and the pairs that it then makes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.stages.context import Context, dataclass_from, step_record, throttled
from benchmark.stages.pairs import INT16_SCALE, describe_pairs
from vesselgan.data import EpochSampler, VolumeStore, open_store
from vesselgan.networks import Generator
from vesselgan.recipe import Recipe
from vesselgan.synthesis import synthesise
from vesselgan.training import WGANConfig, choose_precision, train_wgan

__all__ = ["load_generator", "synthesise_pairs", "train"]

CHECKPOINT_EVERY_S = 30.0


def train(context: Context) -> dict[str, Any]:
    """Train one WGAN; writes `generator.safetensors`, `generator.json` and `steps.jsonl`."""
    options, recipe = dict(context.options["wgan"]), context.recipe
    store = open_store(context.inputs["data"] / "store")
    patches = store.patches("train")
    sampler = EpochSampler(len(patches), options["batch"], seed=options["seed"], drop_last=recipe.drop_last)
    epochs = options.pop("epochs")
    options["steps"] = options["steps"] or epochs * sampler.steps_per_epoch
    config: WGANConfig = dataclass_from(WGANConfig, {**options, "recipe": recipe})
    progress = throttled(context.progress)
    with step_record(context.folder / "steps.jsonl") as record:

        def on_step(step: int, values: Mapping[str, float]) -> None:
            record(step, values)
            progress(step + 1, config.steps, "WGAN steps")

        generator = train_wgan(
            config,
            lambda step: real_pairs(store, patches[sampler(step)], recipe),
            device=context.device,
            checkpoint=context.folder / "checkpoint.pt",
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            on_step=on_step,
        )
    state = {name: tensor.contiguous().cpu() for name, tensor in generator.state_dict().items()}
    save_file(state, context.folder / "generator.safetensors")
    shape = {"patch_size": config.patch_size, "filters": config.filters, "latent": config.latent}
    (context.folder / "generator.json").write_text(json.dumps({**shape, "precision": config.precision}))
    steps = [json.loads(line) for line in (context.folder / "steps.jsonl").read_text().splitlines()]
    last = steps[-max(1, len(steps) // 10) :]
    names = ("critic_loss", "generator_loss", "penalty", "wasserstein")
    known = {name: [step[name] for step in last if step[name] is not None] for name in names}
    return {
        "steps": config.steps,
        "epochs": config.steps / sampler.steps_per_epoch,
        "native_precision": choose_precision(config.precision, context.device).native,
        "steps_without_finite_loss": sum(any(step[name] is None for name in names) for step in steps),
        "mean_of_last_tenth": {name: float(np.mean(values)) if values else None for name, values in known.items()},
    }


def real_pairs(store: VolumeStore, indices: np.ndarray[Any, Any], recipe: Recipe) -> Tensor:
    """Real pairs (B, 2, X, Y, Z): image in [-1, 1], label in {recipe.label_low, 1}."""
    images, labels = store.cut_pairs(indices, recipe.intensity_scaling)
    channel = labels.astype(np.float32) * (1 - recipe.label_low) + recipe.label_low
    return torch.from_numpy(np.stack([images, channel], axis=1))


def load_generator(folder: Path, device: str) -> tuple[Generator, str]:
    """The generator of a finished `train_gan` folder, and the precision that it was trained in."""
    facts = json.loads((folder / "generator.json").read_text())
    generator = Generator(facts["patch_size"], facts["filters"], facts["latent"])
    generator.load_state_dict(load_file(folder / "generator.safetensors"))
    return generator.to(device), facts["precision"]


def synthesise_pairs(context: Context) -> dict[str, Any]:
    """Write `images.npy` (N, X, Y, Z) int16, scaled by INT16_SCALE, `labels.npy` bool, and some pairs to be shown."""
    options = context.options
    generator, precision = load_generator(context.inputs["gan"], context.device)
    count = int(options["pairs"])
    shape = (count, *generator.patch_size)
    images = open_memmap(context.folder / "images.npy", "w+", np.int16, shape)
    labels = open_memmap(context.folder / "labels.npy", "w+", np.bool_, shape)
    progress, done = throttled(context.progress), 0
    batches = synthesise(
        generator,
        count,
        seed=options["seed"],
        recipe=context.recipe,
        precision=choose_precision(precision, context.device),
        batch=options["batch"],
    )
    for pairs in batches:
        end = done + len(pairs.images)
        images[done:end] = np.rint(pairs.images * INT16_SCALE)
        labels[done:end] = pairs.labels
        done = end
        progress(done, count, "synthetic pairs")
    images.flush()
    labels.flush()
    return describe_pairs(context.folder, images, labels)
