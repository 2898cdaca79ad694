"""Subjects -> a store of volumes and patch corners."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from benchmark.artifacts.options import PrepareOptions, Reading
from benchmark.artifacts.values import PreparedValues
from benchmark.stages.context import Context
from vesselgan.data import (
    Layout,
    LoadedSubject,
    Subject,
    compute_brain_mask,
    find_subjects,
    load_subject,
    open_store,
    pair_by_listing,
    phantom_subjects,
    write_store,
)
from vesselgan.errors import InputError
from vesselgan.settings import from_options

__all__ = ["prepare"]


def prepare(context: Context[PrepareOptions]) -> PreparedValues:
    """Read or make every subject once and write the store; values describe the data."""
    options = context.options
    compute = options.get("brain_mask", "dataset") == "compute"
    computed: list[str] = []
    splits = {name: list(keys) for name, keys in options["split"].items()}
    subjects = _subjects(context, sum(map(len, splits.values())))
    write_store(
        context.folder / "store",
        map(partial(_with_mask, computed), subjects) if compute else subjects,
        splits=splits,
        patch_size=options["patch"],
        grid=options["patches"]["grid"],
        vessel=options["patches"]["vessel"],
        rng=np.random.default_rng(options["seed"]),
        persons=options["source"].get("persons", {}),
    )
    store = open_store(context.folder / "store")
    shares = [float(store.label(subject.key).mean()) for subject in store.subjects]
    values: PreparedValues = {
        "subjects": {name: len(keys) for name, keys in splits.items()},
        "patches": {name: len(store.patches(name)) for name in splits},
        "shapes": sorted({subject.shape for subject in store.subjects}),
        "spacings_mm": sorted({tuple(round(mm, 4) for mm in subject.spacing_mm) for subject in store.subjects}),
        "vessel_share": float(np.mean(shares)),
        "with_brain_mask": sum(subject.has_mask for subject in store.subjects),
        "brain_mask_computed": sum(subject.key in computed for subject in store.subjects),
    }
    if persons := {subject.key: subject.person for subject in store.subjects if subject.person}:
        values["persons"] = persons
        owners = {name: {subject.owner for subject in store.subjects if subject.split == name} for name in splits}
        values["people"] = {name: len(people) for name, people in owners.items()}
    return values


def _with_mask(computed: list[str], subject: LoadedSubject) -> LoadedSubject:
    """The subject with a brain mask, computed if the dataset has none; then its key is noted."""
    if subject.mask is not None:
        return subject
    mask = compute_brain_mask(subject.image, subject.spacing_mm)
    if not mask.any():
        return subject
    computed.append(subject.key)
    return replace(subject, mask=mask)


def _subjects(context: Context[PrepareOptions], total: int) -> Iterator[LoadedSubject]:
    source = context.options["source"]
    if "phantom" in source:
        phantom = source["phantom"]
        subjects: Iterator[LoadedSubject] = iter(
            phantom_subjects(
                phantom["subjects"], phantom["shape"], seed=phantom["seed"], spacing_mm=phantom["spacing_mm"]
            )
        )
    else:
        wanted = {key for keys in context.options["split"].values() for key in keys}
        folder = Path(context.where["folder"])
        files = find_subjects(folder, from_options(Layout, json.loads(context.where["layout"])))
        if context.recipe.pairing == "listing_order":
            files = pair_by_listing(files, folder)
        subjects = _loaded([subject for subject in files if subject.key in wanted], source.get("reading", {}))
    numbers = count()
    for subject in subjects:
        context.progress(next(numbers), total, "subjects")
        yield subject
        del subject  # or it would stay in memory while the next one is made


def _loaded(files: Sequence[Subject], reading: Reading) -> Iterator[LoadedSubject]:
    """Load one subject after another. All that are bad are told at the end, in one InputError of a line each."""
    problems = []
    for subject in files:
        try:
            yield load_subject(subject, **reading)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
