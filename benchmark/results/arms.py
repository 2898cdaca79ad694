"""What a cell of results.json is: what its U-Net learned from."""

from collections.abc import Mapping
from typing import Any, Literal

__all__ = ["trained_on"]


def trained_on(cell: Mapping[str, Any]) -> Literal["real", "synthetic", "both", "phantoms", "nothing"]:
    """What the U-Net of a cell of results.json learned from; a rule without learning has none."""
    if cell.get("untrained"):  # absent from earlier runs
        return "nothing"
    if cell.get("simulated"):
        return "phantoms"
    if cell["mixed_with"]:
        return "both"
    # Earlier runs have no families, and their generators are WGANs, whose critics have a norm.
    return "synthetic" if cell.get("family") or cell["norm"] or cell["external"] else "real"
