"""Which stage needs which: from a protocol's cells to stage specifications. Pure, and imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmark.artifacts.generators import numerics_options, recipe_options, step_options, training_options
from benchmark.artifacts.roles import MIXED, Role, at_share
from benchmark.artifacts.store import Options, Spec
from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.datasets.source import ExternalSource, Source
from benchmark.environment import Machine, Node, this_node
from benchmark.metrics.asking import refuse_missing, stage_options
from benchmark.protocol.cells import Cell
from benchmark.protocol.schema import Profile, Protocol
from vesselgan.errors import InputError
from vesselgan.families import WGAN
from vesselgan.processor import narrowest

__all__ = [
    "EXTRACTOR_STAGES",
    "FEATURE_BATCH",
    "CellPlan",
    "Findings",
    "Plan",
    "Resources",
    "build_plan",
    "check_options",
]

Findings = Mapping[str, Mapping[str, Any]]  # values of finished numerics checks by their keys

# What the numerics check of an extractor looks at: patches at a time, and how much of the ResNet it computes.
FEATURE_BATCH = 16
EXTRACTOR_STAGES = {"random_resnet10": 2, "medicalnet": 5}


@dataclass(frozen=True)
class Resources:
    """What a stage takes of a node while it runs; it decides where and when, and so is in no key."""

    cpus: int = 1
    gpus: int = 0
    exclusive: bool = False  # nothing else of the run beside it on its node: what it times would be slower
    memory_mib: float = 0.0  # of the card's, or without one of the node's; as far as it was counted
    machine: Machine | None = None  # what is timed or checked on it is about this one alone
    checked: Sequence[Node] = ()  # kernels are right on nodes like these; where it calls none, on any


@dataclass(frozen=True)
class CellPlan:
    """A cell and the keys of its stages by role (`artifacts.roles`)."""

    cell: Cell
    stages: dict[str, str]


@dataclass
class Plan:
    """The stages of a run in an order in which each stands behind what it needs."""

    protocol: Protocol
    profile_name: str
    profile: Profile
    node: Node  # that computes
    source: Source
    findings: Findings = field(default_factory=dict)
    specs: dict[str, Spec] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)  # of each of the specs
    checks: list[str] = field(default_factory=list)  # those of the specs that are numerics checks
    same_check: dict[str, list[str]] = field(default_factory=dict)  # of a check, on nodes of other kinds
    cells: list[CellPlan] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's folder name under `runs/` and `reports/`."""
        return f"{self.protocol.protocol}-{self.profile_name}"

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.node.device

    def keys_of(self, role: Role) -> list[str]:
        """Keys of the stages that fill a role in some cell, each once."""
        return list(dict.fromkeys(cell.stages[role] for cell in self.cells if role in cell.stages))

    def add(
        self,
        stage: str,
        options: Mapping[str, Any],
        needs: Mapping[str, str],
        threads: int | None,
        checks: Sequence[str] = (),
        *,
        facts: Mapping[str, Any] = MappingProxyType({}),
        exclusive: bool = False,
        where: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Add a stage (once) and return its key; `threads` is None for stages without torch.

        `checks` are keys of numerics checks. What gets round a wrong kernel decides the bytes, so it is in the key.
        Where all kernels are right it is nothing, and the key is that of every such machine. `facts` of the node that
        decide the result beside device, threads and torch are in the key, too; `where` files lie is not.
        """
        runtime: Options = dict(facts)
        if threads is not None:
            runtime |= {"device": self.device, "threads": threads, "torch": self.node.torch}
            if self.profile.deterministic:  # later than the first runs, whose keys say nothing of it
                runtime["deterministic"] = self.profile.deterministic
        if remedy := self._remedy(checks):
            runtime["remedy"] = remedy
        spec = Spec(stage, STAGE_VERSIONS[stage], options, needs, runtime, dict(where), sorted(checks))
        if spec.key not in self.specs:
            self.specs[spec.key] = spec
            on_gpu = threads is not None and self.device == "cuda"
            checked = [self.node, *self._others_like(checks)] if checks else []
            self.resources[spec.key] = Resources(
                threads or 1, int(on_gpu), exclusive, machine=facts.get("machine"), checked=checked
            )
        return spec.key

    def verify(self, options: Mapping[str, Any], threads: int) -> str:
        """Add the numerics check of a network (once) and return its key."""
        keys = []
        for node in (self.node, *self.node.others):
            facts = {"machine": node.machine, "libraries": node.libraries, "instructions": node.instructions}
            keys.append(self.add("verify", options, {}, threads, facts=facts))
        self.checks += [key for key in keys if key not in self.checks]
        self.same_check[keys[0]] = keys[1:]
        return keys[0]

    def _others_like(self, checks: Sequence[str]) -> list[Node]:
        """Nodes of other kinds that may compute what rests on these checks: theirs found the same."""
        others = list(zip(self.node.others, *(self.same_check[key] for key in checks), strict=True))
        return [
            node
            for node, *keys in others
            if all(key in self.findings and not self.refused(key) for key in keys)
            and self._remedy(keys) == self._remedy(checks)
        ]

    def refused(self, check: str) -> bool:
        """Whether this numerics check has failed: what rests on it cannot be computed here."""
        return "refused" in self.findings.get(check, {})

    def _remedy(self, checks: Sequence[str]) -> Options:
        """What the finished ones of these checks say to do; empty where all kernels are right."""
        found = [remedy for key in sorted(checks) if (remedy := self.findings.get(key, {}).get("remedy"))]
        # One set of instructions holds for a whole process: the narrowest of those that the checks ask for.
        sets = [remedy["instructions"] for remedy in found if "instructions" in remedy]
        ways = [way for remedy in found for way in remedy.get("operations", {}).items()]
        return ({"instructions": narrowest(sets)} if sets else {}) | ({"operations": dict(ways)} if ways else {})


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
        costs = _add_measure(plan, cells, profile.measure.threads)
        for cell in cells:
            roles: dict[str, str] = {}
            if cell.has_generator:
                check = roles[Role.VERIFY_GAN] = plan.verify(_generator_check(profile, cell), profile.measure.threads)
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
    costs = _add_measure(plan, [cell for cell in cells if cell.has_generator], profile.threads)
    pairs: dict[tuple[str, int], dict[str, str]] = {}
    # Fewer real subjects last: their short U-Nets fill the gaps between generators.
    for cell in sorted(cells, key=lambda cell: cell.real_subjects is not None):
        roles = {Role.DATA: data[cell.recipe.pairing]}
        if cell.untrained:
            plan.cells.append(CellPlan(cell, roles | _add_untrained(plan, cell.untrained, roles[Role.DATA])))
            continue
        if cell.has_generator:
            roles |= _add_generator(plan, cell, roles[Role.DATA])
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
            roles |= _add_scores(plan, cell, roles)
        roles |= _add_segmentation(plan, cell, roles)
        plan.cells.append(CellPlan(cell, roles))
    for planned in plan.cells if profile.kept else ():  # last: nothing else waits for them
        if planned.cell.has_generator:
            planned.stages.update(_add_course(plan, planned.cell, planned.stages))
    order = {cell.id: index for index, cell in enumerate(cells)}
    plan.cells.sort(key=lambda planned: order[planned.cell.id])
    return plan


def _refuse_arm(cell: Cell, profile: Profile, source: Source) -> None:
    subjects = len(source.split["train"])
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
    options = {
        "source": plan.source.options_for(pairing),
        # The phantom has no files: a pair is made as one, and the option makes no difference.
        "recipe": recipe_options(cell.recipe, DATA_RECIPE) if plan.source.has_files else {},
        "split": plan.source.split,
        "patch": profile.patch,
        "patches": profile.patches.model_dump(),
        "brain_mask": profile.brain_mask,
        "seed": profile.split.seed,
    }
    return plan.add("prepare", options, {}, None, where=plan.source.where)


def _add_measure(plan: Plan, cells: Sequence[Cell], verified_threads: int) -> str | None:
    """One stage measures all configurations, since only interleaved timings can be compared.

    It goes round wrong kernels as the trainings do, whose checks it rests on: what they cost is to be measured.
    """
    configurations, checks = {}, set()
    for cell in cells:
        check = plan.verify(_generator_check(plan.profile, cell), verified_threads)
        if plan.refused(check):  # there is nothing to measure, and the other cells are not to suffer
            continue
        checks.add(check)
        options = _generator_options(plan.profile, cell, plan.source.training_patches(plan.profile))
        configurations[cell.label] = step_options(cell.generator, options, cell.recipe)  # seeds cost the same
    if not configurations:
        return None
    profile = plan.profile
    measure = profile.measure.model_dump()
    options = {
        "configurations": configurations,
        "patch": profile.patch,
        "penalty_weight": profile.penalty_weight,
        **{name: measure[name] for name in ("rounds", "steps", "warmup")},
    }
    facts = {"machine": plan.node.machine}
    return plan.add("measure", options, {}, profile.measure.threads, sorted(checks), facts=facts, exclusive=True)


def check_options(profile: Profile, cells: Iterable[Cell]) -> list[Options]:
    """Options of the numerics checks that these cells rest on, each once."""
    options = [_generator_check(profile, cell) for cell in cells if cell.has_generator]
    options += [_unet_check(profile), _extractor_check(profile)]
    return [one for index, one in enumerate(options) if one not in options[:index]]


def _generator_check(profile: Profile, cell: Cell) -> Options:
    options = _generator_options(profile, cell, patches=1)  # how many there are changes no operation
    synthesis = _synthesis_batch(options["batch"])
    options["batch"] //= options.get("processes", 1)  # what each of them computes
    return numerics_options(cell.generator, options, cell.recipe, synthesis)


def _unet_check(profile: Profile) -> Options:
    return {
        "network": "unet",
        "patch": profile.patch,
        "filters": profile.unet.filters,
        "precision": getattr(profile.precision, profile.unet.precision),
        "batch": profile.unet.batch,
        "inference_batches": sorted({profile.unet.batch, profile.inference.batch}),
    }


def _extractor_check(profile: Profile) -> Options:
    return {
        "network": "extractor",
        "patch": profile.patch,
        "precision": "fp32",
        "batches": [FEATURE_BATCH],
        "stages": EXTRACTOR_STAGES[profile.score.extractor],
    }


def _synthesis_batch(batch: int) -> int:
    return max(8, batch)


def _add_generator(plan: Plan, cell: Cell, data: str) -> dict[str, str]:
    profile, family = plan.profile, cell.generator
    options = _generator_options(profile, cell, plan.source.training_patches(profile))
    checks = [plan.verify(_generator_check(profile, cell), profile.threads)]
    trained = training_options(family, options, cell.recipe)
    if profile.kept:
        trained["kept"] = profile.kept
    generator = plan.add("train_gan", trained, {"data": data}, profile.threads, checks)
    if (processes := options.get("processes", 1)) > 1:  # each has a card and threads of its own
        family.configure(options, cell.recipe, plan.source.training_patches(profile)).check()
        if "operations" in plan.specs[generator].runtime.get("remedy", {}):
            raise InputError(f"cell {cell.id}: wrong kernels are got round in one process alone; use processes: 1")
        taken = plan.resources[generator]
        plan.resources[generator] = replace(taken, cpus=profile.threads * processes, gpus=taken.gpus * processes)
    synthesis = _synthesis_options(profile, cell)
    pairs = plan.add("synthesise", synthesis, {"gan": generator}, profile.threads, checks)
    return {Role.VERIFY_GAN: checks[0], Role.GAN: generator, Role.PAIRS: pairs}


def _synthesis_options(profile: Profile, cell: Cell) -> Options:
    batch = _generator_options(profile, cell, patches=1)["batch"]
    return {
        "pairs": profile.pairs,
        "seed": cell.seed,
        "batch": _synthesis_batch(batch),
        "recipe": recipe_options(cell.recipe, cell.generator.sampling_recipe),
    }


def _add_course(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
    """Of each share of the training as many pairs as are scored at its end, and their scores."""
    profile, checks = plan.profile, [roles[Role.VERIFY_GAN]]
    options = _synthesis_options(profile, cell) | {"pairs": min(profile.pairs, profile.score.samples)}
    course: dict[str, str] = {}
    for share in profile.kept:
        needs = {"gan": roles[Role.GAN]}
        pairs = plan.add("synthesise", {**options, "at": share}, needs, profile.threads, checks)
        scored = _add_scores(plan, cell, {Role.DATA: roles[Role.DATA], Role.PAIRS: pairs})
        course |= {at_share(Role.PAIRS, share): pairs, at_share(Role.SCORE, share): scored[Role.SCORE]}
    return course


def _generator_options(profile: Profile, cell: Cell, patches: int) -> Options:
    """The settings of a cell's generator, of which its family makes a configuration; there are so many patches."""
    options = dict(profile.section(cell.generator))
    options |= {name: getattr(cell, name) for name in ("filters", "batch") if name in options}
    if cell.family == WGAN.name:
        options |= {"norm": cell.norm, "loss": cell.loss, "loss_options": profile.losses.get(str(cell.loss), {})}
        options |= {"privacy": _privacy(profile, patches) if cell.private else None}
        options |= _private_pace(profile) if cell.private else {}
    return {**options, "patch_size": profile.patch, "precision": cell.precision, "seed": cell.seed}


def _add_import(plan: Plan, external: ExternalSource) -> str:
    options = {"files": external.files, "patch": plan.profile.patch, "intensities": external.intensities}
    return plan.add("import_pairs", options, {}, None, where={"folder": str(external.folder)})


def _add_simulation(plan: Plan, data: str) -> str:
    """As many phantoms as there are training subjects, with as many patches each, and voxels of their size."""
    options = {
        "subjects": len(plan.source.split["train"]),
        "patch": plan.profile.patch,
        "patches": plan.profile.patches.model_dump(),
        "seed": plan.profile.phantom.seed,
    }
    return plan.add("simulate_pairs", options, {"data": data}, None)


def _add_untrained(plan: Plan, method: str, data: str) -> dict[str, str]:
    """The rule is fitted on training subjects, and scored as U-Nets are."""
    rules = plan.add("fit_untrained", {"method": method}, {"data": data}, None)
    evaluated = plan.add("evaluate_untrained", _own_subject_metrics(plan), {"data": data, "rules": rules}, None)
    return {Role.RULES: rules, Role.EVALUATE: evaluated}


def _own_subject_metrics(plan: Plan) -> Options:
    """Metrics of somebody's own that the protocol asks for; all others are always computed, and not named in a key."""
    named = stage_options(plan.protocol.metrics.model_dump(), "subject")
    return {"metrics": named} if named else {}


def _add_scores(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
    profile, asked = plan.profile, plan.protocol.metrics.model_dump()
    score: Options = {
        "extractor": profile.score.extractor,
        "samples": profile.score.samples,
        "seed": profile.score.seed,
        "metrics": stage_options(asked, "set", "labels", "audit"),
        "recipe": recipe_options(cell.recipe, SCORE_RECIPE),
    }
    floor = stage_options(asked, "set")
    refuse_missing(floor)
    reference_options = {**score, "metrics": floor, "recipe": recipe_options(cell.recipe, REFERENCE_RECIPE)}
    weights = {"weights": profile.score.weights} if profile.score.weights else {}
    if weights:
        score["weights_sha256"] = reference_options["weights_sha256"] = plan.source.weights_sha256
    checks = [plan.verify(_extractor_check(profile), profile.threads)]
    data = {"data": roles[Role.DATA]}
    reference = plan.add("reference", reference_options, data, profile.threads, checks, where=weights)
    needs = {**data, "pairs": roles[Role.PAIRS], "reference": reference}
    scored = plan.add("score", score, needs, profile.threads, checks, where=weights)
    return {Role.VERIFY_SCORE: checks[0], Role.REFERENCE: reference, Role.SCORE: scored}


def _add_segmentation(plan: Plan, cell: Cell, roles: Mapping[str, str]) -> dict[str, str]:
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
    arm = {"real": real} if cell.mixed_with or (cell.is_real and not is_baseline) else {}
    augmentation = profile.unet.augmentation and profile.unet.augmentation.model_dump()
    varied = {"augmentation": augmentation} if augmentation else {}
    chosen = {"threshold": profile.unet.threshold}
    checks = [plan.verify(_unet_check(profile), profile.threads)]
    trained = {"unet": unet, "recipe": recipe, **chosen, **arm, **varied}
    net = plan.add("train_unet", trained, needs, profile.threads, checks)
    options = {"inference": profile.inference.model_dump(), "patch": profile.patch, "recipe": recipe}
    options |= _own_subject_metrics(plan)
    evaluated = plan.add("evaluate", options, {"data": roles[Role.DATA], "unet": net}, profile.threads, checks)
    return {Role.VERIFY_UNET: checks[0], Role.UNET: net, Role.EVALUATE: evaluated}


def _real_subjects(plan: Plan, cell: Cell) -> list[str]:
    """The training subjects whose patches a U-Net sees: of each seed's random order the first ones, so that fewer are
    among more."""
    train = plan.source.split["train"]
    count = len(train) if cell.real_subjects is None else cell.real_subjects
    order = np.random.default_rng(cell.seed).permutation(len(train))
    return sorted(train[index] for index in order[:count])


# Which deviations each stage reads; those of a generator's stages are its family's to say.
DATA_RECIPE = ("pairing",)
REFERENCE_RECIPE = ("feature_noise", "intensity_scaling", "reference")
SCORE_RECIPE = (*REFERENCE_RECIPE, "prd_arguments", "label_metrics")
SEGMENTATION_RECIPE = ("intensity_scaling",)


def _private_pace(profile: Profile) -> Options:
    """Critic steps and learning rates, which the DP variant has of its own."""
    return {name: getattr(profile.dp, name) for name in ("critic_steps", "lr_generator", "lr_critic")}


def _privacy(profile: Profile, patches: int) -> dict[str, float]:
    dp = profile.dp
    return {
        "noise_multiplier": dp.noise_multiplier,
        "clip_norm": dp.clip_norm,
        "weight_clip": dp.weight_clip,
        "delta": dp.delta or 1 / patches,
    }
