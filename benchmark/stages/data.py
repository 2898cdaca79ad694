"""Subjects -> a store of volumes and patch corners."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.stages.context import Context, dataclass_from
from vesselgan.data import (
    Layout,
    LoadedSubject,
    Subject,
    find_subjects,
    load_subject,
    open_store,
    pair_by_listing,
    phantom_subjects,
    write_store,
)
from vesselgan.errors import InputError

__all__ = ["prepare"]


def prepare(context: Context) -> dict[str, Any]:
    """Read or make every subject once and write the store; values describe the data."""
    options = context.options
    splits = {name: list(keys) for name, keys in options["split"].items()}
    write_store(
        context.folder / "store",
        _subjects(context, sum(map(len, splits.values()))),
        splits=splits,
        patch_size=options["patch"],
        grid=options["patches"]["grid"],
        vessel=options["patches"]["vessel"],
        rng=np.random.default_rng(options["seed"]),
    )
    store = open_store(context.folder / "store")
    shares = [float(store.label(subject.key).mean()) for subject in store.subjects]
    return {
        "subjects": {name: len(keys) for name, keys in splits.items()},
        "patches": {name: len(store.patches(name)) for name in splits},
        "shapes": sorted({subject.shape for subject in store.subjects}),
        "spacings_mm": sorted({tuple(round(mm, 4) for mm in subject.spacing_mm) for subject in store.subjects}),
        "vessel_share": float(np.mean(shares)),
        "with_brain_mask": sum(subject.has_mask for subject in store.subjects),
    }


def _subjects(context: Context, total: int) -> Iterator[LoadedSubject]:
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
        files = find_subjects(folder, dataclass_from(Layout, json.loads(context.where["layout"])))
        if context.recipe.pairing == "listing_order":
            files = pair_by_listing(files, folder)
        subjects = _loaded([subject for subject in files if subject.key in wanted], source.get("reading", {}))
    for index, subject in enumerate(subjects):
        context.progress(index, total, "subjects")
        yield subject


def _loaded(files: Sequence[Subject], reading: Mapping[str, Any]) -> Iterator[LoadedSubject]:
    """Load one subject after another. All that are bad are told at the end, in one InputError of a line each."""
    problems = []
    for subject in files:
        try:
            yield load_subject(subject, **reading)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
