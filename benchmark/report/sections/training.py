"""What a page says of training steps that were not applied, where there were any."""

from collections.abc import Iterable, Mapping, Sequence

from benchmark.results.format import CellResult
from benchmark.words import plural
from vesselgan.families import family_of

__all__ = ["rejected_steps"]


def rejected_steps(cells: Iterable[CellResult]) -> Sequence[str]:
    """One sentence per training that rejected steps or left some out for its loss scale."""
    lines, told = [], set()
    for cell in cells:
        for role, network in (("gan", family_of(cell, "family").title), ("unet", "U-Net")):
            counts = cell["steps_rejected"].get(role, {})
            if any(counts.values()) and cell["stages"][role] not in told:  # cells may share a training
                told.add(cell["stages"][role])
                steps = plural(cell["trainings"][role]["steps"], "step")
                lines.append(f"{cell['label']}, seed {cell['seed']}, {network}: of {steps}, {_parts(counts)}.")
    return lines


def _parts(counts: Mapping[str, int]) -> str:
    texts = {
        "not finite": "gave a loss or gradient that was not finite",
        "absurd": "gave one that was absurdly large",
        "loss scale": "overflowed float16 while its loss scale was sought",
    }
    return ", ".join(f"{counts[kind]} {text}" for kind, text in texts.items() if counts[kind])
