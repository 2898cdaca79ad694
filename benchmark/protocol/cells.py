"""Axes -> cells: the experiment's units, their ids and the `-k` filter."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Required, TypedDict, cast

from benchmark.protocol.schema import AXES, External, Matrix, Profile, Protocol, Section
from vesselgan.errors import InputError, did_you_mean
from vesselgan.families import FAMILIES, Family
from vesselgan.recipe import Recipe, resolve_recipe
from vesselgan.settings import PrecisionName
from vesselgan.variants import VARIANTS, Variant

__all__ = [
    "MOST_CELLS",
    "PROCEDURAL",
    "REAL",
    "SYNTHETIC_KINDS",
    "UNTRAINED",
    "Cell",
    "Kind",
    "Untrained",
    "cells_of",
    "kind_of",
    "labels_by_kind",
    "labels_of",
    "most_cells",
    "select",
]

Kind = Literal["real", "synthetic", "external", "mixed", "procedural", "untrained"]
SYNTHETIC_KINDS: tuple[Kind, ...] = ("synthetic", "external")  # U-Nets that learn from generated pairs alone
MOST_CELLS = 100_000  # of a protocol, before rules of 'exclude' take some away

REAL = "real"  # the label of the baseline: a U-Net trained on real patches
Untrained = Literal["threshold", "vesselness"]
# The labels of the rules without learning, as vesselgan.untrained names them.
UNTRAINED: tuple[Untrained, ...] = ("threshold", "vesselness")
PROCEDURAL = "procedural"  # the label of U-Nets trained on phantoms, which cost no patient
PAPER_FILTERS = 512  # of the narrower of the paper's WGANs
BASELINE_RECIPE = ("pairing", "intensity_scaling")  # the deviations that a baseline's stages read


class Point(TypedDict, total=False):
    """A value of each axis that a matrix has; the seed always is one."""

    variant: str
    norm: Literal["instance", "spectral", "none"]
    precision: PrecisionName
    filters: int
    batch: int
    recipe: str | dict[str, object]
    seed: Required[int]


@dataclass(frozen=True)
class Cell:
    """One point of the matrix, fully resolved.

    `family` and what follows it are None where no generator is trained, `norm` and `loss` where it has no critic.
    """

    id: str
    label: str
    seed: int
    recipe_name: str
    recipe: Recipe
    family: str | None = None
    variant: str | None = None
    norm: str | None = None
    loss: str | None = None
    precision: str | None = None
    filters: int | None = None
    batch: int | None = None
    private: bool = False  # differential privacy instead of a gradient penalty
    external: str | None = None  # the label of `include` whose pairs take the place of a generator's
    real_subjects: int | None = None  # how many of the training subjects a U-Net learns from; None: of all
    mixed_with: str | None = None  # the label whose pairs are half of each batch, beside real patches
    untrained: Untrained | None = None  # the rule without learning that takes the place of a U-Net
    simulated: bool = False  # a U-Net learns from phantoms alone

    @property
    def kind(self) -> Kind:
        """What its U-Net learns from; see `kind_of`."""
        return kind_of(vars(self))

    @property
    def is_real(self) -> bool:
        """Whether its U-Net learns from real patches alone, as the baseline does."""
        return self.kind == "real"

    @property
    def is_synthetic(self) -> bool:
        """Whether its U-Net learns from the pairs of a generator alone, or from somebody else's."""
        return self.kind in SYNTHETIC_KINDS

    @property
    def has_generator(self) -> bool:
        """Whether a generator is trained for it, as for neither the baseline nor somebody else's pairs."""
        return self.family is not None

    @property
    def generator(self) -> Family[Any]:
        """The kind of its generator."""
        assert self.family is not None  # ask `has_generator` first
        return FAMILIES[self.family]


def kind_of(cell: Mapping[str, object]) -> Kind:
    """What the U-Net of a cell learns from, by the fields of `Cell`; of cells of earlier runs some are not there.

    Real patches, however few; the pairs of a generator (synthetic), or of somebody else (external); real patches and
    pairs (mixed); phantoms (procedural); nothing, where a rule stands in the place of a U-Net (untrained).
    """
    if cell.get("untrained"):
        return "untrained"
    if cell.get("simulated"):
        return "procedural"
    if cell.get("mixed_with"):
        return "mixed"
    if cell.get("external"):
        return "external"
    # Earlier runs have no families, and their generators are WGANs, whose critics have a norm.
    return "synthetic" if cell.get("family") or cell["norm"] else "real"


