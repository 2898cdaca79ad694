"""A trained generator by the name of its run, by folder, or from a checkpoint file, with all that is known of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from safetensors import SafetensorError

from benchmark.artifacts.generators import FACTS, WEIGHTS, generator_options, load_generator
from benchmark.artifacts.options import SynthesiseOptions, TrainGANOptions
from benchmark.artifacts.reading import as_kind
from benchmark.artifacts.store import Spec, Store
from benchmark.artifacts.values import StageResult
from benchmark.results.run_folder import CellRecord, Run
from benchmark.trained.find import choose_cell, find_run, unknown_source
from vesselgan.data import StoredSubject, open_store
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES, WGAN, Family, Sampler
from vesselgan.families.wgan import WGANSampler
from vesselgan.files import file_sha256
from vesselgan.networks.finite import refuse_non_finite
from vesselgan.networks.importing import import_gan
from vesselgan.recipe import Recipe, resolve_recipe

__all__ = ["FoundGenerator", "Origin", "find_generator"]

_DEFAULT_BATCH = 16
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Origin:
    """The training that a generator comes from, and the cell of a run that it belongs to, if any."""

    store: Store
    spec: Spec
    run: Run | None = None
    record: CellRecord | None = None

    def result(self, role: str) -> StageResult | None:
        """The result of a stage: `gan` is the training, `data` its data, others are the cell's. None if not done."""
        key = self._key(role)
        return self.store.result(key) if key else None

    def values(self, role: str, kind: type[T]) -> T | None:
        """The values of that stage. Raises InputError where they are of another kind."""
        key, result = self._key(role), self.result(role)
        return as_kind(result["values"], kind, self.store.folder(key) / "result.json") if key and result else None

    def _key(self, role: str) -> str | None:
        stages = self.record["stages"] if self.record else {}
        return {**stages, **self.spec.inputs, "gan": self.spec.key}.get(role)

    @cached_property
    def training_subjects(self) -> Sequence[StoredSubject]:
        """What the generator learned from; empty where the store of volumes is no longer there."""
        if self.result("data") is None:
            return []
        try:
            store = open_store(self.store.folder(self.spec.inputs["data"]) / "store")
        except InputError:
            return []
        return [subject for subject in store.subjects if subject.split == "train"]


@dataclass(frozen=True, eq=False)
class FoundGenerator:
    """A generator on its device; `recipe`, `seed` and `batch` are those that its run used, else defaults."""

    family: Family[Any]
    sampler: Sampler
    name: str
    sha256: str  # of the file of weights
    recipe: Recipe
    seed: int = 0
    batch: int = _DEFAULT_BATCH
    origin: Origin | None = None
    source: Mapping[str, object] | None = None  # of weights that were trained elsewhere

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """The median voxel size of the training subjects, or None where they are not known."""
        subjects = self.origin.training_subjects if self.origin else ()
        if not subjects:
            return None
        x, y, z = (median(axis) for axis in zip(*(subject.spacing_mm for subject in subjects), strict=True))
        return round(x, 6), round(y, 6), round(z, 6)

    @property
    def intensity_range(self) -> tuple[float, float] | None:
        """What -1 and 1 stood for in the training subjects, in the median; None where that is not known.

        Where each patch was scaled by itself (D8), a value has no meaning that the patches share.
        """
        subjects = self.origin.training_subjects if self.origin else ()
        if not subjects or self.recipe.intensity_scaling == "patch":
            return None
        low, high = (median(ends) for ends in zip(*(subject.intensity_range for subject in subjects), strict=True))
        return (float(low), float(high)) if high > low else None


def find_generator(
    source: str, *, runs: Path, cell: str | None, patch: Sequence[int], recipe: str | None, device: str
) -> FoundGenerator:
    """The generator of a run (its name in `runs`, or its folder), of a training's folder, of `import`, or of a `.pth`.

    `recipe` is for the last two, which do not say how they generate, and `patch` for a `.pth`.

    Raises InputError: nothing there, nothing finished, damaged, or several and no `cell`.
    """
    path = Path(source)
    if run := find_run(source, runs, cell):
        record = choose_cell(run, "gan", "generator", cell)
        found = _trained(Origin(run.store, run.store.spec(record["stages"]["gan"]), run, record), device)
    elif (path / "spec.json").is_file():
        found = _of_training(path.resolve(), recipe, device)
    elif (path / FACTS).is_file():
        return _of_import(path, recipe or "paper_code", device)
    elif path.is_file():
        return _of_checkpoint(path, patch, recipe or "paper_code", device)
    else:
        raise unknown_source(source, "generator", FACTS, runs)
    if recipe is not None and found.origin and found.origin.record:
        raise InputError(f"--recipe {recipe}: this generator's run has one; leave it out")
    return found


