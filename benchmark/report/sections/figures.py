"""Charts and pictures from the files of a run's stages; a part whose files are missing is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import Step, read_arrays, read_steps
from benchmark.artifacts.roles import Role
from benchmark.artifacts.values import UNetValues
from benchmark.metrics.registry import every
from benchmark.report.charts import REAL_COLOUR, Curve, Line, prd_chart, subject_chart, training_chart
from benchmark.report.pictures import Picture, grey_picture, mask_picture
from benchmark.report.sections.text import ArmMark
from benchmark.results.format import Results
from benchmark.results.run_folder import CellRecord, Run
from vesselgan.data import VolumeStore, open_store
from vesselgan.errors import InputError
from vesselgan.families import FAMILIES

__all__ = [
    "CourseRow",
    "SampleRow",
    "course_rows",
    "first_files",
    "in_plane",
    "plane_spacing",
    "prd_figure",
    "run_store",
    "sample_rows",
    "subject_figures",
    "training_figures",
]

INT8_SCALE = 127  # of the pictures taken during training
SHOWN = 8
# Readings of training steps by role, with title and axis; a generator's others are shown under their own names.
TRAINING_PANELS = {
    **{("gan", name): panel for family in FAMILIES.values() for name, panel in family.readings.items()},
    ("unet", "loss"): ("U-Net: training loss, on its own data", "−soft Dice"),
    ("unet", "validation"): ("U-Net: validation loss, on whole real volumes", "−Dice"),
}
# What says nothing that the others do not.
NOT_SHOWN = {"step", "outcome", "loss_scale", "critic_loss", "generator_loss", "score_train", "score_held_out"}
PANELS = ("dsc/all", "dsc/intracranial", "bavd_voxel/all", "bavd_voxel/intracranial")


@dataclass(frozen=True)
class SampleRow:
    """Pairs of one arm, or real ones: projections of images and of their vessel labels, in the same order."""

    arm: ArmMark | None
    seed: int | None
    pairs: Sequence[tuple[Picture, Picture]]


@dataclass(frozen=True)
class CourseRow:
    """One arm over its training: steps done, image and vessel label."""

    arm: ArmMark
    seed: int
    moments: Sequence[tuple[str, Picture, Picture]]


def subject_figures(results: Results, marks: Mapping[str, ArmMark]) -> Sequence[Markup]:
    """A chart per metric and region: every test subject, each the mean over its arm's seeds."""
    colours = {name: mark.colour for name, mark in marks.items()}
    charts = []
    for metric in PANELS:
        means = {
            group["label"]: group["over_subjects"][metric]["subjects"]
            for group in results["groups"]
            if metric in group["over_subjects"]
        }
        if means:
            named = every()[metric]
            title = f"{named.metric.title}, {named.region} vessels"
            charts.append(Markup(subject_chart(means, colours, title, named.metric.title_with_unit)))
    return charts


def prd_figure(run: Run, marks: Mapping[str, ArmMark]) -> Markup | None:
    """PRD of every arm and the floor."""
    curves: dict[str, tuple[list[Any], list[Any]]] = {}
    floor: Curve | None = None
    for record in run.cells:
        if pair := _prd(run.file(record, Role.SCORE, "prd.npz")):
            precision, recall = curves.setdefault(record["cell"]["label"], ([], []))
            precision.append(pair[0])
            recall.append(pair[1])
        if floor is None and (pair := _prd(run.file(record, Role.REFERENCE, "prd.npz"))):
            floor = Curve(REAL_COLOUR, [pair[0]], [pair[1]])
    if not curves:
        return None
    coloured = {name: Curve(marks[name].colour, *parts) for name, parts in curves.items()}
    return Markup(prd_chart(coloured, floor, "Precision and recall of distributions"))


