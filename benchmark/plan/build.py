"""From a protocol's cells to a plan: which stages each cell has, and in which order they are best made."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType

from benchmark.artifacts.generators import recipe_options
from benchmark.artifacts.options import ImportOptions, PrepareOptions, SimulateOptions
from benchmark.artifacts.roles import MIXED, Role
from benchmark.datasets.source import ExternalSource, Source
from benchmark.environment import Node, this_node
from benchmark.plan.checks import generator_check
from benchmark.plan.generators import add_generator, add_measure
from benchmark.plan.judging import add_course, add_scores, add_segmentation, add_untrained
from benchmark.plan.plan import CellPlan, Findings, Plan, corners_of
from benchmark.protocol.cells import Cell
from benchmark.protocol.schema import Profile, Protocol
from vesselgan.errors import InputError

__all__ = ["build_plan"]

DATA_RECIPE = ("pairing",)  # the deviations that `prepare` reads


def build_plan(
    protocol: Protocol,
    profile_name: str,
    profile: Profile,
    cells: Sequence[Cell],
    source: Source,
    device: str | Node,
    externals: Mapping[str, ExternalSource] = MappingProxyType({}),
    findings: Findings = MappingProxyType({}),
) -> Plan:
    """Plan the stages of `cells`. Equal work has an equal key, so it stands in the plan once.

    `device` is one of this machine, or the node on which an engine computes. `externals` has the folder and content of
    each external cell, by its label in the protocol. `findings` has the values of those numerics checks of the plan
    that are done; it is to be planned again once the rest is.

    Raises InputError for a precision that the device lacks, for a batch of more patches than there are, and for more
    real subjects than there are.
    """
    node = this_node(device) if isinstance(device, str) else device
    lacking = [cell.id for cell in cells if cell.precision == "tf32"] if node.device == "cpu" else []
    if lacking:
        raise InputError(f"cell {lacking[0]}: precision tf32 needs a CUDA device; on a CPU choose fp32 or bf16")
    patches = source.training_patches(profile)
    for cell in cells:
        stored = cell.has_generator and cell.generator.stored_patches
        if stored and cell.batch is not None and cell.batch > patches:
            raise InputError(f"cell {cell.id}: batch {cell.batch} of {patches} training patches; lower the batch")
        _refuse_arm(cell, profile, source)
    plan = Plan(protocol, profile_name, profile, node, source, findings)
    if protocol.only == "costs":
        costs = add_measure(plan, cells, profile.measure.threads)
        for cell in cells:
            roles: dict[str, str] = {}
            if cell.has_generator:
                check = roles[Role.VERIFY_GAN] = plan.verify(generator_check(profile, cell), profile.measure.threads)
                if costs and not plan.refused(check):
                    roles[Role.MEASURE] = costs
            plan.cells.append(CellPlan(cell, roles))
        return plan
    if any(cell.private for cell in cells) and find_spec("opacus") is None:
        raise InputError("variant DP needs opacus for its accountant: pip install 'opacus>=1.5.4,<2' (the extra [dp])")
    # Data first, since bad input must show before anything is spent on it; then the cost measurement, which wants the
    # machine for itself and would otherwise hold up workers.
    data = {cell.recipe.pairing: _add_prepare(plan, cell) for cell in cells}
    imported = {label: _add_import(plan, external) for label, external in externals.items()}
    costs = add_measure(plan, [cell for cell in cells if cell.has_generator], profile.threads)
    pairs: dict[tuple[str, int], dict[str, str]] = {}
    # Fewer real subjects last: their short U-Nets fill the gaps between generators.
    for cell in sorted(cells, key=lambda cell: cell.real_subjects is not None):
        roles = {Role.DATA: data[cell.recipe.pairing]}
        if cell.untrained:
            plan.cells.append(CellPlan(cell, roles | add_untrained(plan, cell.untrained, roles[Role.DATA])))
            continue
        if cell.has_generator:
            roles |= add_generator(plan, cell, roles[Role.DATA])
            if costs and not plan.refused(roles[Role.VERIFY_GAN]):
                roles[Role.MEASURE] = costs
        elif cell.external:
            roles[Role.PAIRS] = imported[cell.external]
        elif cell.mixed_with:
            roles |= pairs[cell.mixed_with, cell.seed]
        elif cell.simulated:
            roles[Role.SIMULATED_PAIRS] = _add_simulation(plan, roles[Role.DATA])
        if Role.PAIRS in roles:
            pairs[cell.label, cell.seed] = {MIXED[role]: roles[role] for role in MIXED if role in roles}
            roles |= add_scores(plan, cell, roles)
        roles |= add_segmentation(plan, cell, roles)
        plan.cells.append(CellPlan(cell, roles))
    for planned in plan.cells if profile.kept else ():  # last: nothing else waits for them
        if planned.cell.has_generator:
            planned.stages.update(add_course(plan, planned.cell, planned.stages))
    order = {cell.id: index for index, cell in enumerate(cells)}
    plan.cells.sort(key=lambda planned: order[planned.cell.id])
    return plan


def _refuse_arm(cell: Cell, profile: Profile, source: Source) -> None:
    subjects = len(source.people("train"))
    wanted = subjects if cell.real_subjects is None else cell.real_subjects
    if wanted > subjects:
        raise InputError(f"cell {cell.id}: {wanted} real subjects of {subjects} in training; lower it in 'arms'")
    patches = source.training_patches(profile) * wanted // subjects
    if cell.real_subjects is not None and patches < profile.unet.batch:
        raise InputError(f"cell {cell.id}: {patches} real patches for unet.batch {profile.unet.batch}; lower the batch")
    if cell.mixed_with and profile.unet.batch < 2:
        raise InputError(f"cell {cell.id}: unet.batch 1 cannot be half real and half synthetic; raise it to 2 or more")


def _add_prepare(plan: Plan, cell: Cell) -> str:
    profile, pairing = plan.profile, cell.recipe.pairing
    options: PrepareOptions = {
        "source": plan.source.options_for(pairing),
        # The phantom has no files: a pair is made as one, and the option makes no difference.
        "recipe": recipe_options(cell.recipe, DATA_RECIPE) if plan.source.has_files else {},
        "split": plan.source.split,
        "patch": profile.patch,
        "patches": corners_of(profile),
        "brain_mask": profile.brain_mask,
        "seed": profile.split.seed,
    }
    return plan.add("prepare", options, {}, None, where=plan.source.where)


def _add_import(plan: Plan, external: ExternalSource) -> str:
    options: ImportOptions = {
        "files": external.files,
        "patch": plan.profile.patch,
        "intensities": external.intensities,
    }
    if external.nan is not None:
        options["nan"] = external.nan
    return plan.add("import_pairs", options, {}, None, where={"folder": str(external.folder)})


def _add_simulation(plan: Plan, data: str) -> str:
    """As many phantoms as there are training subjects, with as many patches each, and voxels of their size."""
    options: SimulateOptions = {
        "subjects": len(plan.source.split["train"]),
        "patch": plan.profile.patch,
        "patches": corners_of(plan.profile),
        "seed": plan.profile.phantom.seed,
    }
    return plan.add("simulate_pairs", options, {"data": data}, None)
