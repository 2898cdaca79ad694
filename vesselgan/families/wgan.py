"""The paper's family: 3D Wasserstein GANs with gradient penalty, or with differential privacy in its place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vesselgan.families.family import SHOWN, Family, Task, Trained
from vesselgan.recipe import Recipe, resolve_recipe
from vesselgan.settings import PrecisionName, Privacy, WGANConfig

if TYPE_CHECKING:
    from torch import Tensor

    from vesselgan.data import EpochSampler, PoissonSampler, VolumeStore
    from vesselgan.networks import Generator
    from vesselgan.numerics import Operation
    from vesselgan.synthesis import Pairs
    from vesselgan.training import WGANTrainer

__all__ = ["STEP_RECIPE", "WGAN", "WGANSampler", "real_pairs"]

# Which deviations a training step reads.
STEP_RECIPE = (
    "penalty_norm",
    "epsilon",
    "interpolate",
    "critic_update",
    "critic_init",
    "gamma_mean",
    "reductions",
)
SIZE_RECIPE = ("interpolate", "critic_update", "dp_updates")  # which decide what it costs
SCORED = 8  # real patches of either kind that the critic is asked about now and then


@dataclass(frozen=True, eq=False)
class WGANSampler:
    """A trained generator, and how it generates: with which statistics, and from where on a voxel is vessel."""

    network: "Generator"
    precision: PrecisionName
    recipe: Recipe
    ema: float | None = None

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Of each pair, in voxels."""
        return self.network.patch_size

    @property
    def facts(self) -> Mapping[str, Any]:
        """For `WGAN.load`."""
        shape = {"patch_size": self.patch_size, "filters": self.network.filters, "latent": self.network.latent}
        return {**shape, "precision": self.precision, "ema": self.ema}

    def sample(self, count: int, *, seed: int, batch: int, start: int = 0) -> "Iterator[Pairs]":
        """Yield pairs as `vesselgan.synthesis.synthesise` does."""
        from vesselgan.synthesis import synthesise
        from vesselgan.training import choose_precision

        precision = choose_precision(self.precision, next(self.network.parameters()).device)
        return synthesise(
            self.network, count, seed=seed, recipe=self.recipe, precision=precision, batch=batch, start=start
        )