def _prd(path: Path | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    arrays = read_arrays(path, ["precision", "recall"], optional=True) if path else {}
    return (arrays["precision"], arrays["recall"]) if arrays else None


def sample_rows(run: Run, marks: Mapping[str, ArmMark]) -> Sequence[SampleRow]:
    """Real patches, then the first synthetic pairs of each arm's first finished seed."""
    store = run_store(run)
    spacing = plane_spacing(run)
    rows = []
    if store is not None and (pairs := _real_pairs(store)):
        rows.append(SampleRow(None, None, [_pair(image, label, spacing, "#c9c9c9", "real") for image, label in pairs]))
    for mark, record, path in first_files(run, marks, Role.PAIRS, "shown.npz"):
        shown = read_arrays(path, ["images", "labels"])
        images, labels = decoded(shown["images"][:SHOWN]), shown["labels"][:SHOWN]
        pictures = [
            _pair(image, label, spacing, mark.colour, mark.name) for image, label in zip(images, labels, strict=True)
        ]
        rows.append(SampleRow(mark, record["cell"]["seed"], pictures))
    return rows


def plane_spacing(run: Run) -> tuple[float, float]:
    """Of the first subject, for pictures of patches."""
    store = run_store(run)
    return (1.0, 1.0) if store is None else in_plane(store.subjects[0].spacing_mm)


def run_store(run: Run) -> VolumeStore | None:
    """The volumes of the run, where its data stage is done."""
    folder = next((folder for record in run.cells if (folder := run.files(record, Role.DATA, "store"))), None)
    try:
        return None if folder is None else open_store(folder)
    except InputError:  # of an earlier format, since its files are as they were written
        return None


def _real_pairs(store: VolumeStore) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """The first training patches with a vessel, in an order drawn once and for all: several subjects and places."""
    pairs: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    for index in np.random.default_rng(0).permutation(store.patches("train")):
        images, labels = store.cut_pairs([int(index)], "volume")
        if labels.any():
            pairs.append((images[0], labels[0].astype(bool)))
        if len(pairs) == SHOWN:
            break
    return pairs


def _pair(
    image: NDArray[np.float32], label: NDArray[np.bool_], spacing: tuple[float, float], colour: str, name: str
) -> tuple[Picture, Picture]:
    grey = grey_picture(image.max(axis=2), spacing, f"{name}: image", unit=True)
    return grey, mask_picture(np.any(label, axis=2), spacing, colour, f"{name}: label")


def first_files(
    run: Run, marks: Mapping[str, ArmMark], role: str, name: str
) -> Iterator[tuple[ArmMark, CellRecord, Path]]:
    """Of each arm the file of its first cell that has one."""
    seen: set[str] = set()
    for record in run.cells:
        arm = record["cell"]["label"]
        if arm not in seen and (path := run.file(record, role, name)):
            seen.add(arm)
            yield marks[arm], record, path


def course_rows(run: Run, marks: Mapping[str, ArmMark]) -> Sequence[CourseRow]:
    """What each arm's first finished seed makes of the same noise, over its training."""
    spacing = plane_spacing(run)
    rows = []
    for mark, record, path in first_files(run, marks, Role.GAN, "course.npz"):
        steps, images, labels = read_arrays(path, ["steps", "images", "labels"]).values()
        chosen = np.unique(np.linspace(0, len(steps) - 1, min(SHOWN, len(steps))).round().astype(int))
        moments = []
        for at in chosen:
            alt = f"{mark.name} after {steps[at]} steps"
            image = grey_picture(images[at, 0].astype(np.float32) / INT8_SCALE, spacing, alt, unit=True)
            moments.append((str(steps[at]), image, mask_picture(labels[at, 0], spacing, mark.colour, f"{alt}, label")))
        rows.append(CourseRow(mark, record["cell"]["seed"], moments))
    return rows


def training_figures(run: Run, marks: Mapping[str, ArmMark]) -> Sequence[Markup]:
    """Courses of the generators and of the U-Nets."""
    panels: dict[tuple[str, str], list[Line]] = {panel: [] for panel in TRAINING_PANELS}
    for record in run.cells:
        colour = marks[record["cell"]["label"]].colour
        for role in ("gan", "unet"):
            if path := run.file(record, role, "steps.jsonl"):
                steps = read_steps(path)
                for name in dict.fromkeys(name for step in steps for name in step if name not in NOT_SHOWN):
                    if role == "gan" or (role, name) in TRAINING_PANELS:
                        rows = [step for step in steps if name in step]
                        panels.setdefault((role, name), []).append(_line(colour, rows, name))
        if unet := run.values(record, Role.UNET, UNetValues):
            losses = [{"step": each["step"], "loss": each["validation_loss"]} for each in unet["history"]]
            panels["unet", "validation"].append(_line(colour, losses, "loss"))
    charts = []
    for (role, name), lines in panels.items():
        if any(np.isfinite(line.values).any() for line in lines):
            title, axis = TRAINING_PANELS.get((role, name), (f"generator: {name.replace('_', ' ')}", name))
            charts.append(Markup(training_chart(lines, title, axis, log="(log scale)" in axis)))
    return charts


def _line(colour: str, rows: Sequence[Step], name: str) -> Line:
    # A step whose loss was no number has null; as NaN it is left out of the means.
    values = np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
    return Line(colour, np.array([row["step"] for row in rows], dtype=np.float64), values)


def in_plane(spacing_mm: Sequence[float] | NDArray[Any]) -> tuple[float, float]:
    """Of a projection along the third axis."""
    return float(spacing_mm[0]), float(spacing_mm[1])
