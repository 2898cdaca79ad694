"""Protocol files: what a YAML may say, with the paper's values as defaults."""

from dataclasses import fields
from fractions import Fraction
from typing import Annotated, Any, Literal, TypedDict, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)
from typing_extensions import TypeAliasType

from benchmark.metrics.registry import measurements
from benchmark.protocol.claim import ClaimLine, MetricAtLabel
from benchmark.protocol.sections import (
    checked_losses,
    checked_sections,
    complete_section,
    section_names,
    with_families,
)
from vesselgan.families import WGAN, Family
from vesselgan.recipe import DEVIATIONS, RECIPES, resolve_recipe
from vesselgan.recipe import Recipe as RecipeOptions
from vesselgan.settings import WGANOptions
from vesselgan.settings.options import Filters, Positive, PrecisionName
from vesselgan.variants import VARIANTS

__all__ = ["AXES", "Matrix", "Metrics", "Profile", "Protocol", "Reference", "Section", "protocol_model"]

AXES = ("variant", "norm", "precision", "filters", "batch", "recipe", "seed")


class Strict(BaseModel):
    """A model that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _multiple_of_16(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if any(axis % 16 or axis < 16 for axis in shape):
        nearest = [max(16, 16 * round(axis / 16)) for axis in shape]
        raise ValueError(f"every axis must be a multiple of 16; the nearest valid size is {nearest}")
    return shape


def _known_variant(name: str) -> str:
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}, known: {', '.join(VARIANTS)}")
    return name


def _known_recipe(recipe: str | dict[str, object]) -> str | dict[str, object]:
    options: dict[str, object] = {"base": recipe} if isinstance(recipe, str) else {**recipe}
    resolve_recipe(str(options.pop("base", "corrected")), options)
    return recipe


def _known_arm(name: str) -> str:
    if name != "real" and not (name.startswith("real + ") and name.removeprefix("real + ").strip()):
        raise ValueError(f"an arm is 'real', or 'real + LABEL' with a synthetic label of the protocol, not {name!r}")
    return name


def _for_editors(**schema: Any) -> WithJsonSchema:
    """What a validator refuses, as far as a JSON Schema can say it."""
    return WithJsonSchema(schema)


def _a_share(value: Any) -> Any:
    """`1/4` as YAML gives it, or the number itself."""
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is no share; write 1/4 or 0.25") from None


def _rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)):
        raise ValueError(f"shares rise from one to the next, not {list(shares)}")
    return shares


# Strict and bounded as `vesselgan.settings.options.Positive` is, and for its reasons.
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Subjects = Annotated[int, Field(gt=0, le=100_000, strict=True)]
Length = Annotated[int, Field(gt=0, le=4096, strict=True)]
Millimetres = Annotated[float, Field(gt=0, le=100)]
PatchSize = Annotated[
    tuple[int, int, int],
    AfterValidator(_multiple_of_16),
    _for_editors(type="array", minItems=3, maxItems=3, items={"type": "integer", "minimum": 16, "multipleOf": 16}),
]
Shape = tuple[Length, Length, Length]
Share = Annotated[
    float,
    BeforeValidator(_a_share),
    Field(gt=0, le=1),
    _for_editors(
        anyOf=[{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "string", "pattern": r"^\d+/\d+$"}]
    ),
]
Shares = Annotated[tuple[Share, ...], AfterValidator(_rising)]
RECIPE_NAME = {"type": "string", "pattern": rf"^({'|'.join(RECIPES)})(\+({'|'.join(DEVIATIONS)}))*$"}
RECIPE_OPTIONS = {
    "base": RECIPE_NAME,
    **{
        option.name: {
            "enum": [option.metadata["corrected"], option.metadata["paper_code"]],
            "description": f"{option.metadata['deviation']}: {option.metadata['about']}",
        }
        for option in fields(RecipeOptions)
    },
}
EITHER_RECIPE = [RECIPE_NAME, {"type": "object", "properties": RECIPE_OPTIONS, "additionalProperties": False}]
Recipe = TypeAliasType(
    "Recipe", Annotated[str | dict[str, object], AfterValidator(_known_recipe), _for_editors(anyOf=EITHER_RECIPE)]
)
Variant = Annotated[str, AfterValidator(_known_variant), _for_editors(enum=list(VARIANTS))]
Arm = Annotated[str, AfterValidator(_known_arm), _for_editors(type="string", pattern=r"^real( \+ .*\S.*)?$")]
Arms = dict[Arm, Annotated[list[Positive | Literal["all"]], Field(min_length=1)]]


class Requires(Strict):
    """What a profile cannot run without."""

    data: bool = False


class Split(Strict):
    """Subjects per split: counts on the phantom, the same proportions on a folder of another size."""

    train: Subjects = 47
    validation: Subjects = 12
    test: Subjects = 13
    seed: Seed = 0


class Phantom(Strict):
    """The embedded dataset."""

    shape: Shape = (312, 384, 127)
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None  # None: the head's size over the shape
    seed: Seed = 0


class Patches(Strict):
    """Patches per subject: a regular grid of corners and vessel-centred ones."""

    grid: Shape = (3, 3, 2)
    vessel: Annotated[int, Field(ge=0)] = 32


class Precisions(Strict):
    """What `full` and `mixed` mean on this profile's hardware."""

    full: Literal["fp32", "tf32"] = "fp32"
    mixed: Literal["bf16", "fp16"] = "fp16"