class WGAN(Family[WGANConfig]):
    """Subramaniam et al. 2022, after Gulrajani et al. 2017."""

    name = "wgan"
    title = "WGAN"
    reference = "Subramaniam et al. 2022, doi 10.1016/j.media.2022.102396"
    Config = WGANConfig
    recipe = (*STEP_RECIPE, "label_low", "intensity_scaling", "drop_last", "resume_state")
    sampling_recipe = ("generation_statistics", "label_threshold")
    shapeless = (
        *("steps", "seed", "epochs", "flips", "max_bad_steps", "processes", "batch_norm"),
        *("lr_generator", "lr_critic", "betas", "penalty_weight"),
    )
    stored_patches = True
    readings: ClassVar = {
        "wasserstein": ("WGAN: distance that the critic sees", "E[D(real)] − E[D(fake)]"),
        "score_gap": ("WGAN: does the critic know its patches by heart?", "D(training) − D(held out)"),
        "penalty": ("WGAN: gradient penalty", "penalty (log scale)"),
        "critic_gradient_norm": ("WGAN: gradient of the critic", "norm (log scale)"),
        "generator_gradient_norm": ("WGAN: gradient of the generator", "norm (log scale)"),
    }

    def configure(self, options: Mapping[str, Any], recipe: Recipe, patches: int) -> WGANConfig:
        """With the steps of so many epochs where `steps` is None."""
        private = options.get("privacy")
        privacy = None if private is None else Privacy(**private)
        own = tuple(sorted(options.get("loss_options", {}).items()))
        steps = options["steps"] or 1
        given = {**options, "steps": steps, "privacy": privacy, "loss_options": own, "recipe": recipe}
        config = super().configure(given, recipe, patches)
        if options["steps"]:
            return config
        return replace(config, steps=config.epochs * _sampler(patches, config).steps_per_epoch)

    def train(self, config: WGANConfig, task: Task) -> Trained:
        """From the patches of the store, epoch by epoch; under differential privacy by chance, each apart from all."""
        from vesselgan.training import train_wgan
        from vesselgan.training.processes import in_processes

        config.check()
        store, recipe = task.store, config.recipe
        sampler = _sampler(len(store.patches("train")), config)
        shared = (config, store.folder, task.checkpoint)
        with in_processes(config.processes, task.device, _train_along, *shared) as device:
            generator = train_wgan(
                config,
                _real_batches(config, store, sampler),
                device=device,
                checkpoint=task.checkpoint,
                on_step=task.on_step,
                observe=_observer(task, config),
            )
        facts: dict[str, Any] = {"epochs": config.steps / sampler.steps_per_epoch, "privacy": None}
        if config.privacy is not None:
            facts["privacy"] = _privacy_spent(config, config.privacy, sampler.batch / sampler.samples)
        return Trained(WGANSampler(generator, config.precision, recipe, config.ema), facts)

    def load(self, facts: Mapping[str, Any], weights: "Mapping[str, Tensor]", recipe: Recipe) -> WGANSampler:
        """A generator for use."""
        from vesselgan.networks import Generator

        generator = Generator(facts["patch_size"], facts["filters"], facts["latent"])
        generator.load_state_dict(weights)
        return WGANSampler(generator, facts["precision"], recipe, facts.get("ema"))

    def trainer(self, config: WGANConfig, device: str) -> "WGANTrainer":
        """Generator and critic, and what trains them."""
        from vesselgan.training import WGANTrainer

        return WGANTrainer(config, device)

    def probe(self, precision: PrecisionName) -> WGANConfig:
        """Large enough to use the machine, small enough to take a moment on two cores."""
        return WGANConfig(patch_size=(64, 64, 32), steps=1, seed=0, filters=64, batch=2, precision=precision)

    def sized(self, config: WGANConfig) -> WGANConfig:
        """Few deviations change what a step costs."""
        recipe = resolve_recipe("corrected", {name: getattr(config.recipe, name) for name in SIZE_RECIPE})
        return replace(super().sized(config), recipe=recipe)

    def operations(self, config: WGANConfig, device: str, synthesis_batch: int) -> "list[Operation]":
        """Those of a training step, with the penalty's double backward, and of the generator in both of its modes."""
        from vesselgan.numerics import wgan_operations

        return wgan_operations(config, device, synthesis_batch=synthesis_batch)


def _train_along(device: str, config: WGANConfig, folder: Path, checkpoint: Path | None) -> None:
    """What the other processes of a training do: the same steps, of which the first one tells."""
    from vesselgan.data import open_store
    from vesselgan.training import train_wgan

    store = open_store(folder)
    batches = _real_batches(config, store, _sampler(len(store.patches("train")), config))
    train_wgan(config, batches, device=device, checkpoint=checkpoint)


def real_pairs(store: "VolumeStore", indices: NDArray[Any], recipe: Recipe) -> "Tensor":
    """Real pairs (B, 2, X, Y, Z): image in [-1, 1], label in {recipe.label_low, 1}."""
    import torch

    return torch.from_numpy(store.cut_channels(indices, recipe.intensity_scaling, label_low=recipe.label_low))


def _sampler(patches: int, config: WGANConfig) -> "EpochSampler | PoissonSampler":
    from vesselgan.data import EpochSampler, PoissonSampler

    if config.privacy is not None:
        return PoissonSampler(patches, config.batch, seed=config.seed)
    return EpochSampler(patches, config.batch, seed=config.seed, drop_last=config.recipe.drop_last)


