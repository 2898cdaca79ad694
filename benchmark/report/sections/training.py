"""What a page says of training steps that were not applied, where there were any."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.report.sections.text import LabelMark
from benchmark.results.run_folder import Run
from benchmark.words import plural
from vesselgan.families import family_of

__all__ = ["rejected_steps"]


def rejected_steps(run: Run, marks: Mapping[str, LabelMark]) -> Sequence[str]:
    """One sentence per training that rejected steps or left some out for its loss scale."""
    lines, told = [], set()
    for record in run.cells:
        cell = record["cell"]
        for role, network in (("gan", family_of(cell, "family").title), ("unet", "U-Net")):
            values = run.values(record, role) or {}
            counts = values.get("steps_rejected", {})
            if any(counts.values()) and record["stages"][role] not in told:  # cells may share a training
                told.add(record["stages"][role])
                name = f"{marks[cell['label']].name}, seed {cell['seed']}, {network}"
                lines.append(f"{name}: of {plural(values['steps'], 'step')}, {_parts(counts)}.")
    return lines


def _parts(counts: Mapping[str, Any]) -> str:
    texts = {
        "not finite": "gave a loss or gradient that was not finite",
        "absurd": "gave one that was absurdly large",
        "loss scale": "overflowed float16 while its loss scale was sought",
    }
    return ", ".join(f"{counts[kind]} {text}" for kind, text in texts.items() if counts[kind])