class AugmentationSettings(Strict):
    """Variations of the U-Net's training patches, real and synthetic alike: see vesselgan.data.Augmentation."""

    flips: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")
    rotation: Annotated[float, Field(ge=0, le=45)] = 10.0
    gamma: Annotated[float, Field(ge=1, le=10)] = 1.3
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.15
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.1
    noise: Annotated[float, Field(ge=0, le=1)] = 0.03
    share: Annotated[float, Field(ge=0, le=1)] = 0.3


class UNetSettings(Strict):
    """The segmentation network; batch and number of steps are ours, since the paper's are not available."""

    filters: Annotated[tuple[Positive, ...], Field(min_length=2)] = (32, 64, 128, 256)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    batch: Positive = 8
    steps: Positive = 20_000
    validate_every: Positive = 588
    patience: Positive = 3
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # BRAVE-NET's code has no average of the weights
    precision: Literal["full", "mixed"] = "full"
    threshold: Literal["validation"] | Annotated[float, Field(gt=0, lt=1)] = 0.5  # of the probability of vessel
    augmentation: AugmentationSettings | None = None  # the paper's code has none; {} takes these defaults


class Score(Strict):
    """Features for the distances between distributions."""

    extractor: Literal["medicalnet", "random_resnet10"] = "medicalnet"
    weights: str | None = None
    samples: Positive = 2350
    seed: Seed = 0


class Inference(Strict):
    """Whole-volume segmentation by overlapping tiles."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch: Positive = 4


class DifferentialPrivacy(Strict):
    """Settings of the DP variant, the values of the paper's public code; they replace those of the other variants."""

    noise_multiplier: Annotated[float, Field(gt=0)] = 0.3
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    weight_clip: Annotated[float, Field(gt=0)] = 0.01
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # None: one over the number of training patches
    critic_steps: Positive = 5
    lr_generator: Annotated[float, Field(gt=0)] = 1e-4
    lr_critic: Annotated[float, Field(gt=0)] = 1e-4


class Measure(Strict):
    """Cost measurement: all configurations interleaved, round by round."""

    rounds: Annotated[int, Field(ge=3)] = 10
    steps: Positive = 5
    warmup: Positive = 3
    threads: Positive = 4


class Matrix(Strict):
    """Axes; their product gives the cells."""

    variant: list[Variant] | None = Field(None, min_length=1)
    norm: list[Literal["instance", "spectral", "none"]] | None = Field(None, min_length=1)
    precision: list[PrecisionName] | None = Field(None, min_length=1)
    filters: list[Filters] | None = Field(None, min_length=1)
    batch: list[Positive] | None = Field(None, min_length=1)
    recipe: list[Recipe] | None = Field(None, min_length=1)
    seed: list[Seed] = Field([0], min_length=1)

    @model_validator(mode="after")
    def _names_a_critic(self) -> "Matrix":
        if (self.variant is None) == (self.norm is None):
            raise ValueError("give either 'variant' (the paper's rows) or 'norm' (a free combination)")
        return self


class Section(TypedDict, total=False):
    """Settings of a family of generators, as far as cells look at them; its `Config` has all of them."""

    filters: int
    batch: int


