"""What stands beside the distances: the labels' statistics, and the audit for replayed training patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.metrics.labels import STATISTICS
from benchmark.report.pictures import Picture, grey_picture
from benchmark.report.sections.figures import first_files, plane_spacing
from benchmark.report.sections.tables import Column, Entry, Row, Table
from benchmark.report.sections.text import LabelMark, number
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
    """The audit of one label's first seed."""

    label: LabelMark
    seed: int
    sentences: Sequence[str]
    closest: Sequence[ClosestPair]


def label_table(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Table | None:
    """Real labels, and each generative label: the mean of each statistic, below it the Wasserstein-1 distance."""
    cells = [cell for cell in results["cells"] if (cell["labels"] or {}).get("means")]
    if not cells:
        return None
    real = cells[0]["labels"]["means"]
    rows = [Row(None, [Entry(_shown(real[name]["real"], name)) for name in STATISTICS], "real")]
    for label in dict.fromkeys(cell["label"] for cell in cells):
        of_label = [cell for cell in cells if cell["label"] == label]
        entries = []
        for name in STATISTICS:
            mean = _mean([cell["labels"]["means"][name]["generated"] for cell in of_label])
            distance = _mean([cell["metrics"].get(f"label_{name}", {}).get("value") for cell in of_label])
            entries.append(Entry(_shown(mean, name), f"W1 {_shown(distance, name)}"))
        rows.append(Row(marks[label], entries))
    return Table([Column(statistic.title, statistic.about) for statistic in STATISTICS.values()], rows)


def audit_views(run: Run, marks: Mapping[str, LabelMark]) -> Sequence[AuditView]:
    """For each label's first finished seed, what the audit found and the closest pairs in image space."""
    spacing = plane_spacing(run)
    views = []
    for mark, record, path in first_files(run, marks, "score", "closest.npz"):
        audits = (run.values(record, "score") or {}).get("memorisation", {})
        with np.load(path) as arrays:
            closest = [
                ClosestPair(
                    grey_picture(generated.max(axis=2), spacing, f"{mark.name}: image", unit=True),
                    grey_picture(training.max(axis=2), spacing, "the nearest training patch", unit=True),
                    closeness(float(distance), float(arrays["threshold"])),
                )
                for generated, training, distance in zip(
                    arrays["generated"], arrays["training"], arrays["distance"], strict=True
                )
            ]
        sentences = [audit_sentence(space, audit) for space, audit in audits.items()]
        views.append(AuditView(mark, record["cell"]["seed"], sentences, closest))
    return views


def closeness(distance: float, threshold: float) -> str:
    """A distance to a training patch, measured by the one below which it is suspicious."""
    return f"{distance / threshold:.2f} of the threshold" if threshold else f"distance {distance:.3g}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _shown(value: float | None, name: str) -> str:
    return "n/a" if value is None else number(value, STATISTICS[name].decimals)
