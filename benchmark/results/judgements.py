"""The part of `results.json` that follows from what was measured: verdicts, comparisons and what they are worth.

A part has its keys in the order in which they are written.
"""

from collections.abc import Mapping
from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from benchmark.results.run_folder import PublishedValue

__all__ = [
    "Answer",
    "AnswerRegion",
    "Best",
    "BestScores",
    "ClaimFloor",
    "ClaimResult",
    "CurvePoint",
    "Gain",
    "Gap",
    "Leader",
    "Missing",
    "Needed",
    "PairRow",
    "Part",
    "Realism",
    "RealismOfArm",
    "Rival",
    "Share",
    "Threshold",
    "UtilityArm",
    "UtilityCurve",
    "Verdict",
    "Worth",
]

Verdict = Literal["supported", "refuted", "inconclusive"]
Threshold = Literal["fid_over_floor", "prd_area_over_floor", "pieces_ratio"]


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
class Part(TypedDict):
    """JSON has no NaN and no infinity: a value that does not exist is null."""


class PairRow(Part):
    """Both sides of a comparison for one unit: a seed, a test subject, both, a round, or an exact count."""

    seed: NotRequired[int]
    subject: NotRequired[str]
    round: NotRequired[int]
    count: NotRequired[int]
    left: float
    right: float
    difference: float


class Rival(Part):
    """One comparison of a claim that makes several: with `right`, in `metric`."""

    metric: str
    right: str
    effect: float
    ci_low: float | None
    ci_high: float | None
    n: int
    unit: str
    p: float | None
    rows: list[PairRow]


class Missing(Part):
    """What is missing behind a verdict, and the verdict if all of it were for the claim, or against it."""

    failed_cells: list[str]
    empty_predictions: int
    values: int
    best_case: Verdict
    worst_case: Verdict


class Needed(Part):
    """How many more units would decide a claim; `low` and `high` for effect and spread one standard error off."""

    unit: str
    power: float
    level: float
    more: int | None
    low: int | None
    high: int | None
    with_seeds: int | None
    reason: str | None
    hours: NotRequired[float | None]  # of one worker
    sentence: NotRequired[str]


class ClaimFloor(Part):
    """Real patches against real patches in a claim's metric."""

    value: float
    sd: float | None


class ClaimResult(Part):
    """A claim of the protocol with its verdict and the evidence of the comparison on which it hangs."""

    name: str
    kind: str
    statement: str
    metrics: list[str]
    metric: str
    left: str
    right: str | None
    by_factor: float | None  # that the first side is multiplied by
    at: str  # equal steps, or equal time
    scope: str
    must_hold: bool
    verdict: Verdict
    wording: str
    effect: float | None
    ci_low: float | None
    ci_high: float | None
    holds_from: float | None
    holds_to: float | None
    n: int
    seeds: int
    subjects: int
    unit: str | None
    test: str | None
    p: float | None
    p_corrected: float | None
    claims_corrected_for: int
    p_sign_flip: float | None
    p_wilcoxon: float | None
    missing: Missing | None
    needed: Needed | None
    reason: str | None
    note: str | None
    rows: list[PairRow]
    published: NotRequired[PublishedValue | None]
    seconds: NotRequired[float]  # at equal time: of training steps, after which both sides are compared
    sd_kmeans: NotRequired[float]
    comparisons: NotRequired[list[Rival]]
    floor: NotRequired[ClaimFloor]
    by_seed: NotRequired[list[float]]  # the effect of each seed, of a claim about several trained models


class Gap(Part):
    """Real minus synthetic, paired by test subject; `real` is the label of the baseline."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    unit: str
    real: str


class BestScores(Part):
    """What the best label and the baseline reach on the test subjects."""

    test: float | None
    test_real: float | None
    gap_to_real: Gap | None


class Best(Part):
    """The synthetic label of the highest mean over validation subjects; the scores are those of `metric`."""

    label: str
    metric: str
    validation: dict[str, float]
    validation_subjects: int
    tied: list[str]
    test: float | None
    test_real: float | None
    gap_to_real: Gap | None
    by_metric: dict[str, BestScores]


class Gain(Part):
    """How much of what real patches add to the best rule without learning a label's pairs add."""

    label: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    reason: str | None
    seeds: int
    subjects: int
    synthetic_gain: float | None
    real_gain: float | None
    real: str | None
    untrained: str | None
    validation: dict[str, float]
    means: NotRequired[dict[str, float]]


class RealismOfArm(Part):
    """An arm's means, their ratios to real patches, and the thresholds that it fails."""

    fid: float | None
    prd_auc: float | None
    pieces: float | None
    pieces_real: float | None
    fid_over_floor: float | None
    prd_area_over_floor: float | None
    pieces_ratio: float | None
    failed: list[Threshold]
    realistic: bool | None


class Realism(Part):
    """Whether the generators meet a least demand."""

    thresholds: Mapping[Threshold, float]
    floor: dict[str, float | None]
    fid_over_floor_is_least: bool
    labels: dict[str, RealismOfArm]  # by the label of an arm
    realistic: bool | None


class Share(Part):
    """The share of the real gain in one region; null where there is none to speak of."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    reason: str | None
    seeds: int | None
    subjects: int | None


class AnswerRegion(Part):
    """What the best label reaches in a region, between the best rule without learning and real patches."""

    metric: str
    region: str
    synthetic: float
    real: float | None
    gap: Gap | None
    difference: float | None  # real minus synthetic, of the gap where there is one
    untrained: str | None
    untrained_dsc: float | None
    share: Share
    synthetic_gain: float | None
    real_gain: float | None


class Leader(Part):
    """The arm of a metric's best mean; `significant` where it beats every other one, `rival` the hardest of them."""

    metric: str
    label: str
    significant: bool
    rival: str
    p: float | None
    reason: str | None


class RegionOfKind(Part):
    """What the best label of another kind of generator reaches in a region."""

    metric: str
    region: str
    synthetic: float | None
    share: Share


class BestOfKind(Part):
    """The label of another kind of generator that is the best on validation subjects by `metric`."""

    label: str
    kind: str
    metric: str
    regions: list[RegionOfKind]


class Answer(Part):
    """The run in a few sentences; no number may outshine a warning."""

    label: str
    regions: list[AnswerRegion]
    others: list[BestOfKind]
    warnings: list[str]
    sentences: list[str]


class Worth(Part):
    """How many real subjects reach what a set reaches; beyond the curve `beyond` says on which side."""

    value: float | None
    beyond: Literal["fewer", "more"] | None
    ci_low: float | None
    ci_high: float | None
    smallest: int
    largest: int
    seeds: int
    subjects: int
    reason: str | None


class CurvePoint(Part):
    """What U-Nets reach that learned from so many real subjects, over seeds."""

    label: str
    real_subjects: int
    value: float
    n: int
    unit: str
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    reason: NotRequired[str]
    by_seed: dict[str, float]


class UtilityArm(Part):
    """A synthetic set, alone or beside the patches of so many real subjects, and what it is worth."""

    label: str
    real_subjects: int
    mixed_with: str | None
    value: float
    n: int
    unit: str
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    reason: NotRequired[str]
    by_seed: dict[str, float]
    worth: Worth


class UtilityCurve(Part):
    """The curve over real subjects in one metric and recipe, and every set that is weighed by it."""

    metric: str
    recipe: str
    interpolation: str
    curve: list[CurvePoint]
    arms: list[UtilityArm]
