"""Multiscale autoregressive generators: maximum likelihood, from a few coarse cells to voxels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray

from vesselgan.families.family import SHOWN, Family, Task, Trained
from vesselgan.recipe import Recipe
from vesselgan.settings import AutoregressiveConfig, PrecisionName, from_options

if TYPE_CHECKING:
    from torch import Tensor

    from vesselgan.data import VolumeStore
    from vesselgan.networks.autoregressive import AutoregressiveGenerator
    from vesselgan.synthesis import Pairs
    from vesselgan.training.autoregressive import AutoregressiveTrainer

__all__ = ["Autoregressive", "AutoregressiveSampler", "real_batches", "training_atlas"]

LEVELS = 5  # whose likelihoods have a chart of their own; patches of 64 voxels and more have further ones


@dataclass(frozen=True, eq=False)
class AutoregressiveSampler:
    """A trained generator, with the configuration that it comes of."""

    network: "AutoregressiveGenerator"
    config: AutoregressiveConfig

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Of each pair, in voxels."""
        return self.network.patch_size

    @property
    def precision(self) -> PrecisionName:
        """That of its training."""
        return self.config.precision

    @property
    def facts(self) -> Mapping[str, Any]:
        """For `Autoregressive.load`."""
        return asdict(self.config)

    def sample(self, count: int, *, seed: int, batch: int, start: int = 0) -> "Iterator[Pairs]":
        """Yield `count` labelled pairs in batches, the same for the same seed, batch and machine.

        With `start`, a multiple of `batch`, only those from there on: they are the same as without it.
        """
        import torch

        from vesselgan.synthesis import Pairs, refuse_non_finite_pairs
        from vesselgan.training import choose_precision
        from vesselgan.training.randomness import generator_for

        precision = choose_precision(self.precision, next(self.network.parameters()).device)
        for first in range(start, count, batch):
            rng = generator_for(seed, first, "synthesis")
            with torch.inference_mode(), precision.autocast():
                # The whole batch is always computed, so that the last pairs do not depend on `count`.
                level = self.network.sample(batch, rng)
            images, labels = (part.cpu().numpy()[: count - first] for part in level)
            refuse_non_finite_pairs(images, first)
            yield Pairs(images, np.stack([without_specks(label > 0, self.config.least_piece) for label in labels]))


class Autoregressive(Family[AutoregressiveConfig]):
    """`vesselgan.networks.autoregressive`, trained on patches that are cut anew for every step."""

    name = "autoregressive"
    title = "autoregressive generator"
    reference = "after Reed et al. 2017, Parallel Multiscale Autoregressive Density Estimation"
    given = (
        "has an atlas of the training heads, the place of each patch in them and patches cut anew for every step, and "
        "deletes its smallest label pieces"
    )
    Config = AutoregressiveConfig
    version = 2
    recipe = ("intensity_scaling",)
    shapeless = (
        "steps",
        "seed",
        "lr",
        "lr_matrices",
        "betas",
        "warmup",
        "max_bad_steps",
        "anywhere",
        "flips",
        "least_piece",
    )
    readings: ClassVar = {
        **{f"nll/{level}": (f"AR: −log p, level {level} of its pyramid", "nats per voxel") for level in range(LEVELS)},
        "gradient_norm": ("AR: gradient", "norm (log scale)"),
    }

    def train(self, config: AutoregressiveConfig, task: Task) -> Trained:
        """From patches around vessels of all training subjects, and a few from elsewhere."""
        from vesselgan.training.autoregressive import train_autoregressive

        looked_at = task.look_after(config.steps)

        def observe(trainer: "AutoregressiveTrainer") -> Mapping[str, float]:
            done = trainer.steps_done
            if done in looked_at or done in task.keep_after:
                sampler = AutoregressiveSampler(trainer.generator_for_use, config)
                if done in task.keep_after:
                    task.keep(done, sampler)
                if done in looked_at:
                    task.observe(done, next(sampler.sample(SHOWN, seed=config.seed, batch=SHOWN)))
            return {}

        network = train_autoregressive(
            config,
            real_batches(config, task.store, task.recipe),
            lambda: training_atlas(config, task.store),
            device=task.device,
            checkpoint=task.checkpoint,
            on_step=task.on_step,
            observe=observe,
        )
        return Trained(AutoregressiveSampler(network, config), {"pairs_seen": config.steps * config.batch})

    def load(self, facts: Mapping[str, Any], weights: "Mapping[str, Tensor]", recipe: Recipe) -> AutoregressiveSampler:
        """A generator for use; no deviation of the recipe is about it."""
        from vesselgan.training.autoregressive import network_of

        config: AutoregressiveConfig = from_options(AutoregressiveConfig, facts)
        network = network_of(config)
        network.load_state_dict(weights)
        return AutoregressiveSampler(network, config)

    def trainer(self, config: AutoregressiveConfig, device: str) -> "AutoregressiveTrainer":
        """All levels together."""
        from vesselgan.training.autoregressive import AutoregressiveTrainer

        return AutoregressiveTrainer(config, device)

    def exercise(self, config: AutoregressiveConfig, device: str, synthesis_batch: int) -> None:
        """A step of each turn in which children are predicted, and pairs."""
        import torch

        trainer = self.trainer(config, device)
        for _ in range(trainer.generator.turns):
            trainer.step(torch.zeros(config.batch, 2, *config.patch_size))
        with torch.no_grad(), trainer.precision.autocast():
            trainer.generator.sample(synthesis_batch, torch.Generator())


