"""How the numbers were made: recipe, settings against the paper's, environment, stages and files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from benchmark.artifacts.values import PreparedValues
from benchmark.protocol.schema import Profile
from benchmark.protocol.sections import usual_settings
from benchmark.report.exports import flatten
from benchmark.report.sections.conventions import convention_facts
from benchmark.results.format import Results
from benchmark.results.run_folder import Settings
from benchmark.words import join, plural, typeset
from vesselgan.families import FAMILIES
from vesselgan.recipe import Recipe

__all__ = ["FILES", "DeviationRow", "MethodsView", "SettingRow", "methods_view"]

FILES = {
    "results.json": "everything on this page, for programs",
    "cells.csv": "one row per cell and metric",
    "groups.csv": "one row per label and metric, over seeds",
    "subjects.csv": "one row per cell, subject and metric",
    "claims.csv": "one row per claim",
    "table.md": "the main table in Markdown",
    "summary.txt": "the same in plain text",
}
FEW_POSITIONS = 32  # the paper's 128 x 128 x 64 leaves 256
NOT_THE_MODEL = {"about", "trial", "requires", "data", "matrix", "arms", "recipe", "baselines"}
# The paper's default is ours here: the paper does not say.
NOT_PUBLISHED = {"unet.batch", "unet.steps", "unet.validate_every", "phantom.seed", "phantom.spacing_mm"}
HARNESS_OPTIONS = ("inference.", "losses.", "measure.", "threads", "score.seed", "split.seed")


@dataclass(frozen=True)
class DeviationRow:
    """One option of the recipe: this run's value per recipe, and the two values that it can have."""

    deviation: str
    option: str
    values: Sequence[str]
    paper_code: str
    corrected: str
    about: str


@dataclass(frozen=True)
class SettingRow:
    """A setting that differs from the paper's, or from the usual one here where the paper does not say."""

    name: str
    here: str
    paper: str


@dataclass(frozen=True)
class MethodsView:
    """Everything of the last section."""

    recipes: Sequence[str]
    deviations: Sequence[DeviationRow]
    profile: str
    profile_about: str
    settings: Sequence[SettingRow]
    warnings: Sequence[str]
    facts: Sequence[tuple[str, str]]
    stages: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
    files: Sequence[tuple[str, str]]


def methods_view(run_name: str, results: Results) -> MethodsView:
    """What the run's plan and environment say."""
    recipes = {cell["recipe"]: cell["recipe_options"] for cell in results["cells"]}
    return MethodsView(
        recipes=list(recipes),
        deviations=[
            DeviationRow(
                option.metadata["deviation"],
                option.name,
                [_shown(options.get(option.name)) for options in recipes.values()],
                _shown(option.metadata["paper_code"]),
                _shown(option.metadata["corrected"]),
                option.metadata["about"],
            )
            for option in fields(Recipe)
        ],
        profile=results["profile"],
        profile_about=results["settings"].get("about", ""),
        settings=list(_settings(results["settings"], phantom=bool(results["data"].get("phantom")))),
        warnings=list(_warnings(results)),
        facts=list(_facts(run_name, results)),
        stages=[(cell["id"], cell["status"], list(cell["stages"].items())) for cell in results["cells"]],
        files=list(FILES.items()),
    )


def _settings(settings: Settings, *, phantom: bool) -> Iterator[SettingRow]:
    families = settings.get("families", {})  # absent from earlier runs
    defaults = dict(flatten(Profile().model_dump(mode="json")))
    defaults |= flatten({name: usual_settings(FAMILIES[name]) for name in families if name in FAMILIES})
    for name, value in flatten({**{key: value for key, value in settings.items() if key != "families"}, **families}):
        irrelevant = name.split(".")[0] in NOT_THE_MODEL or (name.startswith("phantom.") and not phantom)
        if irrelevant or defaults.get(name) == value:
            continue
        ours = name in NOT_PUBLISHED or name.startswith((*HARNESS_OPTIONS, *families))
        usual = _shown(defaults.get(name))
        yield SettingRow(name, _shown(value), f"does not say; usual here: {usual}" if ours else usual)