def cells_of(protocol: Protocol, profile: Profile, *, has_data: bool = False) -> list[Cell]:
    """Every cell of a profile: the baseline of each seed and recipe, rules without learning, fewer real subjects, the
    matrix in its own order, `include`, phantoms in place of pairs, and what is mixed with real patches.

    Recipes whose baselines would be the same have one, under the name of the first. Phantoms are a cell where the run
    `has_data`: on the embedded phantom they would be more of the same. Raises InputError where two cells would have one
    id, for a width that cannot be halved three times, for an arm that mixes with an unknown label, and for more than
    MOST_CELLS.
    """
    matrix = profile.matrix or protocol.matrix
    if (most := most_cells(protocol, profile)) > MOST_CELLS:
        raise InputError(f"protocol {protocol.protocol}: up to {most} cells; a run has at most {MOST_CELLS}")
    points = [point for point in _points(matrix) if not any(_matches(point, rule) for rule in protocol.exclude)]
    if not points:
        raise InputError(f"protocol {protocol.protocol}: 'exclude' leaves no cell of the matrix; remove a rule")
    segmented = [] if protocol.only == "costs" else points
    baselines = [_baseline(point, matrix, profile) for point in segmented]
    first = [point for point in points if point["seed"] == matrix.seed[0]] or points[:1]
    rules = [_untrained(name, point, matrix, profile) for name in UNTRAINED for point in first if segmented]
    rules = [cell for cell in rules if cell.untrained in profile.baselines]
    arms = {} if protocol.only == "costs" else protocol.arms if profile.arms is None else profile.arms
    fewer = [_with_subjects(cell, count) for count in arms.get(REAL, ()) if count != "all" for cell in baselines]
    sections: dict[str, Section] = {}
    cells = baselines + rules + fewer + [_cell(point, matrix, profile, sections) for point in points]
    # Somebody else's pairs come from one trained model: more seeds would only repeat the U-Net.
    cells += [_external(external, point, matrix, profile) for external in protocol.include for point in first]
    if has_data and PROCEDURAL in profile.baselines:
        cells += [replace(_baseline(point, matrix, profile, PROCEDURAL), simulated=True) for point in segmented]
    cells += [mixed for arm, counts in arms.items() if arm != REAL for mixed in _mixed(protocol, arm, counts, cells)]
    kinds: dict[object, Cell] = {}
    for cell in cells:
        kinds.setdefault(_identity(cell), cell)
    unique = list(kinds.values())
    taken = {cell.label for cell in unique if not cell.external} & {cell.label for cell in unique if cell.external}
    if taken:
        raise InputError(
            f"protocol {protocol.protocol}: include: {min(taken)!r} is another cell's label; choose another"
        )
    twice = sorted(name for name, count in Counter(cell.id for cell in unique).items() if count > 1)
    if twice:
        raise InputError(f"protocol {protocol.protocol}: matrix: two cells have the id {twice[0]!r}; remove one")
    _refuse_single_positions(protocol, profile, unique)
    return unique


def labels_of(protocol: Protocol) -> list[str]:
    """The labels that claims may name: those of the cells of any profile, the baselines' first."""
    return labels_by_kind(protocol)[0]


def labels_by_kind(protocol: Protocol) -> tuple[list[str], list[str]]:
    """`labels_of`, and those of them whose U-Nets learn from synthetic pairs alone."""
    labels: dict[str, None] = {}
    synthetic: dict[str, None] = {}
    for cell in _all_cells(protocol):
        labels[cell.label] = None
        if cell.is_synthetic:
            synthetic[cell.label] = None
    return list(labels), list(synthetic)


def _all_cells(protocol: Protocol) -> Iterable[Cell]:
    """Of every profile, with and without data."""
    return (cell for profile in protocol.profiles.values() for cell in cells_of(protocol, profile, has_data=True))


def most_cells(protocol: Protocol, profile: Profile) -> int:
    """How many cells a profile can have at the most, counted without building any."""
    matrix = profile.matrix or protocol.matrix
    points = math.prod(len(values) for axis in AXES if (values := getattr(matrix, axis)) is not None)
    if protocol.only == "costs":
        return points
    arms = protocol.arms if profile.arms is None else profile.arms
    # Beside each point a baseline, on real data one from phantoms, and one for each count of subjects.
    each = 3 + len(protocol.include) + sum(map(len, arms.values()))
    return points * each + len(UNTRAINED)


