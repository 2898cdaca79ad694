"""Stages that judge: pairs against real patches, and U-Nets and rules without learning on real subjects."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from benchmark.artifacts.generators import recipe_options
from benchmark.artifacts.options import (
    EvaluateOptions,
    FitOptions,
    OwnMetrics,
    ScoreOptions,
    TrainUNetOptions,
    UNetOptions,
)
from benchmark.artifacts.roles import Role, at_share
from benchmark.metrics.asking import refuse_missing, stage_options
from benchmark.plan.checks import extractor_check, unet_check
from benchmark.plan.generators import synthesis_options
from benchmark.plan.plan import Plan
from benchmark.protocol.cells import Cell, Untrained

__all__ = ["add_course", "add_scores", "add_segmentation", "add_untrained"]

# Which deviations each stage reads.
REFERENCE_RECIPE = ("feature_noise", "intensity_scaling", "reference")
SCORE_RECIPE = (*REFERENCE_RECIPE, "prd_arguments", "label_metrics")
SEGMENTATION_RECIPE = ("intensity_scaling",)


def add_untrained(plan: Plan, method: Untrained, data: str) -> dict[str, str]:
    """The rule is fitted on training subjects, and scored as U-Nets are."""
    fitted: FitOptions = {"method": method}
    rules = plan.add("fit_untrained", fitted, {"data": data}, None)
    evaluated = plan.add("evaluate_untrained", _own_subject_metrics(plan), {"data": data, "rules": rules}, None)
    return {Role.RULES: rules, Role.EVALUATE: evaluated}


def _own_subject_metrics(plan: Plan) -> OwnMetrics:
    """Metrics of somebody's own that the protocol asks for; all others are always computed, and not named in a key."""
    named = stage_options(plan.protocol.metrics.model_dump(), "subject")
    return {"metrics": named} if named else {}


def add_scores(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
    """Pairs against real patches, and real ones against each other, which all pairs of a run have in common."""
    profile, asked = plan.profile, plan.protocol.metrics.model_dump()
    score: ScoreOptions = {
        "extractor": profile.score.extractor,
        "samples": profile.score.samples,
        "seed": profile.score.seed,
        "metrics": stage_options(asked, "set", "labels", "audit"),
        "recipe": recipe_options(cell.recipe, SCORE_RECIPE),
    }
    floor = stage_options(asked, "set")
    refuse_missing(floor)
    reference_options: ScoreOptions = {
        **score,
        "metrics": floor,
        "recipe": recipe_options(cell.recipe, REFERENCE_RECIPE),
    }
    weights = {"weights": profile.score.weights} if profile.score.weights else {}
    if weights:
        score["weights_sha256"] = reference_options["weights_sha256"] = plan.source.weights_sha256
    checks = [plan.verify(extractor_check(profile), profile.threads)]
    data = {"data": roles[Role.DATA]}
    reference = plan.add("reference", reference_options, data, profile.threads, checks, where=weights)
    needs = {**data, "pairs": roles[Role.PAIRS], "reference": reference}
    scored = plan.add("score", score, needs, profile.threads, checks, where=weights)
    return {Role.VERIFY_SCORE: checks[0], Role.REFERENCE: reference, Role.SCORE: scored}


def add_segmentation(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
    """A U-Net of the cell's pairs, of real patches or of both, and its scores on real subjects."""
    profile = plan.profile
    recipe = recipe_options(cell.recipe, SEGMENTATION_RECIPE)
    unet = {
        **profile.unet.model_dump(exclude={"learning_rate", "steps", "threshold", "augmentation"}),
        "lr": profile.unet.learning_rate,
        "max_steps": profile.unet.steps,
        "precision": getattr(profile.precision, profile.unet.precision),
        "max_bad_steps": profile.max_bad_steps,
        "seed": cell.seed,
    }
    needs = {"data": roles[Role.DATA]}
    if pairs := roles.get(Role.PAIRS) or roles.get(Role.MIXED_PAIRS) or roles.get(Role.SIMULATED_PAIRS):
        needs["pairs"] = pairs
    real = _real_subjects(plan, cell)
    is_baseline = cell.is_real and len(real) == len(plan.source.split["train"])
    trained: TrainUNetOptions = {
        "unet": cast(UNetOptions, unet),
        "recipe": recipe,
        "threshold": profile.unet.threshold,
    }
    if cell.mixed_with or (cell.is_real and not is_baseline):
        trained["real"] = real
    if profile.unet.augmentation:
        trained["augmentation"] = profile.unet.augmentation.model_dump()
    checks = [plan.verify(unet_check(profile), profile.threads)]
    net = plan.add("train_unet", trained, needs, profile.threads, checks)
    options: EvaluateOptions = {
        "inference": {"overlap": profile.inference.overlap, "batch": profile.inference.batch},
        "patch": profile.patch,
        "recipe": recipe,
        **_own_subject_metrics(plan),
    }
    evaluated = plan.add("evaluate", options, {"data": roles[Role.DATA], "unet": net}, profile.threads, checks)
    return {Role.VERIFY_UNET: checks[0], Role.UNET: net, Role.EVALUATE: evaluated}


def _real_subjects(plan: Plan, cell: Cell) -> list[str]:
    """The scans of training whose patches a U-Net sees: in each seed's random order those of the first people, so that
    fewer are among more."""
    people = plan.source.people("train")
    count = len(people) if cell.real_subjects is None else cell.real_subjects
    order = np.random.default_rng(cell.seed).permutation(len(people))
    return sorted(scan for index in order[:count] for scan in people[index])


def add_course(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
    """Of each share of the training as many pairs as are scored at its end, and their scores."""
    profile, checks = plan.profile, [roles[Role.VERIFY_GAN]]
    options = synthesis_options(profile, cell)
    options["pairs"] = min(profile.pairs, profile.score.samples)
    course: dict[str, str] = {}
    for share in profile.kept:
        needs = {"gan": roles[Role.GAN]}
        pairs = plan.add("synthesise", {**options, "at": share}, needs, profile.threads, checks)
        scored = add_scores(plan, cell, {Role.DATA: roles[Role.DATA], Role.PAIRS: pairs})
        course |= {at_share(Role.PAIRS, share): pairs, at_share(Role.SCORE, share): scored[Role.SCORE]}
    return course
