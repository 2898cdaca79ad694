"""How generators of all families stand in the specifications of stages, and in the files that these leave.

WGANs were the first family. Finished runs have the stage `train_gan` with its role `gan`, the option `wgan`, and a
`generator.json` without a kind; so these names stay, and mean a generator of any family.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict, cast

from benchmark.artifacts.options import (
    GeneratorCheck,
    GeneratorSettings,
    MeasureOptions,
    RecipeValue,
    StepOptions,
    TrainGANOptions,
)
from vesselgan.families import Family, Sampler, family_of
from vesselgan.families.wgan import STEP_RECIPE, WGAN
from vesselgan.recipe import Recipe, as_dict, resolve_recipe
from vesselgan.settings import WGANConfig, stored
from vesselgan.settings.options import LATER

__all__ = [
    "FACTS",
    "WEIGHTS",
    "generator_options",
    "kept_folder",
    "load_generator",
    "numerics_config",
    "numerics_options",
    "recipe_options",
    "save_generator",
    "step_config",
    "step_options",
    "trained_config",
    "training_options",
]

WEIGHTS, FACTS = "generator.safetensors", "generator.json"
PRIVATE_RECIPE = ("dp_updates",)  # what a WGAN reads of a recipe in addition, under differential privacy
CHECK_RECIPE = ("interpolate", "reductions")  # the deviations by which a WGAN calls other operations
# Of a WGAN's settings, those that a timed step depends on.
STEP_OPTIONS = ("norm", "precision", "filters", "batch", "ema", "privacy", "critic_steps", "lr_generator", "lr_critic")
SHARED_STEP = ("processes", "batch_norm")  # how several processes share a step; timed is that of one
CHECK_ALONE = ("network", "patch", "private", "recipe", "synthesis_batch")  # what is no setting of the WGAN's
NO_STEPS = {"steps": 1, "epochs": 1, "seed": 0}  # what a single step does not depend on


def recipe_options(recipe: Recipe, names: Iterable[str]) -> dict[str, RecipeValue]:
    """These deviations of a recipe: only those that a stage reads enter its key, so that others do not repeat it."""
    values = as_dict(recipe)
    return {name: values[name] for name in names}


def training_options(family: Family[Any], settings: GeneratorSettings, recipe: Recipe) -> TrainGANOptions:
    """The options of `train_gan`."""
    read = recipe_options(recipe, _read(family, settings))
    kept = cast(GeneratorSettings, stored(family.Config, settings))
    if family.name == WGAN.name:
        return {"wgan": kept, "recipe": read}
    return {"family": family.name, "version": family.version, "options": kept, "recipe": read}


def generator_options(options: TrainGANOptions) -> GeneratorSettings:
    """The generator's own among the options of `train_gan`."""
    return options["wgan"] if "wgan" in options else options["options"]


def trained_config(options: TrainGANOptions, patches: int) -> tuple[Family[Any], Any, Recipe]:
    """Of the options of `train_gan`, with so many patches to learn from: the family, its configuration, the recipe."""
    recipe = resolve_recipe("corrected", options["recipe"])
    family = family_of(options, "family")
    return family, family.configure(generator_options(options), recipe, patches), recipe


def step_options(family: Family[Any], settings: GeneratorSettings, recipe: Recipe) -> StepOptions:
    """What `measure` is told of a configuration, beside what all have in common."""
    if family.name == WGAN.name:
        read = [name for name in _read(family, settings) if name in (*STEP_RECIPE, *PRIVATE_RECIPE)]
        timed = _some(settings, STEP_OPTIONS) | _later(settings)
        timed = {name: value for name, value in timed.items() if name not in SHARED_STEP}
        return cast(StepOptions, {**timed, "recipe": recipe_options(recipe, read)})
    return {**_shape(family, settings), "recipe": recipe_options(recipe, family.recipe)}


def step_config(configuration: StepOptions, common: MeasureOptions) -> tuple[Family[Any], Any]:
    """The family and a configuration of a single step; `common` are the options of `measure`."""
    family = family_of(configuration, "family")
    settings: dict[str, object]
    if family.name == WGAN.name:
        settings = {name: value for name, value in configuration.items() if name != "recipe"}
        settings |= {"patch_size": common["patch"], "penalty_weight": common["penalty_weight"]}
    else:
        settings = {**configuration["options"]}
    recipe = resolve_recipe("corrected", configuration["recipe"])
    return family, family.configure(_single_step(family, settings), recipe, patches=1)


