"""Training of a U-Net, on real patches, on synthetic pairs or on both, with the same budget."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.artifacts.options import TrainUNetOptions
from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import read_steps
from benchmark.artifacts.values import UNetValues, finite
from benchmark.stages.context import Context, rejected_steps, sound_checkpoint, step_record, throttled
from vesselgan.data import (
    Augmentation,
    EpochSampler,
    StoredSubject,
    VolumeStore,
    apply_range,
    augment,
    cut,
    minmax_scale,
    open_store,
)
from vesselgan.data.store import overhang_of
from vesselgan.inference import segment_volume
from vesselgan.metrics import dice
from vesselgan.networks import UNet
from vesselgan.recipe import Recipe
from vesselgan.settings import PrecisionName, from_options
from vesselgan.training import Precision, UNetConfig, choose_precision, train_unet

__all__ = ["UNetFacts", "best_threshold", "open_unet", "scaled", "scaled_volume", "train", "volume_loss"]

Batch = tuple[Tensor, Tensor]
CHECKPOINT_EVERY_S = 30.0
GREY_LEVELS = 255  # to which the paper's code stretches each synthetic patch
# Of equally good ones the first is taken.
THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.05, 0.95, 0.02, 0.98)


class UNetFacts(TypedDict):
    """`unet.json`: what it takes to use the network, and what it learned from."""

    filters: Sequence[int]
    dropout: float
    precision: PrecisionName
    patch: Sequence[int]
    intensity_scaling: str
    spacing_mm: Sequence[float]  # the median of the training subjects
    trained_on: dict[str, int]
    threshold: float  # of the probability of vessel


class TrainedUNet(UNetValues):
    """The values of the stage."""

    threshold: float
    validation_loss: float


def train(context: Context[TrainUNetOptions]) -> TrainedUNet:
    """Train one U-Net; writes `unet.safetensors` (of the best validation), `unet.json` and `steps.jsonl`.

    Without the input `pairs` it learns from real patches; with it from these; with the option `real` beside it from
    both, half of every batch each. `real` names the training subjects whose patches it sees, all of them if left out.
    Validation is on the whole volumes of the validation subjects, whatever the training data: see `volume_loss`. With
    the option `threshold: validation` they choose the weights and the probability that is vessel by `best_threshold`.
    """
    config: UNetConfig = from_options(UNetConfig, context.options["unet"])
    store = open_store(context.inputs["data"] / "store")
    parts = _training_parts(context, store, config)
    precision = choose_precision(config.precision, context.device)
    progress = throttled(context.progress)
    threshold = context.options.get("threshold", 0.5)

    def batch(step: int) -> Batch:
        images, labels = zip(*(part.draw(part.sampler(step)) for part in parts.values()), strict=True)
        return _varied((torch.cat(images), torch.cat(labels)), step, config.seed, context.options.get("augmentation"))

    def validate(unet: UNet) -> float:
        if threshold == "validation":
            return -best_threshold(unet, store, context.recipe, precision, config.batch)[1]
        return volume_loss(unet, store, context.recipe, precision, config.batch)

    with step_record(context.folder / "steps.jsonl") as record:

        def on_step(step: int, values: Mapping[str, float]) -> None:
            record(step, values)
            progress(step + 1, config.max_steps, "U-Net steps")

        unet, history = train_unet(
            config,
            batch,
            validate,
            device=context.device,
            checkpoint=sound_checkpoint(context.folder),
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            on_step=on_step,
        )
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in unet.state_dict().items()},
        context.folder / "unet.safetensors",
    )
    samples = {name: part.sampler.samples for name, part in parts.items()}
    if threshold == "validation":
        threshold, _ = best_threshold(unet, store, context.recipe, precision, config.batch)
    facts: UNetFacts = {
        "filters": config.filters,
        "dropout": config.dropout,
        "precision": config.precision,
        "patch": store.patch_size,
        "intensity_scaling": context.recipe.intensity_scaling,
        "spacing_mm": store.usual_spacing_mm("train"),
        "trained_on": samples,
        "threshold": threshold,
    }
    (context.folder / "unet.json").write_text(json.dumps(facts))
    best = min(
        (entry for entry in history if math.isfinite(entry.validation_loss)), key=lambda entry: entry.validation_loss
    )
    return {
        "training_samples": samples,
        "steps": history[-1].step,
        "best_step": best.step,
        "threshold": threshold,
        "validation_loss": best.validation_loss,
        "history": [
            {
                "step": each.step,
                "training_loss": finite(each.training_loss),
                "validation_loss": finite(each.validation_loss),
            }
            for each in history
        ],
        "steps_rejected": rejected_steps(read_steps(context.folder / "steps.jsonl")),
    }


def open_unet(folder: Path, device: str) -> tuple[UNet, UNetFacts]:
    """The U-Net of a `train_unet` folder in evaluation mode, and what `unet.json` says of it."""
    facts: UNetFacts = {"threshold": 0.5} | json.loads((folder / "unet.json").read_text())
    unet = UNet(filters=facts["filters"], dropout=facts["dropout"])
    unet.load_state_dict(load_file(folder / "unet.safetensors"))
    return unet.to(device).to(memory_format=torch.channels_last_3d).eval(), facts  # type: ignore[call-overload]


def volume_loss(unet: UNet, store: VolumeStore, recipe: Recipe, precision: Precision, batch: int) -> float:
    """What early stopping sees: minus the soft Dice of each validation subject's whole volume, its mean over subjects.

    A volume is segmented by tiles of the patch size that cover it with no more overlap than its size makes necessary.
    Soft Dice is that of `soft_dice_loss`, with the sums over all voxels of the volume.
    """
    losses = []
    for subject, probability in _validation_volumes(unet, store, recipe, precision, batch):
        truth = store.label(subject.key)
        overlap = probability.sum(where=truth, dtype=np.float64)
        losses.append(-(2 * overlap + 1) / (probability.sum(dtype=np.float64) + np.count_nonzero(truth) + 1))
    return float(np.mean(losses))


def best_threshold(
    unet: UNet, store: VolumeStore, recipe: Recipe, precision: Precision, batch: int
) -> tuple[float, float]:
    """The probability of THRESHOLDS above which a voxel best counts as vessel, and the DSC with it.

    The DSC is the mean over the validation subjects, inside their brain masks where they have any: what the paper's
    abstract states. A U-Net that learned from synthetic pairs meets other intensities in real volumes, and 0.5 is then
    no better than another probability.
    """
    scores = []
    for subject, probability in _validation_volumes(unet, store, recipe, precision, batch):
        mask = store.mask(subject.key)
        inside = True if mask is None else mask
        truth = store.label(subject.key) & inside
        scores.append([dice(truth, (probability > threshold) & inside, empty="inf") for threshold in THRESHOLDS])
    means = np.mean(scores, axis=0)
    best = int(np.argmax(means))
    return THRESHOLDS[best], float(means[best])


def _validation_volumes(
    unet: UNet, store: VolumeStore, recipe: Recipe, precision: Precision, batch: int
) -> Iterator[tuple[StoredSubject, NDArray[np.float32]]]:
    """Each validation subject and its probability of vessel (X, Y, Z)."""
    for subject in (subject for subject in store.subjects if subject.split == "validation"):
        image = scaled_volume(store, subject, recipe.intensity_scaling)
        yield subject, segment_volume(unet, image, store.patch_size, precision=precision, overlap=0.0, batch=batch)


def scaled_volume(store: VolumeStore, subject: StoredSubject, scaling: str) -> NDArray[np.float32]:
    """A subject's whole volume on the scale of the real patches."""
    return scaled(store.image(subject.key), subject.intensity_range, scaling)


