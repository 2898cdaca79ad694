"""Training of a U-Net, on real patches or on synthetic pairs, with the same budget."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.stages.context import Context, dataclass_from, step_record, throttled
from benchmark.stages.pairs import INT16_SCALE
from vesselgan.data import EpochSampler, VolumeStore, cut, minmax_scale, open_store
from vesselgan.networks import UNet
from vesselgan.recipe import Recipe
from vesselgan.training import UNetConfig, soft_dice_loss, train_unet

__all__ = ["load_unet", "open_unet", "train"]

Batch = tuple[Tensor, Tensor]
CHECKPOINT_EVERY_S = 30.0
GREY_LEVELS = 255  # to which the paper's code stretches each synthetic patch


def train(context: Context) -> dict[str, Any]:
    """Train one U-Net; writes `unet.safetensors` (of the best validation), `unet.json` and `steps.jsonl`.

    Validation is on real patches of the validation subjects, whatever the training data.
    """
    config: UNetConfig = dataclass_from(UNetConfig, context.options["unet"])
    store = open_store(context.inputs["data"] / "store")
    samples, draw = _training_data(context, store)
    sampler = EpochSampler(samples, config.batch, seed=config.seed, drop_last=True)
    validation = store.patches("validation")
    progress = throttled(context.progress)

    def validate(unet: UNet) -> float:
        losses = []
        for start in range(0, len(validation), config.batch):
            images, labels = _real_batch(store, validation[start : start + config.batch], context.recipe)
            losses.append(float(soft_dice_loss(unet(images.to(context.device)), labels.to(context.device))))
        return float(np.mean(losses))

    with step_record(context.folder / "steps.jsonl") as record:

        def on_step(step: int, values: Mapping[str, float]) -> None:
            record(step, values)
            progress(step + 1, config.max_steps, "U-Net steps")

        unet, history = train_unet(
            config,
            lambda step: draw(sampler(step)),
            validate,
            device=context.device,
            checkpoint=context.folder / "checkpoint.pt",
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            on_step=on_step,
        )
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in unet.state_dict().items()},
        context.folder / "unet.safetensors",
    )
    trained = [subject.spacing_mm for subject in store.subjects if subject.split == "train"]
    facts = {
        "filters": config.filters,
        "dropout": config.dropout,
        "precision": config.precision,
        "patch": store.patch_size,
        "intensity_scaling": context.recipe.intensity_scaling,
        "spacing_mm": np.median(trained, axis=0).tolist(),
        "trained_on": f"{samples} {'synthetic pairs' if 'pairs' in context.inputs else 'real patches'}",
    }
    (context.folder / "unet.json").write_text(json.dumps(facts))
    best = min(history, key=lambda validation: validation.validation_loss)
    return {
        "training_samples": samples,
        "steps": history[-1].step,
        "best_step": best.step,
        "validation_loss": best.validation_loss,
        "history": [asdict(validation) for validation in history],
    }


def load_unet(context: Context) -> tuple[UNet, str]:
    """The U-Net of the `unet` input in evaluation mode, and the precision that it was trained in."""
    unet, facts = open_unet(context.inputs["unet"], context.device)
    return unet, facts["precision"]


def open_unet(folder: Path, device: str) -> tuple[UNet, dict[str, Any]]:
    """The U-Net of a `train_unet` folder in evaluation mode, and what `unet.json` says of it."""
    facts: dict[str, Any] = json.loads((folder / "unet.json").read_text())
    unet = UNet(filters=facts["filters"], dropout=facts["dropout"])
    unet.load_state_dict(load_file(folder / "unet.safetensors"))
    return unet.to(device).to(memory_format=torch.channels_last_3d).eval(), facts  # type: ignore[call-overload]


def _training_data(context: Context, store: VolumeStore) -> tuple[int, Callable[[NDArray[np.intp]], Batch]]:
    """How many samples there are, and a function from indices to a batch."""
    if "pairs" not in context.inputs:
        patches = store.patches("train")
        return len(patches), lambda indices: _real_batch(store, patches[indices], context.recipe)
    images = np.load(context.inputs["pairs"] / "images.npy", mmap_mode="r")
    labels = np.load(context.inputs["pairs"] / "labels.npy", mmap_mode="r")
    return len(images), lambda indices: _synthetic_batch(images[indices], labels[indices], context.recipe)


def _synthetic_batch(images: NDArray[np.int16], labels: NDArray[np.bool_], recipe: Recipe) -> Batch:
    scaled = images.astype(np.float32) / np.float32(INT16_SCALE)
    if recipe.intensity_scaling == "patch":
        scaled = np.stack([(minmax_scale(image) + 1) * (GREY_LEVELS / 2) for image in scaled])
    return _batch(scaled, labels)


def _real_batch(store: VolumeStore, indices: NDArray[np.intp], recipe: Recipe) -> Batch:
    """Real patches as a U-Net sees them: one scale per volume, or (D8) the scanner's own intensities."""
    images, labels = store.cut_pairs(indices, "volume")
    if recipe.intensity_scaling == "patch":
        rows = store.patch_table[indices]
        volumes = (store.image(store.subjects[subject].key) for subject in rows[:, 0])
        images[:] = np.stack(
            [cut(volume, corner, store.patch_size) for volume, corner in zip(volumes, rows[:, 1:], strict=True)]
        )
    return _batch(images, labels)


def _batch(images: NDArray[np.float32], labels: NDArray[Any]) -> Batch:
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.float32))[:, None]