def _of_training(folder: Path, recipe: str | None, device: str) -> FoundGenerator:
    store = Store(folder.parent.parent)
    store.stages = folder.parent  # also where a folder was copied out of its `runs/`
    spec = store.spec(folder.name)
    if spec.stage != "train_gan":
        raise InputError(f"{folder}: a {spec.stage} stage, which has no generator; its train_gan stage has it")
    owners = [
        Origin(store, spec, run, record)
        for run in (Run.open(path.parent) for path in sorted(store.root.glob("*/run.json")))
        for record in run.cells
        if record["stages"].get("gan") == spec.key
    ]
    # Cells of one generator may differ in how they generate (D7, D8).
    if len({_synthesis(origin).key for origin in owners}) > 1:
        named = ", ".join(f"{o.run.name} --cell {o.record['cell']['id']}" for o in owners if o.run and o.record)
        raise InputError(f"{folder}: several cells use it in different ways; name one of them: {named}")
    return _trained(owners[0] if owners else Origin(store, spec), device, recipe)


def _synthesis(origin: Origin) -> Spec:
    assert origin.record is not None
    return origin.store.spec(origin.record["stages"]["pairs"])


def _trained(origin: Origin, device: str, recipe: str | None = None) -> FoundGenerator:
    spec, folder = origin.spec, origin.store.folder(origin.spec.key)
    result = origin.store.result(spec.key)
    if result is None:
        raise InputError(f"{folder}: no finished generator; run its protocol again, it goes on where it stopped")
    if origin.record is None:
        options = spec.options_as(TrainGANOptions)
        base = recipe or ("corrected" if options["recipe"].get("label_low", -1) == -1 else "paper_code")
        resolved = resolve_recipe(base, options["recipe"])
        seed, batch = generator_options(options)["seed"], _DEFAULT_BATCH
    else:
        resolved = resolve_recipe("corrected", origin.record["cell"]["recipe"])
        made = _synthesis(origin).options_as(SynthesiseOptions)
        seed, batch = made["seed"], made["batch"]
    family, sampler, sha256 = _load(folder, resolved, device)
    if sha256 != result["files"][WEIGHTS]["sha256"]:
        raise InputError(f"{folder / WEIGHTS}: is damaged (another SHA-256 than when it was made); run its protocol")
    return FoundGenerator(family, sampler, spec.key, sha256, resolved, seed, batch, origin=origin)


def _of_import(folder: Path, recipe: str, device: str) -> FoundGenerator:
    resolved = resolve_recipe(recipe)
    family, sampler, sha256 = _load(folder, resolved, device)
    source = json.loads((folder / FACTS).read_text(encoding="utf-8")).get("source", {})
    name = str(source.get("file", folder.resolve().name))
    return FoundGenerator(family, sampler, name, sha256, resolved, source=source)


def _of_checkpoint(path: Path, patch: Sequence[int], recipe: str, device: str) -> FoundGenerator:
    imported = import_gan(path, patch)
    resolved = resolve_recipe(recipe)
    sampler = WGANSampler(imported.generator.to(device), "fp32", resolved)
    source = {"file": path.name, "sha256": imported.sha256, "mixed_precision": imported.mixed_precision}
    return FoundGenerator(FAMILIES[WGAN.name], sampler, path.name, imported.sha256, resolved, source=source)


def _load(folder: Path, recipe: Recipe, device: str) -> tuple[Family[Any], Sampler, str]:
    try:
        family, sampler = load_generator(folder, recipe, device)
        refuse_non_finite(sampler.network, folder / WEIGHTS)
        return family, sampler, file_sha256(folder / WEIGHTS, None)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: its generator cannot be read ({reason}); train or import it again") from None
