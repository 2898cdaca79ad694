"""The folders that `score` is given: opened and checked together, and which of their patches count."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.patch_folder import PatchFolder, open_patches
from vesselgan.errors import InputError
from vesselgan.features import holds_enough
from vesselgan.recipe import FEWEST_INSIDE

__all__ = ["BATCH", "FEWEST_PATCHES", "channel_warnings", "opened", "rows_that_count", "shared"]

Report = Callable[[str, int, int], None]
BATCH = 16
FEWEST_PATCHES = 10  # PRD's 20 clusters of both sets together need that many of each


def opened(options: Mapping[str, Path], report: Report, nan: float | None = None) -> dict[str, PatchFolder]:
    """By option; NaN in an image becomes `nan`, if that is given.

    Raises InputError: bad files, other sizes, too few patches, training ones given as real ones.
    """
    folders, problems = {}, []
    for done, (option, path) in enumerate(options.items()):
        report(f"checking {option.removeprefix('--')} files", done, len(options))
        try:
            folders[option] = open_patches(path, option, nan=nan)
        except InputError as error:
            problems += str(error).splitlines()
    if not problems:
        real = folders["--real"]
        for option, folder in folders.items():
            if folder.shape != real.shape:
                problems.append(
                    f"{folder.folder}: patches of {folder.shape}, but those of {real.folder} are {real.shape}; "
                    "each array is taken as one patch, so cut both alike"
                )
            elif folder.count < FEWEST_PATCHES:
                problems.append(f"{folder.folder}: {folder.count} patches; {option} needs {FEWEST_PATCHES} or more")
        if "--training" in folders and folders["--training"].folder.resolve() == real.folder.resolve():
            problems.append(shared(folders))
    if problems:
        raise InputError("\n".join(problems))
    return folders


def rows_that_count(folders: Mapping[str, PatchFolder], report: Report) -> dict[str, NDArray[np.intp]]:
    """The rows of each folder whose features mean something. Raises InputError where they are too few."""
    rows, problems = {}, []
    for option, folder in folders.items():
        enough: list[NDArray[np.bool_]] = []
        for batch in folder.batches(BATCH):
            enough.append(holds_enough(batch.images))
            report(f"looking for empty patches in {folder.folder.name}", sum(map(len, enough)), folder.count)
        rows[option] = np.flatnonzero(np.concatenate(enough))
        if len(rows[option]) < FEWEST_PATCHES:
            problems.append(
                f"{folder.folder}: {len(rows[option])} of {folder.count} patches have more than {FEWEST_INSIDE:.0%} of "
                f"their voxels above black; {option} needs {FEWEST_PATCHES} or more"
            )
    if problems:
        raise InputError("\n".join(problems))
    return rows


def channel_warnings(folders: Mapping[str, PatchFolder]) -> list[str]:
    """A line for each folder in which further channels were passed over."""
    return [
        f"{option.removeprefix('--')}: {len(folder.further_channels)} files of further channels "
        f"({folder.further_channels[0].name}) were passed over"
        for option, folder in folders.items()
        if folder.further_channels
    ]


def shared(folders: Mapping[str, PatchFolder]) -> str:
    """Says that the patches of `--training` are those of `--real`."""
    return (
        f"{folders['--training'].folder}: given as --training, but holds the patches of --real "
        f"{folders['--real'].folder}; give real patches of subjects that the generator did not learn from"
    )
