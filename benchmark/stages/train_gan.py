"""Training of a WGAN on real pairs, and the pairs that it then makes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark.stages.context import Context, dataclass_from, read_steps, rejected_steps, step_record, throttled
from benchmark.stages.training_course import OBSERVATIONS, CourseRecorder, evenly_spaced
from vesselgan.data import Augmentation, EpochSampler, PoissonSampler, VolumeStore, augment, open_store
from vesselgan.recipe import Recipe
from vesselgan.training import Privacy, WGANConfig, choose_precision, epsilon_spent, train_wgan

__all__ = ["privacy_from", "train"]

CHECKPOINT_EVERY_S = 30.0
LOSSES = ("critic_loss", "generator_loss", "penalty", "wasserstein")


def train(context: Context) -> dict[str, Any]:
    """Train one WGAN; writes `generator.safetensors`, `generator.json`, `steps.jsonl` and `course.npz`.

    Its setting `flips` names axes along which each real pair is mirrored half of the times that it is drawn.
    """
    options, recipe = dict(context.options["wgan"]), context.recipe
    store = open_store(context.inputs["data"] / "store")
    patches = store.patches("train")
    privacy = options["privacy"] = privacy_from(settings := options.get("privacy"))
    sampler = _sampler(len(patches), options, recipe)
    epochs = options.pop("epochs")
    varied = Augmentation(flips=tuple(options.pop("flips", ())), share=0)
    options["steps"] = options["steps"] or epochs * sampler.steps_per_epoch
    config: WGANConfig = dataclass_from(WGANConfig, {**options, "recipe": recipe})
    progress = throttled(context.progress)
    seen = [real_pairs(store, evenly_spaced(store.patches(split)), recipe) for split in ("train", "validation")]
    course = CourseRecorder(context.folder / "course.npz", *seen, seed=config.seed, label_low=recipe.label_low)

    def draw(index: int) -> Tensor:
        pairs = real_pairs(store, patches[sampler(index)], recipe)
        if not varied.flips:
            return pairs
        images, labels = pairs.numpy().swapaxes(0, 1)
        return torch.from_numpy(np.stack(augment(images, labels, varied, seed=config.seed, step=index), axis=1))

    def real_batch(step: int) -> Tensor | list[Tensor]:
        if privacy is None or recipe.dp_updates == "two":
            return draw(step)
        return [draw(index) for index in range(step * config.critic_steps, (step + 1) * config.critic_steps)]

    with step_record(context.folder / "steps.jsonl") as record:

        def on_step(step: int, values: Mapping[str, float]) -> None:
            record(step, values)
            progress(step + 1, config.steps, "WGAN steps")

        generator = train_wgan(
            config,
            real_batch,
            device=context.device,
            checkpoint=context.folder / "checkpoint.pt",
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            on_step=on_step,
            observe=course,
            observe_every=max(1, config.steps // OBSERVATIONS),
        )
    state = {name: tensor.contiguous().cpu() for name, tensor in generator.state_dict().items()}
    save_file(state, context.folder / "generator.safetensors")
    shape = {"patch_size": config.patch_size, "filters": config.filters, "latent": config.latent}
    facts = {**shape, "precision": config.precision, "ema": config.ema}
    (context.folder / "generator.json").write_text(json.dumps(facts))
    steps = read_steps(context.folder / "steps.jsonl")
    last = steps[-max(1, len(steps) // 10) :]
    known = {name: [step[name] for step in last if step[name] is not None] for name in LOSSES}
    gaps = [step["score_gap"] for step in steps if "score_gap" in step]
    return {
        "steps": config.steps,
        "epochs": config.steps / sampler.steps_per_epoch,
        "native_precision": choose_precision(config.precision, context.device).native,
        "steps_rejected": rejected_steps(steps),
        "mean_of_last_tenth": {name: float(np.mean(values)) if values else None for name, values in known.items()},
        "last_score_gap": gaps[-1] if gaps else None,
        "privacy": _privacy_spent(config, settings, sampler.sample_rate)
        if settings is not None and isinstance(sampler, PoissonSampler)
        else None,
    }


def privacy_from(settings: Mapping[str, float] | None) -> Privacy | None:
    """The library's settings of a stage's `privacy` option, which also has the delta of its accounting."""
    if settings is None:
        return None
    return Privacy(**{name: value for name, value in settings.items() if name != "delta"})


def _sampler(samples: int, options: Mapping[str, Any], recipe: Recipe) -> EpochSampler | PoissonSampler:
    if options["privacy"] is not None:
        return PoissonSampler(samples, options["batch"], seed=options["seed"])
    return EpochSampler(samples, options["batch"], seed=options["seed"], drop_last=recipe.drop_last)


def _privacy_spent(config: WGANConfig, settings: Mapping[str, float], sample_rate: float) -> dict[str, Any]:
    """Everything that epsilon rests on, and what it does not cover."""
    per_pass = 2 if config.recipe.dp_updates == "two" else 1
    updates = config.steps * config.critic_steps * per_pass
    noise = settings["noise_multiplier"]
    epsilon, warned = epsilon_spent(
        noise_multiplier=noise, sample_rate=sample_rate, updates=updates, delta=settings["delta"]
    )
    shared = config.recipe.dp_updates == "two" and config.critic_steps > 1
    return {
        **settings,
        "epsilon": epsilon,
        "sample_rate": sample_rate,
        "noisy_updates": updates,
        "accountant": "opacus RDP, Poisson sampling",
        "unit": "one training patch; a subject gives many and is protected less",
        "caveats": [
            *warned,
            *(["critic passes share a batch (D14), which the accountant does not cover"] if shared else []),
        ],
    }


def real_pairs(store: VolumeStore, indices: np.ndarray[Any, Any], recipe: Recipe) -> Tensor:
    """Real pairs (B, 2, X, Y, Z): image in [-1, 1], label in {recipe.label_low, 1}."""
    return torch.from_numpy(store.cut_channels(indices, recipe.intensity_scaling, label_low=recipe.label_low))
