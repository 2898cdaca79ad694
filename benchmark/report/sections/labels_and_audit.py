"""What stands beside the distances: statistics of vessel labels, and the audit for replayed training patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.artifacts.reading import read_arrays
from benchmark.artifacts.roles import Role
from benchmark.metrics.labels import STATISTICS
from benchmark.report.pictures import Picture, grey_picture
from benchmark.report.sections.figures import first_files, plane_spacing
from benchmark.report.sections.tables import Column, Entry, Row, Table
from benchmark.report.sections.text import ArmMark, number
from benchmark.results.format import Results
from benchmark.results.run_folder import Run
from benchmark.scoring.audits import audit_sentence

__all__ = ["AuditView", "ClosestPair", "audit_views", "closeness", "label_table"]


@dataclass(frozen=True)
class ClosestPair:
    """A generated patch beside the training patch that is nearest to it."""

    generated: Picture
    training: Picture
    caption: str


@dataclass(frozen=True)
class AuditView:
    """The audit of one arm's first seed."""

    arm: ArmMark
    seed: int
    sentences: Sequence[str]
    closest: Sequence[ClosestPair]


def label_table(results: Results, marks: Mapping[str, ArmMark]) -> Table | None:
    """Real vessel labels, and those of each arm: the mean of each statistic, below it the Wasserstein-1 distance."""
    means = results["real_labels"]["means"] if results["real_labels"] else None
    if means is None:
        return None
    rows = [Row(None, [Entry(_shown(means.get(name), name), value=means.get(name)) for name in STATISTICS], "real")]
    for group in results["groups"]:
        of_arm = group["label_means"]
        if of_arm is None:
            continue
        entries = []
        for name in STATISTICS:
            distance = group["metrics"].get(f"label_{name}")
            w1 = f"W1 {_shown(distance['value'] if distance else None, name)}"
            entries.append(Entry(_shown(of_arm.get(name), name), w1, value=of_arm.get(name)))
        rows.append(Row(marks[group["label"]], entries))
    columns = [Column(statistic.title, statistic.about) for statistic in STATISTICS.values()]
    return Table(columns, rows, caption="Vessel labels of real and of synthetic patches")


def audit_views(run: Run, results: Results, marks: Mapping[str, ArmMark]) -> Sequence[AuditView]:
    """For each arm's first finished seed, what the audit found and the closest pairs in image space."""
    spacing = plane_spacing(run)
    cells = {cell["id"]: cell for cell in results["cells"]}
    views = []
    for mark, record, path in first_files(run, marks, Role.SCORE, "closest.npz"):
        cell, arrays = cells[record["cell"]["id"]], read_arrays(path, ["generated", "training"])
        closest = [
            ClosestPair(
                grey_picture(generated.max(axis=2), spacing, f"{mark.name}: image", unit=True),
                grey_picture(training.max(axis=2), spacing, "the nearest training patch", unit=True),
                closeness(patch["distance"], patch["over_threshold"]),
            )
            for generated, training, patch in zip(arrays["generated"], arrays["training"], cell["closest"], strict=True)
        ]
        sentences = [audit_sentence(space, audit) for space, audit in cell["memorisation"].items()]
        views.append(AuditView(mark, cell["seed"], sentences, closest))
    return views


def closeness(distance: float, over_threshold: float | None) -> str:
    """A distance to a training patch, measured by the one below which it is suspicious."""
    return f"distance {distance:.3g}" if over_threshold is None else f"{over_threshold:.2f} of the threshold"


def _shown(value: float | None, name: str) -> str:
    return "n/a" if value is None else number(value, STATISTICS[name].decimals)
