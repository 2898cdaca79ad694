"""The numerics checks that cells rest on, and the settings of their generators, which decide what is checked."""

from collections.abc import Iterable
from typing import cast

from benchmark.artifacts.generators import numerics_options
from benchmark.artifacts.options import ExtractorCheck, GeneratorCheck, GeneratorSettings, UNetCheck
from benchmark.protocol.cells import Cell
from benchmark.protocol.schema import Profile
from vesselgan.families import WGAN

__all__ = [
    "EXTRACTOR_STAGES",
    "FEATURE_BATCH",
    "check_options",
    "extractor_check",
    "generator_check",
    "generator_settings",
    "synthesis_batch",
    "unet_check",
]

# What the numerics check of an extractor looks at: patches at a time, and how much of the ResNet it computes.
FEATURE_BATCH = 16
EXTRACTOR_STAGES = {"random_resnet10": 2, "medicalnet": 5}


def check_options(profile: Profile, cells: Iterable[Cell]) -> list[GeneratorCheck | UNetCheck | ExtractorCheck]:
    """Options of the numerics checks that these cells rest on, each once."""
    options: list[GeneratorCheck | UNetCheck | ExtractorCheck] = []
    options += [generator_check(profile, cell) for cell in cells if cell.has_generator]
    options += [unet_check(profile), extractor_check(profile)]
    return [one for index, one in enumerate(options) if one not in options[:index]]


def generator_check(profile: Profile, cell: Cell) -> GeneratorCheck:
    """Of a cell's training and of its pairs."""
    settings = generator_settings(profile, cell, patches=1)  # how many there are changes no operation
    synthesis = synthesis_batch(settings["batch"])
    settings["batch"] //= settings.get("processes", 1)  # what each of them computes
    return numerics_options(cell.generator, settings, cell.recipe, synthesis)


def unet_check(profile: Profile) -> UNetCheck:
    """Of all U-Nets of a profile."""
    return {
        "network": "unet",
        "patch": profile.patch,
        "filters": profile.unet.filters,
        "precision": getattr(profile.precision, profile.unet.precision),
        "batch": profile.unet.batch,
        "inference_batches": sorted({profile.unet.batch, profile.inference.batch}),
    }


def extractor_check(profile: Profile) -> ExtractorCheck:
    """Of the features that are compared."""
    return {
        "network": "extractor",
        "patch": profile.patch,
        "precision": "fp32",
        "batches": [FEATURE_BATCH],
        "stages": EXTRACTOR_STAGES[profile.score.extractor],
    }


def synthesis_batch(batch: int) -> int:
    """How many pairs are made at a time by a generator that was trained in such batches."""
    return max(8, batch)


def generator_settings(profile: Profile, cell: Cell, patches: int) -> GeneratorSettings:
    """The settings of a cell's generator, of which its family makes a configuration; there are so many patches."""
    settings: dict[str, object] = {**profile.section(cell.generator)}
    settings |= {name: getattr(cell, name) for name in ("filters", "batch") if name in settings}
    if cell.family == WGAN.name:
        settings |= {"norm": cell.norm, "loss": cell.loss, "loss_options": profile.losses.get(str(cell.loss), {})}
        settings |= {"privacy": _privacy(profile, patches) if cell.private else None}
        settings |= _private_pace(profile) if cell.private else {}
    settings |= {"patch_size": profile.patch, "precision": cell.precision, "seed": cell.seed}
    return cast(GeneratorSettings, settings)  # whose section the family's `Config` has checked


def _private_pace(profile: Profile) -> dict[str, object]:
    """Critic steps and learning rates, which the DP variant has of its own."""
    return {name: getattr(profile.dp, name) for name in ("critic_steps", "lr_generator", "lr_critic")}


def _privacy(profile: Profile, patches: int) -> dict[str, float]:
    dp = profile.dp
    return {
        "noise_multiplier": dp.noise_multiplier,
        "clip_norm": dp.clip_norm,
        "weight_clip": dp.weight_clip,
        "delta": dp.delta or 1 / patches,
    }