def _real_batches(
    config: WGANConfig, store: "VolumeStore", sampler: "EpochSampler | PoissonSampler"
) -> "Callable[[int], Tensor | Sequence[Tensor]]":
    """What a step learns from: the pairs that its batch drew, each mirrored along `flips` half of the times."""
    import torch

    from vesselgan.data import Augmentation, augment

    patches, recipe = store.patches("train"), config.recipe
    varied = Augmentation(flips=config.flips, share=0)

    def draw(index: int) -> torch.Tensor:
        pairs = real_pairs(store, patches[sampler(index)], recipe)
        if not varied.flips:
            return pairs
        images, labels = pairs.numpy().swapaxes(0, 1)
        return torch.from_numpy(np.stack(augment(images, labels, varied, seed=config.seed, step=index), axis=1))

    def real_batch(step: int) -> torch.Tensor | Sequence[torch.Tensor]:
        if config.privacy is None or recipe.dp_updates == "two":
            return draw(step)
        return [draw(index) for index in range(step * config.critic_steps, (step + 1) * config.critic_steps)]

    return real_batch


def _observer(task: Task, config: WGANConfig) -> "Callable[[WGANTrainer], Mapping[str, float]]":
    """Shows pairs of the noise of the first synthetic ones, and asks the critic whether it knows patches by heart.

    `score_gap` is its mean score of training patches minus that of held-out ones, both real.
    """
    store, recipe = task.store, config.recipe
    known, unknown = (
        real_pairs(store, _evenly_spaced(store.patches(split)), recipe) for split in ("train", "validation")
    )
    looked_at = task.look_after(config.steps)

    def observe(trainer: "WGANTrainer") -> Mapping[str, float]:
        if trainer.steps_done in task.keep_after:
            task.keep(trainer.steps_done, WGANSampler(trainer.generator_for_use, config.precision, recipe, config.ema))
        if trainer.steps_done not in looked_at:
            return {}
        task.observe(trainer.steps_done, _shown(trainer))
        if config.privacy is not None:
            return {}  # what the critic thinks of training patches would tell of them, and no epsilon covers it
        scores = [_mean_score(trainer, patches) for patches in (known, unknown)]
        return {"score_train": scores[0], "score_held_out": scores[1], "score_gap": scores[0] - scores[1]}

    return observe


def _shown(trainer: "WGANTrainer") -> "Pairs":
    """With running statistics; a voxel is vessel above the middle of the label's range."""
    import torch

    from vesselgan.synthesis import Pairs
    from vesselgan.training.randomness import generator_for

    generator = trainer.generator_for_use
    rng = generator_for(trainer.config.seed, 0, "synthesis")
    noise = torch.randn(SHOWN, generator.latent, generator=rng).to(trainer.device)
    was_training = generator.training
    generator.eval()
    with torch.no_grad(), trainer.precision.autocast():
        pairs: NDArray[np.float32] = generator(noise).float().cpu().numpy()
    generator.train(was_training)
    return Pairs(pairs[:, 0], pairs[:, 1] > (1 + trainer.config.recipe.label_low) / 2)


def _evenly_spaced(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    """A few of the indices, from all over them."""
    places: Sequence[Any] = np.linspace(0, len(indices) - 1, min(SCORED, len(indices))).round().astype(int).tolist()
    return indices[places]


def _mean_score(trainer: "WGANTrainer", patches: "Tensor") -> float:
    import torch

    trainer.critic.eval()  # spectral norm takes no power iteration
    with torch.no_grad(), trainer.precision.autocast():
        score = float(trainer.critic(patches.to(trainer.device)).float().mean())
    trainer.critic.train()
    return score


def _privacy_spent(config: WGANConfig, privacy: Privacy, sample_rate: float) -> dict[str, Any]:
    """Everything that epsilon rests on, and what it does not cover."""
    from vesselgan.training import epsilon_spent

    assert privacy.delta is not None  # a plan gives it
    per_pass = 2 if config.recipe.dp_updates == "two" else 1
    updates = config.steps * config.critic_steps * per_pass
    epsilon, warned = epsilon_spent(
        noise_multiplier=privacy.noise_multiplier, sample_rate=sample_rate, updates=updates, delta=privacy.delta
    )
    shared = config.recipe.dp_updates == "two" and config.critic_steps > 1
    return {
        "noise_multiplier": privacy.noise_multiplier,
        "clip_norm": privacy.clip_norm,
        "weight_clip": privacy.weight_clip,
        "delta": privacy.delta,
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
