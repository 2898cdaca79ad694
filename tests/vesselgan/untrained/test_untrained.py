"""Rules without learning: the best threshold that there is, lines found on any voxels, and bad input refused."""

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import sato

from vesselgan.data import apply_range, phantom_subjects, robust_range
from vesselgan.errors import InputError
from vesselgan.metrics import dice
from vesselgan.untrained import (
    METHODS,
    LabelledVolume,
    Method,
    UntrainedRule,
    default_scales_mm,
    fit,
    segment,
    vesselness,
)

SPACING = (1.0, 1.0, 2.0)
SCALES = (0.8, 1.2, 1.8)


def noisy(seed: int, shape: tuple[int, int, int] = (12, 10, 8), levels: int = 40) -> LabelledVolume:
    """Vessels are brighter on average, on a scanner of few grey levels; half of the volume is brain."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < 0.1
    values = rng.normal(size=shape) + 1.5 * truth + 0.3 * rng.normal()
    image = np.clip(np.rint(values * levels / 4) / levels, -1, 1).astype(np.float32)
    brain = np.zeros(shape, bool)
    brain[: shape[0] // 2] = True
    return LabelledVolume(f"s{seed}", image, truth, SPACING, {"intracranial": brain})


def with_tube(radius_mm: float, spacing: tuple[float, float, float] = SPACING, seed: int = 0) -> LabelledVolume:
    """A bright tube along the diagonal of x and z, beside a brighter ball, on noise."""
    shape = tuple(round(40 / mm) for mm in spacing)
    x, y, z = (
        np.arange(n)[tuple(slice(None) if i == axis else None for i in range(3))] * mm
        for axis, (n, mm) in enumerate(zip(shape, spacing, strict=True))
    )
    along = (x - z) ** 2 / 2 + (y - 12) ** 2
    truth = np.broadcast_to(along <= radius_mm**2, shape).copy()
    ball = (x - 20) ** 2 + (y - 28) ** 2 + (z - 20) ** 2 <= 8**2
    values = -0.5 + 0.8 * truth + 1.0 * ball + 0.05 * np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(values, 0.4 / np.array(spacing))
    return LabelledVolume(f"tube{seed}", np.clip(smooth, -1, 1).astype(np.float32), truth, spacing, {})


def mean_dice(subjects: list[LabelledVolume], responses: list[NDArray[np.float32]], region: str, at: float) -> float:
    scores = []
    for subject, response in zip(subjects, responses, strict=True):
        inside = subject.regions.get(region, np.ones_like(subject.truth))
        scores.append(dice(subject.truth & inside, (response >= at) & inside, empty="inf"))
    return float(np.mean(scores))


def by_trying_all(subjects: list[LabelledVolume], responses: list[NDArray[np.float32]], region: str) -> float:
    """The best mean DSC that any threshold gives: one between each two neighbouring values of all subjects."""
    values = np.unique(np.concatenate([response.ravel() for response in responses]))
    return max(mean_dice(subjects, responses, region, at) for at in [values[0], *map(np.mean, pairwise(values))])


@pytest.mark.parametrize("region", ["all", "intracranial"])
@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_beats_the_chosen_one(seed: int, region: str) -> None:
    subjects = [noisy(10 * seed + index) for index in range(3)]
    rule = fit("threshold", subjects)[region]
    best = by_trying_all(subjects, [subject.image for subject in subjects], region)
    assert rule.training_dsc == pytest.approx(best, abs=1e-12)
    assert mean_dice(subjects, [subject.image for subject in subjects], region, rule.threshold) == pytest.approx(
        best, abs=1e-12
    )


@pytest.mark.parametrize("region", ["all", "intracranial"])
def test_no_threshold_and_no_run_of_scales_beats_the_chosen_ones(region: str) -> None:
    subjects = [noisy(index) for index in range(3)]
    rule = fit("vesselness", subjects, scales_mm=SCALES)[region]

    def responses(scales: tuple[float, ...]) -> list[NDArray[np.float32]]:
        return [vesselness(subject.image, spacing_mm=SPACING, scales_mm=scales) for subject in subjects]

    runs = [SCALES[first:last] for first in range(3) for last in range(first + 1, 4)]
    best = max(by_trying_all(subjects, responses(run), region) for run in runs)
    # Responses have no grey levels: two of them may lie between neighbouring multiples of 2^-15.
    assert best - 0.01 < rule.training_dsc <= best + 1e-12
    assert rule.scales_mm in runs
    found = mean_dice(subjects, responses(rule.scales_mm), region, rule.threshold)
    assert found == pytest.approx(rule.training_dsc, abs=1e-12)


def test_the_threshold_is_the_middle_of_equally_good_ones() -> None:
    image = np.full((2, 2, 2), -0.5, np.float32)
    image[0] = 0.25
    rules = fit("threshold", [LabelledVolume("one", image, image > 0, SPACING, {})])
    assert rules["all"].threshold == pytest.approx(-0.125, abs=1e-4)
    assert rules["all"].training_dsc == 1
    assert set(rules) == {"all"}


@pytest.mark.parametrize("value", [-1.0, -0.30000001192092896, 0.1, 1.0])
def test_a_voxel_at_the_threshold_is_counted_as_it_is_segmented(value: float) -> None:
    """Rounding may not put a voxel on one side when the threshold is chosen and on the other when it is used."""
    image = np.full((4, 4, 4), value, np.float32)
    image[:2] = (
        np.nextafter(np.float32(value), np.float32(2)) if value < 1 else np.nextafter(np.float32(1), np.float32(0))
    )
    truth = np.ones_like(image, bool)
    truth[3] = False
    for subject in (LabelledVolume("one", image, truth, SPACING, {}), noisy(0)):
        rule = fit("threshold", [subject])["all"]
        assert dice(subject.truth, segment(rule, subject.image, spacing_mm=SPACING)) == rule.training_dsc


@pytest.mark.parametrize("method", METHODS)
def test_each_region_has_the_rule_that_is_best_in_it(method: Method) -> None:
    subjects = [noisy(index) for index in range(3)]
    for index, subject in enumerate(subjects):  # what is bright outside the brain is no vessel
        image = subject.image.copy()
        image[6:] = np.clip(image[6:] + 0.5, -1, 1)
        subjects[index] = replace(subject, image=image)
    rules = fit(method, subjects, scales_mm=SCALES if method == "vesselness" else ())
    assert {region: rule.region for region, rule in rules.items()} == {region: region for region in rules}
    inside = [subject.regions["intracranial"] for subject in subjects]

    def within(rule: UntrainedRule) -> float:
        masks = [segment(rule, subject.image, spacing_mm=SPACING) for subject in subjects]
        return float(np.mean([dice(s.truth & m, p & m) for s, p, m in zip(subjects, masks, inside, strict=True)]))

    assert within(rules["intracranial"]) == pytest.approx(rules["intracranial"].training_dsc)
    assert within(rules["intracranial"]) > within(rules["all"])


def test_a_threshold_finds_a_tube_that_is_brighter_than_all_else() -> None:
    tube = with_tube(2.5)
    shown = replace(tube, image=np.where(np.arange(tube.image.shape[1])[:, None] < 20, tube.image, -0.5))
    rule = fit("threshold", [shown])["all"]
    other = with_tube(2.5, seed=1)
    found = segment(rule, np.where(np.arange(tube.image.shape[1])[:, None] < 20, other.image, -0.5), spacing_mm=SPACING)
    assert dice(other.truth, found) > 0.9


@pytest.mark.parametrize("spacing", [SPACING, (0.8, 1.3, 1.0)])
def test_vesselness_finds_a_tube_beside_a_brighter_ball_and_a_threshold_does_not(
    spacing: tuple[float, float, float],
) -> None:
    training, test = [with_tube(2.5, spacing, seed) for seed in (0, 1)], with_tube(2.5, spacing, 2)
    scores = {}
    for method in METHODS:
        scales = () if method == "threshold" else (0.7, 1.0, 1.4, 2.0)
        rule = fit(method, training, scales_mm=scales)["all"]
        scores[method] = dice(test.truth, segment(rule, test.image, spacing_mm=spacing))
    assert scores["vesselness"] > 0.65
    assert scores["vesselness"] > scores["threshold"] + 0.15


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_on_cubic_voxels_vesselness_is_scikit_images_sato(sigma: float) -> None:
    image = np.random.default_rng(0).normal(size=(40, 36, 38)).astype(np.float32)
    ours = vesselness(image, spacing_mm=(0.5, 0.5, 0.5), scales_mm=[0.5 * sigma])
    theirs = sato(image, [sigma], black_ridges=False, mode="reflect")
    inner = (slice(int(6 * sigma) + 2, -int(6 * sigma) - 2),) * 3
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=5e-6 * float(theirs.max()))


def test_a_line_answers_alike_along_every_axis_of_anisotropic_voxels() -> None:
    """A Gaussian tube of 2 mm, seen in voxels of 0.5 x 1 x 1 mm: its response does not depend on its direction."""
    spacing, answers = (0.5, 1.0, 1.0), []
    for axis in range(3):
        grid = np.meshgrid(*(np.arange(-16, 16, mm) for mm in spacing), indexing="ij")
        distance = sum(grid[other] ** 2 for other in range(3) if other != axis)
        image = np.exp(-distance / (2 * 2.0**2)).astype(np.float32)
        answers.append(float(vesselness(image, spacing_mm=spacing, scales_mm=[2.0]).max()))
    # -sigma^2 d2/dx2 of a 2-D Gaussian of s = 2, smoothed by sigma = 2: sigma^2 s^2 / (s^2 + sigma^2)^2 = 1/4.
    assert answers == pytest.approx([0.25] * 3, rel=2e-3)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = noisy(3, (30, 12, 10))
    whole = vesselness(subject.image, spacing_mm=SPACING, scales_mm=SCALES)
    rules = [fit(method, [subject], scales_mm=SCALES if method == "vesselness" else ()) for method in METHODS]
    monkeypatch.setattr("vesselgan.untrained.sato._SLAB_VOXELS", 4 * 120)
    monkeypatch.setattr("vesselgan.untrained.rules._VOXELS_AT_ONCE", 7 * 120)
    np.testing.assert_array_equal(vesselness(subject.image, spacing_mm=SPACING, scales_mm=SCALES), whole)
    assert rules == [fit(method, [subject], scales_mm=SCALES if method == "vesselness" else ()) for method in METHODS]


def test_flat_and_dark_images_have_no_lines() -> None:
    flat = np.full((9, 9, 9), 0.3, np.float32)
    assert vesselness(flat, spacing_mm=SPACING, scales_mm=SCALES).max() < 1e-6
    dark_line = np.zeros((15, 15, 15), np.float32)
    dark_line[7, 7] = -1
    assert vesselness(dark_line, spacing_mm=SPACING, scales_mm=[1.0])[7, 7].max() < 1e-3


def test_a_rule_survives_json() -> None:
    rule = fit("vesselness", [noisy(0)], scales_mm=SCALES)["intracranial"]
    assert UntrainedRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    for damaged in (rule.to_dict() | {"method": "magic"}, {"method": "threshold"}, rule.to_dict() | {"more": 1}):
        with pytest.raises(InputError, match=r"^untrained rule .*fit it again$"):
            UntrainedRule.from_dict(damaged)


def test_a_subject_without_vessels_has_no_say_and_one_without_a_mask_none_inside_it() -> None:
    subjects = [noisy(0), noisy(1)]
    empty = replace(noisy(2), truth=np.zeros_like(noisy(2).truth))
    unmasked = replace(noisy(3), regions={})
    rules, with_empty = fit("threshold", subjects), fit("threshold", [*subjects, empty])
    assert rules == with_empty
    more = fit("threshold", [*subjects, unmasked])
    assert more["intracranial"] == rules["intracranial"]
    assert more["all"].training_subjects == 3


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_learn_from_is_refused_in_one_line(method: Method) -> None:
    scales = SCALES if method == "vesselness" else ()
    with pytest.raises(InputError, match=rf"^{method}: the training subjects are none; a threshold needs labelled"):
        fit(method, [], scales_mm=scales)
    empty = replace(noisy(0), truth=np.zeros_like(noisy(0).truth))
    with pytest.raises(InputError, match="have no vessels in their labels; a threshold needs labelled vessels"):
        fit(method, [empty], scales_mm=scales)
    with pytest.raises(InputError, match=r"^subject 's0' comes twice"):
        fit(method, [noisy(0), noisy(0)], scales_mm=scales)


def test_wrong_arguments_are_refused() -> None:
    subject = noisy(0)
    rule = fit("threshold", [subject])["all"]
    for image in (subject.image * 3, np.full_like(subject.image, np.nan)):
        with pytest.raises(ValueError, match=r"^image must hold values from -1 to 1 \(see robust_range\), but holds"):
            segment(rule, image, spacing_mm=SPACING)
    with pytest.raises(ValueError, match=r"^image must be \(X, Y, Z\), but has shape"):
        segment(rule, subject.image[0], spacing_mm=SPACING)
    with pytest.raises(ValueError, match=r"^s0: intracranial has shape \(2, 2, 2\), the image"):
        fit("threshold", [replace(subject, regions={"intracranial": np.ones((2, 2, 2), bool)})])
    for method, scales in (("threshold", SCALES), ("vesselness", ()), ("vesselness", (2.0, 1.0))):
        with pytest.raises(ValueError, match="vesselness needs rising candidates, threshold takes none"):
            fit(method, [subject], scales_mm=scales)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be positive lengths"):
        vesselness(subject.image, spacing_mm=SPACING, scales_mm=[0.0])
    with pytest.raises(ValueError, match=r"^spacings_mm is empty"):
        default_scales_mm([])


def test_scales_follow_the_voxels() -> None:
    assert default_scales_mm([(1.0, 1.0, 1.0)])[1] == 1.0
    assert default_scales_mm([(0.5, 0.5, 4.0)] * 3 + [(9.0, 9.0, 9.0)])[1] == 1.0


def test_memory_stays_far_below_that_of_six_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vesselgan.untrained.sato._SLAB_VOXELS", 2**15)
    image = np.random.default_rng(0).random((256, 64, 64), np.float32)
    tracemalloc.start()
    vesselness(image, spacing_mm=SPACING, scales_mm=SCALES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * image.nbytes  # the response itself is one of them


def test_on_the_phantom_each_method_has_its_region() -> None:
    """A threshold does well inside the brain, vesselness beats it where fat and scalp are bright."""
    subjects = [
        LabelledVolume(
            made.key,
            apply_range(made.image, *robust_range(made.image)),
            made.label,
            made.spacing_mm,
            {} if made.mask is None else {"intracranial": made.mask},
        )
        for made in phantom_subjects(3, (64, 64, 32), seed=0)
    ]
    scales = default_scales_mm([subject.spacing_mm for subject in subjects])
    rules = {method: fit(method, subjects, scales_mm=scales if method == "vesselness" else ()) for method in METHODS}
    dsc = {(method, region): rule.training_dsc for method in METHODS for region, rule in rules[method].items()}
    assert dsc["vesselness", "all"] > dsc["threshold", "all"] + 0.05
    for method in METHODS:
        assert dsc[method, "intracranial"] > dsc[method, "all"]
