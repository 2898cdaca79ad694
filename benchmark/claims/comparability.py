"""Whether what a run measured can be compared with a published number, and why not."""

from collections.abc import Mapping, Sequence
from typing import Literal

from benchmark.protocol.schema import Profile
from benchmark.results.format import CellResult
from benchmark.results.run_folder import DataFacts, Settings
from vesselgan.variants import VARIANTS

__all__ = ["why_not_comparable"]

SIZES = ("patch", "filters", "pairs", "epochs", "steps", "batch")  # of the training; the defaults are the paper's
UNET_SIZES = ("filters", "batch", "steps")
RESIZED: tuple[Literal["filters", "batch"], ...] = ("filters", "batch")  # that a cell may have of its own


def why_not_comparable(data: DataFacts, settings: Settings, cells: Sequence[CellResult] = ()) -> str | None:
    """Why a run cannot bear on the paper's own numbers, or None where it can.

    `cells` are those of results.json: a matrix may give them another width or batch than `settings` say.
    """
    if data.get("phantom"):
        return "an embedded phantom can neither confirm nor refute what was measured on patients"
    paper = Profile().model_dump(mode="json")
    other = [name for name in SIZES if name in settings and settings.get(name) != paper[name]]
    for name in RESIZED:
        if name not in other and any(_is_resized(cell, name, paper[name]) for cell in cells):
            other.append(name)
    unet: Mapping[str, object] = settings.get("unet", {})
    other += [f"unet.{name}" for name in UNET_SIZES if name in unet and unet[name] != paper["unet"][name]]
    if other:
        return f"networks of another size or training than the paper's ({', '.join(other)}) cannot bear on its numbers"
    return None


def _is_resized(cell: CellResult, name: Literal["filters", "batch"], usual: int) -> bool:
    variant = VARIANTS.get(cell["variant"] or "")
    if variant and variant.filters is None:
        return False  # none of the paper's
    expected = variant.filters if variant and name == "filters" else usual
    return cell[name] not in (None, expected)  # real data have neither
