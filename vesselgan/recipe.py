"""Where the paper's public code differs from its text or from good practice: one option each, two values each.

The D-numbers are those of the project's list of deviations. ``PAPER_CODE`` sets the options to what the authors'
code does (repository ``prediction2020/3DGAN_synthesis_of_3D_TOF_MRA_with_segmentation_labels``, commit c114259),
``CORRECTED`` to what it should do; :func:`resolve_recipe` starts from either and changes single options. Two options
are as corrected in both, since they ruin a run on one's own data without a word: how files are paired (D6), and what
a resumed training keeps (D13). They change only where they are asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vesselgan.errors import InputError, did_you_mean

__all__ = ["CORRECTED", "DEVIATIONS", "FEWEST_INSIDE", "PAPER_CODE", "RECIPES", "Recipe", "as_dict", "resolve_recipe"]

# Without D9's noise: the share of a patch's voxels, above its zero, that its z-scores can be taken over.
FEWEST_INSIDE = 0.05


def _deviation(number: str, *, paper_code: Any, corrected: Any, about: str, by_name: bool = False) -> Any:
    """A field whose default is the corrected value and whose metadata carries both, for reports and validation.

    One that is `by_name` is corrected in ``PAPER_CODE``, too.
    """
    metadata = {"deviation": number, "paper_code": paper_code, "corrected": corrected, "about": about}
    metadata["by_name"] = by_name
    return field(default=corrected, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """One value per deviation; ``dataclasses.fields(Recipe)[i].metadata`` holds its number, both values and meaning.

    Raises InputError for a value that is not one of a field's two.
    """

    penalty_norm: Literal["batch", "sample"] = _deviation(
        "D1",
        paper_code="batch",
        corrected="sample",
        about="the penalty takes one gradient norm over the whole batch, so that the optimum per sample is 1/sqrt(B)",
    )
    epsilon: Literal["batch", "sample"] = _deviation(
        "D2", paper_code="batch", corrected="sample", about="one interpolation weight for the whole batch"
    )
    interpolate: Literal["attached", "detached"] = _deviation(
        "D3",
        paper_code="attached",
        corrected="detached",
        about="the penalty back-propagates into the generator, where its gradients are thrown away: same numbers, cost",
    )
    critic_update: Literal["after_loop", "inside_loop"] = _deviation(
        "D4",
        paper_code="after_loop",
        corrected="inside_loop",
        about="of several critic passes only the last one trains; no effect at one critic step",
    )
    prd_arguments: Literal["swapped", "named"] = _deviation(
        "D5", paper_code="swapped", corrected="named", about="PRD's precision and recall change places"
    )
    pairing: Literal["listing_order", "by_key"] = _deviation(
        "D6",
        paper_code="listing_order",
        corrected="by_key",
        about="images and labels are paired by their places in two unsorted file lists, whose order the file system "
        "decides; no effect on the embedded phantom, which has no files",
        by_name=True,
    )
    generation_statistics: Literal["batch", "running"] = _deviation(
        "D7",
        paper_code="batch",
        corrected="running",
        about="BatchNorm uses batch statistics at generation, so samples of one batch depend on each other",
    )
    label_low: float = _deviation(
        "D8", paper_code=0.0, corrected=-1.0, about="value of background in the label channel, which ends in a tanh"
    )
    label_threshold: float = _deviation(
        "D8", paper_code=0.4, corrected=0.0, about="a generated label is vessel above this value"
    )
    intensity_scaling: Literal["patch", "volume"] = _deviation(
        "D8",
        paper_code="patch",
        corrected="volume",
        about="images are scaled by the extremes of each patch, so a U-Net meets another scale in whole volumes",
    )
    feature_noise: Literal["noise", "none"] = _deviation(
        "D9",
        paper_code="noise",
        corrected="none",
        about="zero voxels, found mostly in real patches, become N(0, 1) noise before feature extraction, and nearly "
        "empty patches, which noise then fills, count; without it they enter no distance and no audit",
    )
    critic_init: Literal["after_norm", "before_norm"] = _deviation(
        "D10",
        paper_code="after_norm",
        corrected="before_norm",
        about="N(0, 0.05) is written after spectral norm and never reaches the critic's weights (the outcome on a GPU)",
    )
    gamma_mean: float = _deviation(
        "D11", paper_code=0.0, corrected=1.0, about="BatchNorm's gamma starts at N(this, 0.05)"
    )
    reductions: Literal["low", "float32"] = _deviation(
        "D12",
        paper_code="low",
        corrected="float32",
        about="critic scores are summed and averaged in the autocast dtype; in float16 the first steps overflow",
    )
    drop_last: bool = _deviation(
        "D13", paper_code=False, corrected=True, about="an epoch ends with a batch of what is left over"
    )
    resume_state: Literal["nets_only", "full"] = _deviation(
        "D13",
        paper_code="nets_only",
        corrected="full",
        about="a training that is resumed drops the loss scale, and its random numbers and data order start again",
        by_name=True,
    )
    label_metrics: Literal["none", "scored"] = _deviation(
        "D13", paper_code="none", corrected="scored", about="no metric looks at the synthetic labels"
    )
    dp_updates: Literal["two", "one"] = _deviation(
        "D14",
        paper_code="two",
        corrected="one",
        about="differential privacy: a critic pass makes one noisy optimiser step on the real patches and another on "
        "the fake ones, and all passes of an iteration share one batch, which the accountant takes for fresh ones",
    )
    reference: Literal["train", "held_out"] = _deviation(
        "D15",
        paper_code="train",
        corrected="held_out",
        about="FID and PRD compare with the training patches, which rewards memorising",
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            object.__setattr__(self, option.name, _one_of_two(option.name, getattr(self, option.name), option.metadata))


def _one_of_two(name: str, value: Any, metadata: Mapping[str, Any]) -> Any:
    choices = (metadata["paper_code"], metadata["corrected"])
    for choice in choices:
        # 1 and True are equal to Python but not to a reader; 1 and 1.0 are.
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice
    shown = " or ".join(repr(choice) for choice in choices)
    raise InputError(f"recipe option {name} ({metadata['deviation']}) is {value!r}; it can be {shown}")


PAPER_CODE = Recipe(
    **{option.name: option.metadata["paper_code"] for option in fields(Recipe) if not option.metadata["by_name"]}
)
CORRECTED = Recipe()
RECIPES: Mapping[str, Recipe] = {"paper_code": PAPER_CODE, "corrected": CORRECTED}


DEVIATIONS = tuple(dict.fromkeys(option.metadata["deviation"] for option in fields(Recipe)))


def resolve_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called ``paper_code`` or ``corrected``, with deviations or single options changed.

    ``corrected+D8`` has every option of D8 as in the paper's code, ``paper_code+D8`` as corrected;
    ``corrected+D1+D2`` has two such deviations.
    Raises InputError for an unknown recipe, deviation, option or value (names come with the closest known one), and
    for ``paper_code+D6``, which would change nothing.
    """
    base, *deviations = name.split("+")
    if base not in RECIPES:
        raise InputError(f"unknown recipe {base!r}{did_you_mean(base, list(RECIPES))}")
    for deviation in deviations:
        if deviation not in DEVIATIONS:
            known = ", ".join(DEVIATIONS)
            raise InputError(f"recipe {name!r}: unknown deviation {deviation!r}; known: {known}")
    other = "corrected" if base == "paper_code" else "paper_code"
    options = as_dict(RECIPES[base])
    for deviation in deviations:
        changed = {
            option.name: option.metadata[other]
            for option in fields(Recipe)
            if option.metadata["deviation"] == deviation and option.metadata[other] != options[option.name]
        }
        if not changed:
            raise InputError(
                f"recipe {name!r}: {deviation} changes nothing, since no recipe has it; corrected+{deviation} switches "
                "it on"
            )
        options |= changed
    for option in overrides or {}:
        if option not in options:
            raise InputError(f"unknown recipe option {option!r}{did_you_mean(option, list(options))}")
    return Recipe(**{**options, **(overrides or {})})


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """Option names and values in field order, for specs, logs and reports."""
    return {option.name: getattr(recipe, option.name) for option in fields(recipe)}  # plain values, and fast