def select(cells: Sequence[Cell], expression: str | None) -> list[Cell]:
    """Cells whose id or label contains the words of a pytest-like expression: `SN and not MP`, `real or s0`.

    Raises InputError where the expression is empty or cannot be read, has a word that is in no cell, or matches none.
    """
    if expression is None:
        return list(cells)
    words = re.findall(r"\(|\)|[^\s()]+", expression)
    if not words:
        raise InputError(f"-k {expression!r}: is empty; give a word of a cell's name, or leave -k out for all cells")
    operators = {"and", "or", "not", "(", ")"}
    source = " ".join(word if word in operators else f"has({word!r})" for word in words)
    try:
        code = compile(source, "-k", "eval")
    except SyntaxError:
        raise InputError(f"-k {expression!r}: write words joined by 'and', 'or', 'not' and parentheses") from None

    every = " ".join(f"{cell.id} {cell.label}" for cell in cells)
    for word in words:
        if word not in operators and word.lower() not in every.lower():
            known = list(dict.fromkeys([*(cell.id for cell in cells), *re.split(r"[\s_=]+", every)]))
            raise InputError(f"-k {expression!r}: {word!r} is in no cell{did_you_mean(word, known)}")

    def matches(cell: Cell) -> bool:
        names = f"{cell.id} {cell.label}".lower()
        # Only and/or/not, parentheses and quoted words reach this point, so nothing else can be called.
        return bool(eval(code, {"__builtins__": {}, "has": lambda word: word.lower() in names}))

    try:
        chosen = [cell for cell in cells if matches(cell)]
    except TypeError:  # a word before a parenthesis reads as a call
        raise InputError(f"-k {expression!r}: there is no 'and' or 'or' before a parenthesis") from None
    if not chosen:
        raise InputError(
            f"-k {expression!r}: matches none of the {len(cells)} cells ({', '.join(c.id for c in cells)})"
        )
    return chosen


def _refuse_single_positions(protocol: Protocol, profile: Profile, cells: Sequence[Cell]) -> None:
    if any(cell.norm == "instance" for cell in cells) and all(axis == 16 for axis in profile.patch):
        raise InputError(
            f"protocol {protocol.protocol}: patch {list(profile.patch)} leaves an instance-norm critic (GP) one final "
            "position, whose normalised value is always zero; the nearest size that works is [32, 16, 16]"
        )


def _identity(cell: Cell) -> object:
    """Equal for baselines that are equal: they repeat over the axes and the deviations that they do not have."""
    if cell.untrained:  # it reads volumes, each on a scale of its own, whatever the networks' scaling
        return cell.untrained, cell.recipe.pairing
    if cell.is_real or cell.simulated:
        options = (getattr(cell.recipe, name) for name in BASELINE_RECIPE)
        return cell.simulated, cell.seed, cell.real_subjects, *options
    return cell


def _points(matrix: Matrix) -> Iterable[Point]:
    axes = {axis: values for axis in AXES if (values := getattr(matrix, axis)) is not None}
    for combination in itertools.product(*axes.values()):
        yield cast(Point, dict(zip(axes, combination, strict=True)))


def _matches(point: Point, rule: Mapping[str, object]) -> bool:
    return all(point.get(axis) in (value if isinstance(value, list) else [value]) for axis, value in rule.items())


def _recipe_of(point: Point, profile: Profile) -> tuple[str, Recipe]:
    chosen = point.get("recipe", profile.recipe)
    options: dict[str, object] = {"base": chosen} if isinstance(chosen, str) else {**chosen}
    base = str(options.pop("base", "corrected"))
    return _recipe_name(chosen), resolve_recipe(base, options) if options else _named_recipe(base)


@cache
def _named_recipe(name: str) -> Recipe:
    return resolve_recipe(name)


def _recipe_name(recipe: str | Mapping[str, object]) -> str:
    """`corrected`, `corrected+D8`, `corrected+penalty_norm=batch`."""
    options: dict[str, object] = {"base": recipe} if isinstance(recipe, str) else {**recipe}
    base = str(options.pop("base", "corrected"))
    return "+".join([base, *(f"{key}={value}" for key, value in options.items())])


def _label(point: Point, matrix: Matrix) -> str:
    """The paper's name, or the norm, and every further axis that varies beside the seed."""
    name = str(point.get("variant", point.get("norm")))
    others = [axis for axis in AXES if axis not in ("variant", "norm", "seed") and len(getattr(matrix, axis) or []) > 1]
    values = {axis: _recipe_name(point["recipe"]) if axis == "recipe" else point.get(axis) for axis in others}
    return " ".join([name, *(f"{axis}={value}" for axis, value in values.items())])


