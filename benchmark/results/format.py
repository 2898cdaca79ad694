"""`results.json`: what a run measured, and what follows from it. A key here is a key there.

A run's page, tables and MLflow mirror show what stands in it, and compute nothing. Readers may rely on what a format
has: a key that goes, or means something else, makes a new format; a key that comes is a line of the history.

Format 1. What came before had no number, and lacks `format`, `about`, `only`, `is_trial`, `split`, `prepared`,
`numerics`, `work_seconds`, `measurement`, `cost_ratios`, `real_labels`, `subject_ranking` and `median_patches`; of a
cell `family`, `kind`, `trainings`, `memorisation` and `closest`; of a group `done`, `test_subjects`, `over_subjects`,
`vessel_share` and `label_means`, and of its metrics `segmentations` and `empty_segmentations`; of a claim
`by_factor` and `at`; of a cell `course`; of a region of the answer `difference`. Everything else is as it was. Later
files of format 1 also have `leaders`, `reproduce`, `is_running`, `conditions` and `conventions`; of `reproduce`
`left_out`; of a group's metrics `left_out_segmentations`.
"""

from typing import Literal, NotRequired

from benchmark.artifacts.options import RecipeValue
from benchmark.artifacts.values import MemorisationValues, PreparedValues, PrivacySpent, ReferenceValues, VesselLabels
from benchmark.protocol.cells import Kind
from benchmark.results.judgements import Answer, Best, ClaimResult, Gain, Leader, Part, Realism, UtilityCurve
from benchmark.results.run_folder import DataFacts, PublishedValue, RunEnvironment, Settings, Status
from benchmark.scoring.conventions import MaskConventions, PatchConventions

__all__ = [
    "FORMAT",
    "BrainMasks",
    "CellResult",
    "ClosePatch",
    "Conventions",
    "CostRatio",
    "CoursePoint",
    "GroupResult",
    "Measured",
    "Measurement",
    "MedianPatch",
    "MedianPatches",
    "MetricValue",
    "OverSubjects",
    "RankedSubject",
    "RealLabels",
    "Reproduction",
    "Results",
    "Spread",
    "SubjectRow",
    "Training",
]

FORMAT = 1


class MetricValue(Part):
    """A metric of a cell or a group, with what its interval is about, or why it has none."""

    value: float | None
    n: int
    unit: NotRequired[str]
    sd: NotRequired[float | None]
    ci_low: float | None
    ci_high: float | None
    reason: NotRequired[str | None]
    interval: NotRequired[str]
    extractor: NotRequired[str]
    reference: NotRequired[str]
    sd_kmeans: NotRequired[float]
    empty: NotRequired[int]  # subjects with an empty prediction or truth
    left_out: NotRequired[int]  # subjects with both empty: of them there is no value
    empty_segmentations: NotRequired[int]  # of a group: the same, over its cells
    segmentations: NotRequired[int]
    left_out_segmentations: NotRequired[int]  # of a group: `left_out` over its cells
    rounds: NotRequired[list[float]]
    emulated: NotRequired[bool]
    busy: NotRequired[str]  # why the time says nothing


class Training(Part):
    """How long a network was trained, and a U-Net on what."""

    steps: int
    best_step: NotRequired[int]
    samples: NotRequired[dict[str, int]]  # `real`, `synthetic` or both
    pictured: NotRequired[list[int]]  # steps after which pictures of a generator's pairs were taken


class ClosePatch(Part):
    """A generated patch that is among the nearest to a training patch, in image space."""

    distance: float
    over_threshold: float | None  # the same, in units of the distance below which a patch is suspicious


class CoursePoint(Part):
    """A generator after some of its training; the last point is its end.

    `seconds` and `tflop` are those of as many training steps, timed alone and counted; there are no seconds where the
    timing says nothing. `pieces` are the connected pieces of vessel in a generated label, on average.
    """

    share: float
    steps: int
    seconds: float | None
    tflop: float | None
    metrics: dict[str, float]
    pieces: float | None


class CellResult(Part):
    """A cell: one trained model, or a baseline. `label` names its arm, which its seeds share."""

    id: str
    label: str
    family: str | None
    variant: str | None
    norm: str | None
    precision: str | None
    filters: int | None
    batch: int | None
    seed: int
    kind: Kind
    external: str | None
    real_subjects: int | None
    mixed_with: str | None
    untrained: str | None
    simulated: bool | None
    recipe: str
    recipe_options: dict[str, RecipeValue]
    status: Status
    error: str | None
    seconds: float
    stage_seconds: dict[str, float]
    warnings: list[str]
    labels: VesselLabels | None  # the vessel masks of its pairs
    memorisation: dict[str, MemorisationValues]  # by space
    closest: list[ClosePatch]
    privacy: PrivacySpent | None
    trainings: dict[str, Training]  # by role
    steps_rejected: dict[str, dict[str, int]]  # by role
    stages: dict[str, str]
    course: list[CoursePoint]  # quality against budget, where the generator was kept on its way
    metrics: dict[str, MetricValue]