def numerics_options(
    family: Family[Any], settings: GeneratorSettings, recipe: Recipe, synthesis_batch: int
) -> GeneratorCheck:
    """The options of the numerics check that this generator rests on: what decides the shapes of its operations."""
    if family.name != WGAN.name:
        named = {"network": family.name, "precision": settings["precision"], "synthesis_batch": synthesis_batch}
        return cast(GeneratorCheck, {**named, **_shape(family, settings), "recipe": {}})
    checked = {
        "network": "wgan",
        "patch": settings["patch_size"],
        **_some(settings, ("filters", "norm", "precision", "batch")),
        **{name: value for name, value in _later(settings).items() if name not in family.shapeless},
        "synthesis_batch": synthesis_batch,
        "private": settings["privacy"] is not None,
        "recipe": recipe_options(recipe, CHECK_RECIPE),
    }
    return cast(GeneratorCheck, checked)


def numerics_config(options: GeneratorCheck) -> tuple[Family[Any], Any]:
    """The family and a configuration of the operations that a numerics check is about."""
    family = family_of(options, "family")
    settings: dict[str, object]
    if family.name == WGAN.name:
        settings = {name: value for name, value in options.items() if name not in CHECK_ALONE}
        settings |= {"patch_size": options["patch"], "privacy": {} if options["private"] else None}
    else:
        settings = {**options["options"]}
    recipe = resolve_recipe("corrected", options["recipe"])
    return family, family.configure(_single_step(family, settings), recipe, patches=1)


def kept_folder(folder: Path, share: float) -> Path:
    """Where the stage in this folder keeps its generator as it was after a share of the training."""
    return folder / "at" / f"{share:g}"


def save_generator(folder: Path, family: Family[Any], sampler: Sampler) -> None:
    """Write the weights, and what else it takes to load them."""
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous().cpu() for name, tensor in sampler.network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    kind = {} if family.name == WGAN.name else {"kind": family.name}
    (folder / FACTS).write_text(json.dumps({**kind, **sampler.facts}), encoding="utf-8")


def load_generator(folder: Path, recipe: Recipe, device: str) -> tuple[Family[Any], Sampler]:
    """What `save_generator` wrote, on a device; `recipe` says how it is to generate."""
    from safetensors.torch import load_file

    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    family = family_of(facts)
    described = {name: value for name, value in facts.items() if name != "kind"}
    sampler = family.load(described, load_file(folder / WEIGHTS), recipe)
    sampler.network.to(device)
    return family, sampler


class _Shape(TypedDict):
    """Of every family but the WGANs."""

    family: str
    version: int
    options: GeneratorSettings


def _shape(family: Family[Any], settings: GeneratorSettings) -> _Shape:
    """The family, and what of its settings decides what a step costs and which operations it calls."""
    shape = cast(GeneratorSettings, family.shape_options(settings))
    return {"family": family.name, "version": family.version, "options": shape}


def _some(settings: GeneratorSettings, names: Iterable[str]) -> dict[str, object]:
    """These settings, some of which are for the family alone."""
    values: Mapping[str, object] = settings
    return {name: values[name] for name in names}


def _read(family: Family[Any], settings: GeneratorSettings) -> tuple[str, ...]:
    return (*family.recipe, *(PRIVATE_RECIPE if settings.get("privacy") is not None else ()))


def _later(settings: GeneratorSettings) -> dict[str, object]:
    """The settings of a WGAN that no earlier specification has, where they are not as usual."""
    later = {field.name for field in fields(WGANConfig) if field.metadata == LATER}
    return {name: value for name, value in stored(WGANConfig, settings).items() if name in later}


def _single_step(family: Family[Any], settings: Mapping[str, object]) -> dict[str, object]:
    known = {field.name for field in fields(family.Config)}
    return {**{name: value for name, value in NO_STEPS.items() if name in known}, **settings}