def _warnings(results: Results) -> Iterator[str]:
    norms = {cell["norm"] for cell in results["cells"]}
    patch = results["settings"]["patch"]
    final = [size // 16 for size in patch]
    positions = math.prod(final)
    if "instance" in norms and positions < FEW_POSITIONS:
        yield (
            f"Instance norm sees very few positions: a patch of {_shown(patch)} leaves {_shown(final)} = {positions} "
            "in the critic's last layer (the paper's patch leaves 8 × 8 × 4 = 256). Normalising over so few removes "
            "most of what a feature says, so GP may do worse here than at the paper's size."
        )
    if {"instance", "spectral"} <= norms:
        yield (
            "A critic with instance norm (the paper's GP) and one with spectral norm (SN) differ in two things: the "
            "instance norm goes when the spectral norm comes. A difference between them cannot be put down to spectral "
            "norm alone."
        )
    yield from _privacy(results)
    yield from (line for line in results["numerics"] if "wrong" in line)
    if any(cell["recipe_options"].get("reference") == "train" for cell in results["cells"]):
        yield "FID and PRD compare with the training patches (D15), which rewards a model that memorises them."


def _privacy(results: Results) -> Iterator[str]:
    """One line per label that was trained under differential privacy: every number that its epsilon rests on."""
    told = set()
    for cell in results["cells"]:
        spent = cell["privacy"]
        if spent is None or cell["label"] in told:
            continue
        told.add(cell["label"])
        caveats = "".join(f"; {caveat}" for caveat in spent["caveats"])
        yield (
            f"{cell['label']} is differentially private: epsilon {spent['epsilon']:.3g} at delta {spent['delta']:.2g}, "
            f"noise multiplier {spent['noise_multiplier']:g}, clipping norm {spent['clip_norm']:g}, sampling rate "
            f"{spent['sample_rate']:.3g}, {spent['noisy_updates']} noisy updates ({spent['accountant']}; protected "
            f"unit: {spent['unit']}; the noise comes from the seed, so the figure holds only while the seed is secret"
            f"{caveats})."
        )


def _facts(run_name: str, results: Results) -> Iterator[tuple[str, str]]:
    environment = results["environment"]
    yield "run", run_name
    yield "machine", ", ".join(f"{value} {_unit(name)}".strip() for name, value in environment["machine"].items())
    yield "device", environment["device"]
    if results["numerics"]:
        yield "kernels", " ".join(results["numerics"])
    yield "threads per stage", str(results["settings"].get("threads", "unknown"))
    versions = {"python": environment["python"], **environment["versions"]}
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    commit = environment["commit"]
    dirty = "with uncommitted changes" if environment["dirty"] else "clean"
    yield "commit", f"{commit}, {dirty}" if commit else "unknown: the program does not run from a checkout"
    if data := results["prepared"]:
        yield from _data_facts(data)
    yield from convention_facts(results["conventions"])
    minutes = results["work_seconds"] / 60
    yield "work", f"{minutes:.1f} minutes of stages, those that cells share counted for each of them"


def _data_facts(data: PreparedValues) -> Iterator[tuple[str, str]]:
    patches = join(f"{count} {split}" for split, count in data["patches"].items())
    shapes = join(_shown(shape) for shape in data["shapes"])
    spacings = join(_shown(spacing) for spacing in data["spacings_mm"])
    subjects = plural(sum(data["subjects"].values()), "subject")
    masks = f"{data['with_brain_mask']} of {subjects} with a brain mask"
    if computed := data["brain_mask_computed"]:
        masks += f", of which {computed} computed from the image by a simple threshold method"
    yield "volumes", f"{shapes} voxels of {spacings} mm; {masks}"
    yield "patches", f"{patches}; {100 * data['vessel_share']:.2f} % of all voxels are vessel"


def _unit(name: str) -> str:
    return {"cores": "cores", "memory_gib": "GiB", "gpu_memory_gib": "GiB"}.get(name, "")


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " × ".join(_shown(item) for item in value)
    if isinstance(value, float):
        return typeset(f"{value:g}")
    return typeset(f"{value:,}") if isinstance(value, int) else str(value)