class Spread(Part):
    """A mean and its SD over seeds."""

    value: float
    sd: float | None


class OverSubjects(Part):
    """A metric of each test subject, its mean over seeds; then mean and SD over these."""

    value: float
    sd: float | None
    subjects: dict[str, float]


class GroupResult(Part):
    """An arm, by its label: its cells' values over seeds."""

    label: str
    seeds: list[int]
    done: int
    failed: int
    test_subjects: int | None
    metrics: dict[str, MetricValue]
    over_subjects: dict[str, OverSubjects]
    vessel_share: Spread | None  # of the voxels of its generated vessel labels
    label_means: dict[str, float | None] | None  # of its generated vessel labels, by statistic


class RealLabels(Part):
    """The vessel labels of held-out real patches: the share of voxels, and the mean of each statistic."""

    vessel_share: float
    means: dict[str, float | None] | None


class SubjectRow(Part):
    """A metric of one subject in one cell; `empty` is 1 where prediction or truth is."""

    cell: str
    split: str
    subject: str
    metric: str
    value: float | None
    empty: int


class BrainMasks(Part):
    """How many subjects have a brain mask of the dataset, a computed one, and none."""

    dataset: int
    computed: int
    none: int


class Measurement(Part):
    """How costs were measured: rounds in which all configurations took turns, and steps of each in all."""

    threads: int
    others_cores: float | None
    rounds: int
    steps_timed: int
    memory_definition: str


class CostRatio(Part):
    """A label in mixed precision over the one that differs from it in nothing else."""

    mixed: str
    full: str
    step_time: MetricValue
    peak_memory: float


class RankedSubject(Part):
    """A test subject with its mean DSC of all vessels over each label's first finished seed."""

    subject: str
    value: float


class MedianPatch(Part):
    """A patch by its row: of the real ones in the table of patches, of the synthetic ones among the cell's pairs."""

    row: int
    distance: NotRequired[float]  # to its nearest training patch


class MedianPatches(Part):
    """What is typical of a cell: patches of the median distance to a training patch."""

    label: str
    cell: str
    seed: int
    real: MedianPatch
    synthetic: MedianPatch
    nearest: MedianPatch  # the training patch nearest to the synthetic one


class Reproduction(Part):
    """What makes the run again: its commands, a line each, and the text of its protocol where that was kept."""

    command: str
    protocol: str | None
    left_out: list[str]  # cells that none of the commands asked for


class Conventions(Part):
    """What was chosen where tools differ."""

    metrics: dict[str, dict[str, object]]  # options of those that were asked for, such as PRD's clusters
    patches: dict[str, PatchConventions]  # by recipe
    masks: MaskConventions


class Measured(Part):
    """The part that was measured."""

    format: Literal[1]
    protocol: str
    profile: str
    title: str
    about: str
    only: Literal["costs"] | None
    is_trial: bool  # the profile only shows that every part works: the numbers mean nothing
    data: DataFacts
    split: dict[str, int]  # subjects
    prepared: PreparedValues | None
    brain_masks: BrainMasks | None
    environment: RunEnvironment
    reproduce: Reproduction
    is_running: bool  # written while the run goes on: what is unfinished is still to come
    numerics: list[str]  # what the checks in `environment` found, in sentences
    conditions: list[str]  # versions and processors that computed, with numbers of stages; several are no good sign
    conventions: Conventions
    settings: Settings
    work_seconds: float
    cells: list[CellResult]
    groups: list[GroupResult]
    floor: ReferenceValues | None
    real_labels: RealLabels | None
    measurement: Measurement | None
    cost_ratios: list[CostRatio]
    subjects: list[SubjectRow]
    subject_ranking: list[RankedSubject]  # from the lowest


class Results(Measured):
    """The whole file: what was measured, and what follows."""

    best: Best | None
    leaders: list[Leader]
    gain: list[Gain]
    realism: Realism | None
    reference: dict[str, PublishedValue]
    claims: list[ClaimResult]
    answer: Answer | None
    median_patches: MedianPatches | None
    utility: list[UtilityCurve]