def real_batches(
    config: AutoregressiveConfig, store: "VolumeStore", recipe: Recipe
) -> "Callable[[int], tuple[Tensor, Tensor]]":
    """What a step learns from, as `config` says: pairs (B, 2, X, Y, Z), image in [-1, 1] and label 0 or 1, and places.

    The places (B, 7) are those of `vesselgan.networks.places`; a mirrored patch has the mirrored one.
    """
    import torch

    from vesselgan.data import PlaceSampler
    from vesselgan.networks.places import place_of

    subjects = np.array([number for number, subject in enumerate(store.subjects) if subject.split == "train"])
    labels = [store.label(store.subjects[number].key) for number in subjects]
    cut_at = PlaceSampler(labels, config.patch_size, config.batch, anywhere=config.anywhere, seed=config.seed)
    centre = tuple(size // 2 for size in config.patch_size)

    def real_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = cut_at(step)
        chosen[:, 0] = subjects[chosen[:, 0]]
        images, vessels = store.cut_at(chosen, recipe.intensity_scaling)
        pairs = np.stack([images, vessels.astype(np.float32)], axis=1)
        places = np.stack(
            [
                place_of(corner, config.patch_size, store.subjects[number].shape, on_vessel=bool(label[centre]))
                for (number, *corner), label in zip(chosen.tolist(), vessels, strict=True)
            ]
        )
        rng = np.random.default_rng([config.seed, step, 1])  # the sampler's has no third number
        for axis in ("xyz".index(name) for name in config.flips):
            mirrored = rng.random(len(pairs)) < 0.5
            pairs[mirrored] = np.flip(pairs[mirrored], axis + 2)
            places[mirrored, axis] *= -1
        return torch.from_numpy(pairs), torch.from_numpy(places)

    return real_batch


def training_atlas(config: AutoregressiveConfig, store: "VolumeStore") -> "Tensor":
    """What is usual where in the training subjects' volumes, each scaled as one, and mirrored where patches are."""
    from vesselgan.data.patches import to_unit
    from vesselgan.networks.atlas import atlas_of

    def volumes() -> "Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]":
        for subject in store.subjects:
            if subject.split == "train":
                image = np.array(store.image(subject.key), dtype=np.float32)
                to_unit(image, *subject.intensity_range, clip=True)
                yield image, store.label(subject.key)

    return atlas_of(volumes(), ["xyz".index(axis) for axis in config.flips])


def without_specks(label: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """The label (X, Y, Z) without its pieces, by 26 neighbours, of fewer than `least` voxels."""

    from vesselgan.metrics.topology import NEIGHBOURS_26

    pieces, _ = scipy.ndimage.label(label, NEIGHBOURS_26)
    large = np.bincount(pieces.ravel()) >= least
    large[0] = False
    kept: NDArray[np.bool_] = large[pieces]
    return kept
