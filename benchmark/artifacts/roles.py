"""What a stage is to a cell: the words by which a run folder's `cells/ID.json` lists its stages."""

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["MIXED", "Role", "at_share"]


class Role(StrEnum):
    """Several kinds of stages may fill a role: pairs are synthesised or imported, a rule is evaluated as a U-Net is."""

    DATA = "data"
    GAN = "gan"
    PAIRS = "pairs"  # that are scored, and that a U-Net learns from
    SIMULATED_PAIRS = "simulated_pairs"  # phantoms, which are not scored
    MIXED_GAN = "mixed_gan"  # another cell's, half of whose pairs a U-Net sees beside real ones
    MIXED_PAIRS = "mixed_pairs"
    MEASURE = "measure"
    REFERENCE = "reference"
    SCORE = "score"
    RULES = "rules"  # without learning, in the place of a U-Net
    UNET = "unet"
    EVALUATE = "evaluate"
    # The numerics checks that the others rest on.
    VERIFY_GAN = "verify_gan"
    VERIFY_SCORE = "verify_score"
    VERIFY_UNET = "verify_unet"


def at_share(role: Role, share: float) -> str:
    """What fills a role for the generator as it was after this share of its training: `score at 0.25`."""
    return f"{role} at {share:g}"


# What a cell's stages are to one that mixes its pairs with real patches.
MIXED: Mapping[Role, Role] = {Role.GAN: Role.MIXED_GAN, Role.PAIRS: Role.MIXED_PAIRS}
