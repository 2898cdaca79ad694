"""Two folders of masks -> every segmentation metric, per subject and over subjects, as the content of results.json."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmark import __version__
from benchmark.environment import environment
from benchmark.metrics.asking import Wanted, chosen, default_options
from benchmark.metrics.registry import REGIONS, every, range_of
from benchmark.scoring.conventions import BothEmpty, mask_conventions
from benchmark.scoring.folder_results import Aggregate, EvaluationResults, SubjectValue
from benchmark.scoring.masks import best_values, mask_rows
from vesselgan.data.folders import Labels, MaskFile, array_files, read_mask
from vesselgan.errors import InputError
from vesselgan.metrics import Neighbours
from vesselgan.metrics.estimates import mean_with_interval

__all__ = ["Case", "Evaluation", "evaluate_folders", "paired_files"]

# What is added to the name of a case: the channel of a scan, and words that say that a file is a mask.
ADDED = re.compile(r"(_(0000|vessels?|d?seg|segmentation|labels?|mask|brain|pred|prediction|gt))+$", re.IGNORECASE)
INTRACRANIAL = "intracranial"
NO_MASK = "no brain mask was given (--mask DIR), so intracranial vessels cannot be told apart"
NOTHING = "neither truth nor prediction has a vessel there, so there is nothing to compare"
NO_SPACING = "the files have no header that says how large a voxel is: give NIfTI for millimetres"


@dataclass(frozen=True, eq=False)
class Case:
    """Projections of one subject along its third axis, for the page."""

    subject: str
    dsc: float
    truth: NDArray[np.bool_]  # (X, Y)
    prediction: NDArray[np.bool_]  # (X, Y)
    spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """The content of results.json, and the subjects of the lowest and of the highest DSC."""

    results: EvaluationResults
    shown: tuple[Case, ...]


def paired_files(truth: Path, prediction: Path, mask: Path | None) -> dict[str, tuple[Path, Path, Path | None]]:
    """Name -> truth, prediction and brain mask. Raises InputError where a name is not in each of the folders.

    Where names differ, what tools add to them does not count, see `_case_names`.
    """
    folders = {"--truth": truth, "--prediction": prediction} | ({"--mask": mask} if mask else {})
    files = {option: array_files(folder, option) for option, folder in folders.items()}
    for option, folder in folders.items():
        if not files[option]:
            raise InputError(f"{folder}: no masks; {option} wants NIfTI, npy or npz files named alike in each folder")
    if any(found.keys() != files["--truth"].keys() for found in files.values()):
        files = {option: _case_names(found) for option, found in files.items()}
    names = sorted(set().union(*files.values()))
    problems = []
    for option, folder in folders.items():
        missing = [name for name in names if name not in files[option]]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            problems.append(
                f"{folder}: no file named {', '.join(missing[:3])}{more}; {option} needs one for each subject"
            )
    if problems:
        raise InputError("\n".join(problems))
    masks = files.get("--mask", {})
    return {name: (files["--truth"][name], files["--prediction"][name], masks.get(name)) for name in names}


def _case_names(files: Mapping[str, Path]) -> dict[str, Path]:
    """Files under the names of their cases: without `_vessels` (of `segment`), `_0000` (of nnU-Net's images), `_seg`.

    Probabilities beside their mask are no masks. Raises InputError for two files of one case.
    """
    cases: dict[str, Path] = {}
    for name, path in files.items():
        mask_name = name.removesuffix("_probability") + "_vessels"
        if name.endswith("_probability") and mask_name in files:
            continue
        case = ADDED.sub("", name) or name
        if case in cases:
            raise InputError(f"{path}: seems to be of the case of {cases[case].name}, too ({case}); keep one")
        cases[case] = path
    return cases


def evaluate_folders(
    truth: Path,
    prediction: Path,
    mask: Path | None,
    progress: Callable[[int, int], None],
    both_empty: BothEmpty = "leave-out",
    labels: Labels | None = None,
    contours: Neighbours | None = None,
) -> Evaluation:
    """Score every pair of masks of equal names; whatever is wrong with any file is told before anything is returned.

    Distances are in voxels, and in millimetres where the truth's header says how large a voxel is. Where truth or
    prediction is empty they are the image's diagonal (bAVD of an empty prediction is more), and the row and every
    aggregate say so. Where both are empty, in the image or within the brain mask, there is nothing to compare:
    `both_empty` leaves such values out and counts them, or takes them for "perfect", as some challenges do. Raises
    InputError, with one line per bad file. `labels` are the values of label maps that count as vessels; without them
    both files are masks. With `contours`, the number of neighbours that make one, distances between contours, too.
    """
    asked = default_options("subject") | ({"contours": {"neighbours": contours}} if contours else {})
    files = paired_files(truth, prediction, mask)
    rows: list[SubjectValue] = []
    worst: Case | None = None
    best: Case | None = None
    problems: list[str] = []
    for index, (subject, paths) in enumerate(files.items()):
        progress(index, len(files))
        try:
            masks = _read(*paths, labels)
        except InputError as error:
            problems += str(error).splitlines()
            continue
        if problems:
            continue  # nothing will come of it: only look for further bad files
        rows += _rows(subject, *masks, both_empty, asked)
        case = _case(subject, masks[0], masks[1], rows)
        if case is None:
            continue
        worst = case if worst is None or case.dsc < worst.dsc else worst
        best = case if best is None or case.dsc >= best.dsc else best
    progress(len(files), len(files))
    if problems:
        raise InputError("\n".join(problems))
    values = sorted(labels) if isinstance(labels, frozenset) else labels
    shown = (worst, best) if worst and best and worst.subject != best.subject else (worst,) if worst else ()
    results: EvaluationResults = {
        "command": "evaluate",
        "truth": str(truth),
        "prediction": str(prediction),
        "mask": str(mask) if mask else None,
        "n": len(files),
        "both_empty": both_empty,
        "contours": contours,
        "labels": values,
        "conventions": {"masks": mask_conventions(values, both_empty=both_empty, contours=contours)},
        "version": __version__,
        "environment": environment("cpu"),
        "metrics": _aggregates(rows, asked, has_mask=mask is not None),
        "subjects": rows,
    }
    return Evaluation(results, shown)


def _read(
    truth: Path, prediction: Path, brain: Path | None, labels: Labels | None
) -> tuple[MaskFile, MaskFile, MaskFile | None]:
    """The masks of one subject, on one grid. Raises InputError with all that is wrong with them."""
    problems, read = [], []
    for path, of_vessels in ((truth, True), (prediction, True), (brain, False)):
        try:
            read.append(read_mask(path, labels if of_vessels else None) if path else None)
        except InputError as error:
            problems.append(str(error))
    if not problems:
        assert read[0] is not None
        for other in read[1:]:
            try:
                read[0].check_grid(other) if other else None
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return read[0], read[1], read[2]  # type: ignore[return-value]  # only the brain mask can be None


def _rows(
    subject: str,
    truth: MaskFile,
    prediction: MaskFile,
    brain: MaskFile | None,
    both_empty: BothEmpty,
    asked: Wanted,
) -> list[SubjectValue]:
    """One row per metric and region that can be had, `value` None where it cannot."""
    inside = brain.data if brain else None
    rows = mask_rows(truth.data, prediction.data, inside, truth.spacing_mm, asked)
    if both_empty == "perfect":
        either = truth.data | prediction.data
        nothing = {"all": not either.any(), INTRACRANIAL: inside is not None and not (either & inside).any()}
        best = best_values(has_mm=truth.spacing_mm is not None)
        rows = ((name, best.get(name) if nothing[_region(name)] else value, empty) for name, value, empty in rows)
    return [
        {"subject": subject, "metric": name, "value": value, "empty": int(empty)}
        for name, value, empty in rows
        if brain or not name.endswith(f"/{INTRACRANIAL}")
    ]


def _aggregates(rows: list[SubjectValue], asked: Wanted, *, has_mask: bool) -> dict[str, Aggregate]:
    metrics: dict[str, Aggregate] = {}
    keys = [metric.key for each in chosen("subject", asked) for metric in each.measurement.metrics]
    for name in [f"{key}/{region}" for region in REGIONS for key in keys]:
        of_metric = [row for row in rows if row["metric"] == name]
        known = [(row["value"], row["empty"]) for row in of_metric if row["value"] is not None]
        left_out = sum(row["empty"] for row in of_metric if row["value"] is None)
        if known:
            mean = mean_with_interval([value for value, _ in known], "subject", range_of(name))
            empty = sum(empty for _, empty in known)
            metrics[name] = cast(Aggregate, {**mean, "empty": empty, "left_out": left_out})
            continue
        if every("subject")[name].metric.unit == "mm" and metrics[f"dsc/{_region(name)}"]["value"] is not None:
            left_out = 0  # it is for want of a voxel's size that nobody has a value
        reason = NO_MASK if _region(name) == INTRACRANIAL and not has_mask else _why_none(name, left_out)
        metrics[name] = {
            "value": None,
            "n": 0,
            "ci_low": None,
            "ci_high": None,
            "empty": left_out,
            "left_out": left_out,
            "reason": reason,
        }
    return metrics


def _why_none(name: str, left_out: int) -> str:
    metric = every("subject")[name].metric
    if left_out:
        return NOTHING
    return NO_SPACING if metric.unit == "mm" else f"{metric.title} has no value for these masks"


def _region(name: str) -> str:
    return name.rpartition("/")[2]


def _case(subject: str, truth: MaskFile, prediction: MaskFile, rows: list[SubjectValue]) -> Case | None:
    """None where both masks are empty."""
    dsc = next(row["value"] for row in reversed(rows) if row["metric"] == "dsc/all")
    if dsc is None:
        return None
    spacing = truth.spacing_mm or (1.0, 1.0, 1.0)
    return Case(subject, dsc, np.asarray(truth.data.any(axis=2)), np.asarray(prediction.data.any(axis=2)), spacing[:2])