def _baseline(point: Point, matrix: Matrix, profile: Profile, label: str = REAL) -> Cell:
    name, recipe = _recipe_of(point, profile)
    varies = len(matrix.recipe or []) > 1
    return Cell(
        id=f"{label}_{name}_s{point['seed']}" if varies else f"{label}_s{point['seed']}",
        label=f"{label} recipe={name}" if varies else label,
        seed=point["seed"],
        recipe_name=name,
        recipe=recipe,
    )


def _external(external: External, point: Point, matrix: Matrix, profile: Profile) -> Cell:
    """Like the baseline, it has a seed and a recipe for its U-Net alone."""
    return replace(_baseline(point, matrix, profile, external.label), external=external.label)


def _untrained(name: Untrained, point: Point, matrix: Matrix, profile: Profile) -> Cell:
    """Like the baseline, but for its seed: nothing in it is drawn."""
    baseline = _baseline(point, matrix, profile, name)
    return replace(baseline, id=baseline.id.removesuffix(f"_s{baseline.seed}"), untrained=name)


def _with_subjects(baseline: Cell, count: int) -> Cell:
    """The baseline on the patches of fewer subjects: `real n=3`."""
    return replace(
        baseline,
        id=baseline.id.replace(REAL, f"{REAL}_n{count}", 1),
        label=baseline.label.replace(REAL, f"{REAL} n={count}", 1),
        real_subjects=count,
    )


def _mixed(
    protocol: Protocol, arm: str, counts: Sequence[int | Literal["all"]], cells: Sequence[Cell]
) -> Iterable[Cell]:
    """Of an arm 'real + LABEL' a cell per count and per cell of that label, whose pairs it shares."""
    partner = arm.removeprefix(f"{REAL} + ")
    known = list(dict.fromkeys(cell.label for cell in cells if cell.is_synthetic))
    if partner not in known:
        hint = did_you_mean(partner, known)
        raise InputError(f"protocol {protocol.protocol}: arms: {arm!r}: no cell has the label {partner!r}{hint}")
    for count, cell in itertools.product(counts, [cell for cell in cells if cell.label == partner]):
        yield Cell(
            id=f"{REAL}+{cell.id}" if count == "all" else f"{REAL}_n{count}+{cell.id}",
            label=arm if count == "all" else f"{REAL} n={count} + {partner}",
            seed=cell.seed,
            recipe_name=cell.recipe_name,
            recipe=cell.recipe,
            real_subjects=None if count == "all" else count,
            mixed_with=partner,
        )


def _cell(point: Point, matrix: Matrix, profile: Profile, sections: dict[str, Section]) -> Cell:
    """`sections` keeps those that the profile was asked for already."""
    variant = VARIANTS.get(point.get("variant", "")) or Variant("", norm=point.get("norm"))
    family = FAMILIES[variant.family]
    full = variant.precision == "full"
    precision = point.get("precision") or (profile.precision.full if full else profile.precision.mixed)
    if family.name not in sections:
        sections[family.name] = profile.section(family)
    section = sections[family.name]
    filters = point.get("filters") or _width(variant, section)
    batch = point.get("batch") or section.get("batch")
    name, recipe = _recipe_of(point, profile)
    parts = [str(point.get("variant", point.get("norm")))]
    parts += [] if filters is None else [f"f{filters}"]
    parts += [str(point["precision"])] if matrix.precision else []
    parts += [f"b{batch}"] if matrix.batch else []
    parts += [name] if matrix.recipe else []
    return Cell(
        id="_".join([*parts, f"s{point['seed']}"]),
        label=_label(point, matrix),
        seed=point["seed"],
        recipe_name=name,
        recipe=recipe,
        family=family.name,
        variant=variant.label or None,
        norm=variant.norm,
        loss=variant.loss if variant.norm else None,
        precision=precision,
        filters=filters,
        batch=batch,
        private=variant.private,
    )


def _width(variant: Variant, section: Section) -> int | None:
    """The filters of a generator that has any. The paper's rows differ by a factor, which is kept at other sizes."""
    usual = section.get("filters")
    if usual is None or variant.filters is None:
        return usual
    filters = usual * variant.filters // PAPER_FILTERS
    if filters % 8:
        raise InputError(
            f"filters {usual} gives {variant.label} a width of {filters}; it must be a multiple of 8: "
            f"choose filters {usual * 8 // filters or 8}"
        )
    return filters
