"""Patches that hold next to nothing enter no distance; how many they were is told wherever the distance is."""

from collections.abc import Mapping
from dataclasses import dataclass

from vesselgan.recipe import FEWEST_INSIDE

__all__ = ["LeftOut", "left_out_warnings"]

_MANY_MORE = 0.05  # of all patches, by which a generator's nearly empty ones exceed the real ones


@dataclass(frozen=True)
class LeftOut:
    """How many patches of a set were left out, of how many that were looked at."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """Of all."""
        return self.count / self.of


def left_out_warnings(sets: Mapping[str, LeftOut]) -> list[str]:
    """A line for each set, by its name, that had such patches, and one where `generated` has many more than `real`."""
    lines = [
        f"{name}: {left.count} of {left.of} patches are nearly empty (under {FEWEST_INSIDE:.0%} of their voxels lie "
        "above black) and were left out of the distances"
        for name, left in sets.items()
        if left.count
    ]
    if {"real", "generated"} <= sets.keys() and sets["generated"].share > sets["real"].share + _MANY_MORE:
        lines.append(
            f"{sets['generated'].share:.0%} of the generated patches are nearly empty and {sets['real'].share:.0%} of "
            "the real ones: that difference is in no distance"
        )
    return lines