def scaled(image: NDArray[Any], intensity_range: tuple[float, float], scaling: str) -> NDArray[np.float32]:
    """A volume on the scale of the real patches: one range for the volume, or (D8) the scanner's own intensities."""
    return apply_range(image, *intensity_range) if scaling == "volume" else image.astype(np.float32)


@dataclass(frozen=True)
class _Part:
    """One kind of training data: which of its samples make a step's share of the batch, and how they are read."""

    sampler: EpochSampler
    draw: Callable[[NDArray[np.intp]], Batch]


def _training_parts(context: Context[TrainUNetOptions], store: VolumeStore, config: UNetConfig) -> dict[str, _Part]:
    """Real patches, synthetic pairs, or both: then each is half of every batch, however many there are of it."""
    has_pairs, real_subjects = "pairs" in context.inputs, context.options.get("real")
    of_real = config.batch - config.batch // 2 if has_pairs else config.batch
    parts = {}
    if not has_pairs or real_subjects is not None:
        patches = _real_patches(store, real_subjects)
        sampler = EpochSampler(len(patches), of_real, seed=config.seed, drop_last=True)
        parts["real"] = _Part(sampler, lambda indices: _real_batch(store, patches[indices], context.recipe))
    if has_pairs:
        images = np.load(context.inputs["pairs"] / "images.npy", mmap_mode="r")
        labels = np.load(context.inputs["pairs"] / "labels.npy", mmap_mode="r")
        share = config.batch // 2 if parts else config.batch
        sampler = EpochSampler(len(images), share, seed=config.seed, drop_last=True)
        parts["synthetic"] = _Part(
            sampler, lambda indices: _synthetic_batch(images[indices], labels[indices], context.recipe)
        )
    return parts


def _real_patches(store: VolumeStore, subjects: Sequence[str] | None) -> NDArray[np.intp]:
    """Rows of the patch table: of all training subjects, or of these."""
    patches = store.patches("train")
    if subjects is None:
        return patches
    wanted = [index for index, subject in enumerate(store.subjects) if subject.key in set(subjects)]
    return np.asarray(patches[np.isin(store.patch_table[patches, 0], wanted)])


def _synthetic_batch(images: NDArray[np.int16], labels: NDArray[np.bool_], recipe: Recipe) -> Batch:
    scaled = decoded(images)
    if recipe.intensity_scaling == "patch":
        scaled = np.stack([(minmax_scale(image) + 1) * (GREY_LEVELS / 2) for image in scaled])
    return _batch(scaled, labels)


def _real_batch(store: VolumeStore, indices: NDArray[np.intp], recipe: Recipe) -> Batch:
    """Real patches as a U-Net sees them: one scale per volume, or (D8) the scanner's own intensities."""
    images, labels = store.cut_pairs(indices, "volume")
    if recipe.intensity_scaling == "patch":
        rows = store.patch_table[indices]
        subjects = (store.subjects[index] for index in rows[:, 0])
        images[:] = np.stack(
            [
                cut(store.image(subject.key), corner, store.patch_size, overhang_of(subject.intensity_range[0]))
                for subject, corner in zip(subjects, rows[:, 1:], strict=True)
            ]
        )
    return _batch(images, labels)


def _varied(batch: Batch, step: int, seed: int, settings: Mapping[str, object] | None) -> Batch:
    """The batch of a training step, augmented if the profile asks for it; the paper does not."""
    if settings is None:
        return batch
    images, labels = (tensor[:, 0].numpy() for tensor in batch)
    return _batch(*augment(images, labels, from_options(Augmentation, settings), seed=seed, step=step))


def _batch(images: NDArray[np.float32], labels: NDArray[Any]) -> Batch:
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.float32))[:, None]
