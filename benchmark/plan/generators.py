"""Stages of generators: training, synthesis, and what a step costs."""

from collections.abc import Sequence
from dataclasses import replace

from benchmark.artifacts.generators import recipe_options, step_options, training_options
from benchmark.artifacts.options import MeasureOptions, StepOptions, SynthesiseOptions
from benchmark.artifacts.roles import Role
from benchmark.plan.checks import generator_check, generator_settings, synthesis_batch
from benchmark.plan.plan import NodeFacts, Plan
from benchmark.protocol.cells import Cell
from benchmark.protocol.schema import Profile
from vesselgan.errors import InputError

__all__ = ["add_generator", "add_measure", "synthesis_options"]


def add_measure(plan: Plan, cells: Sequence[Cell], verified_threads: int) -> str | None:
    """One stage measures all configurations, since only interleaved timings can be compared.

    It goes round wrong kernels as the trainings do, whose checks it rests on: what they cost is to be measured.
    """
    configurations: dict[str, StepOptions] = {}
    checks = set()
    for cell in cells:
        check = plan.verify(generator_check(plan.profile, cell), verified_threads)
        if plan.refused(check):  # there is nothing to measure, and the other cells are not to suffer
            continue
        checks.add(check)
        settings = generator_settings(plan.profile, cell, plan.source.training_patches(plan.profile))
        configurations[cell.label] = step_options(cell.generator, settings, cell.recipe)  # seeds cost the same
    if not configurations:
        return None
    profile = plan.profile
    options: MeasureOptions = {
        "configurations": configurations,
        "patch": profile.patch,
        "penalty_weight": profile.penalty_weight,
        "rounds": profile.measure.rounds,
        "steps": profile.measure.steps,
        "warmup": profile.measure.warmup,
    }
    facts: NodeFacts = {"machine": plan.node.machine}
    return plan.add("measure", options, {}, profile.measure.threads, sorted(checks), facts=facts, exclusive=True)


def add_generator(plan: Plan, cell: Cell, data: str) -> dict[str, str]:
    """Training, and the pairs that it is for. Raises InputError for processes that do not fit."""
    profile, family = plan.profile, cell.generator
    settings = generator_settings(profile, cell, plan.source.training_patches(profile))
    checks = [plan.verify(generator_check(profile, cell), profile.threads)]
    trained = training_options(family, settings, cell.recipe)
    if profile.kept:
        trained["kept"] = profile.kept
    generator = plan.add("train_gan", trained, {"data": data}, profile.threads, checks)
    if (processes := settings.get("processes", 1)) > 1:  # each has a card and threads of its own
        family.configure(settings, cell.recipe, plan.source.training_patches(profile)).check()
        if "operations" in plan.specs[generator].runtime.get("remedy", {}):
            raise InputError(f"cell {cell.id}: wrong kernels are got round in one process alone; use processes: 1")
        taken = plan.resources[generator]
        plan.resources[generator] = replace(taken, cpus=profile.threads * processes, gpus=taken.gpus * processes)
    synthesis = synthesis_options(profile, cell)
    pairs = plan.add("synthesise", synthesis, {"gan": generator}, profile.threads, checks)
    return {Role.VERIFY_GAN: checks[0], Role.GAN: generator, Role.PAIRS: pairs}


def synthesis_options(profile: Profile, cell: Cell) -> SynthesiseOptions:
    """Of the pairs that are scored, and that a U-Net learns from."""
    batch = generator_settings(profile, cell, patches=1)["batch"]
    return {
        "pairs": profile.pairs,
        "seed": cell.seed,
        "batch": synthesis_batch(batch),
        "recipe": recipe_options(cell.recipe, cell.generator.sampling_recipe),
    }