class Profile(Strict, WGANOptions):  # type: ignore[misc]  # mypy does not see that its settings freeze it
    """One size of the experiment. Every default is the paper's value, so a profile states its departures.

    The settings of its WGANs stand among its own.
    """

    about: str = ""
    trial: bool = False  # it only shows that every part works: the page says that its numbers mean nothing
    requires: Requires = Requires()
    data: str = "phantom"
    phantom: Phantom = Phantom()
    split: Split = Split()
    patch: PatchSize = (128, 128, 64)
    patches: Patches = Patches()
    brain_mask: Literal["dataset", "compute"] = "dataset"  # compute: for subjects whose dataset has none
    recipe: Recipe = "paper_code"
    dp: DifferentialPrivacy = DifferentialPrivacy()
    losses: Annotated[dict[str, dict[str, object]], AfterValidator(checked_losses)] = {}  # by name, options of its own
    # By the name of a family of generators, its settings. In YAML each section stands by itself: `autoregressive: ...`.
    families: Annotated[dict[str, dict[str, object]], AfterValidator(checked_sections)] = {}
    precision: Precisions = Precisions()
    pairs: Positive = 11_750
    # Of a training: the generator is kept and scored after each. Its end is always scored, so 1 may be left out.
    at: Shares = ()
    score: Score = Score()
    unet: UNetSettings = UNetSettings()
    inference: Inference = Inference()
    measure: Measure = Measure()
    threads: Positive = 1
    deterministic: Literal["bitwise"] | None = None  # refuse what PyTorch computes in no order, as on many GPUs
    matrix: Matrix | None = None
    arms: Arms | None = None
    # What a generator has to beat: two rules without learning, and, on real data, U-Nets trained on phantoms.
    baselines: tuple[Literal["threshold", "vesselness", "procedural"], ...] = ("threshold", "vesselness", "procedural")

    @model_validator(mode="before")
    @classmethod
    def _collect_sections(cls, values: Any) -> Any:
        return with_families(values) if isinstance(values, dict) else values

    @classmethod
    def keys_in_file(cls) -> list[str]:
        """The fields, but that each family has its own section."""
        return [*(name for name in cls.model_fields if name != "families"), *section_names()]

    def section(self, family: Family[Any]) -> Section:
        """The settings of a family of generators. Raises InputError where the profile has none, but needs some."""
        if family.name == WGAN.name:
            wgan = self.model_dump(mode="json", include={field.name for field in fields(WGANOptions)})
            return cast(Section, wgan)
        return cast(Section, {**complete_section(family, self.families.get(family.name, {}))})

    @property
    def kept(self) -> list[float]:
        """The shares of `at` before the end."""
        return [share for share in self.at if share < 1]

    @property
    def needs_data(self) -> bool:
        """Whether it cannot run on the embedded phantom, or names a folder of its own."""
        return self.requires.data or self.data != "phantom"


class External(Strict):
    """Somebody else's labelled patches as one more cell: scored, and a U-Net learns from them."""

    external: Annotated[str, Field(min_length=1)]  # a folder, relative to the protocol file
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    intensities: tuple[float, float] | None = None  # what is black and what white; None: the folder's percentiles
    nan: Annotated[float, Field(allow_inf_nan=False)] | None = None  # what NaN voxels of an image become; None: refused

    @model_validator(mode="after")
    def _is_a_range(self) -> "External":
        if self.intensities and self.intensities[0] >= self.intensities[1]:
            raise ValueError(f"intensities {list(self.intensities)}: the first must be the lower one")
        return self


class Metrics(Strict):
    """Which metrics are computed beside those that always are; one that is left out is not."""


class Reference(Strict):
    """A published number."""

    value: float
    source: str


class Protocol(Strict):
    """A whole protocol file. `protocol_model` knows which metrics it can ask for."""

    protocol: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: str
    about: str = ""
    default_profile: str = "laptop"
    profiles: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], Profile] = Field(min_length=1)
    matrix: Matrix
    exclude: list[dict[str, object]] = []  # axis -> a value, or a list of values
    only: Literal["costs"] | None = None  # measure what a training step costs, and train nothing
    include: list[External] = []
    arms: Arms = {}  # 'real', or 'real + LABEL' -> from how many real training subjects a U-Net learns
    metrics: Metrics = Metrics()
    # What a segmentation counts where truth and prediction are both empty: it has no value, or the best there is.
    both_empty: Literal["leave-out", "perfect"] = "leave-out"
    reference: dict[MetricAtLabel, Reference] = {}
    claims: list[ClaimLine] = []


def protocol_model() -> type[Protocol]:
    """A protocol that can ask for every metric that is loaded now."""
    asked: dict[str, Any] = {each.name: (each.options | None, None) for each in measurements() if each.is_asked_for}
    metrics = create_model("Metrics", __base__=Metrics, __doc__=Metrics.__doc__, **asked)
    return create_model("Protocol", __base__=Protocol, __doc__="A whole protocol file.", metrics=(metrics, metrics()))
