"""Rows of a run -> the paired values that bear on a comparison, with everything that is missing from them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.claims.statistics import LEAST_PAIRS, LEAST_SEEDS, Crossed, Effect, SignFlip, Student
from benchmark.metrics.registry import every, find, has_subjects, is_cost, range_of
from benchmark.protocol.cells import SYNTHETIC_KINDS
from benchmark.protocol.claim import Scope
from benchmark.results.format import CellResult, MetricValue
from benchmark.results.judgements import PairRow
from benchmark.words import join, plural

__all__ = [
    "COUNT",
    "ROUND",
    "SEED",
    "SUBJECT",
    "Evidence",
    "MissingDataError",
    "Pairs",
    "effect_of",
    "obstacle_of",
    "within_range",
]

Array = NDArray[np.float64]
Fact = Literal["extractor", "reference", "n"]  # of a metric's value, beside it
SUBJECT, SEED, ROUND, COUNT = "test subject", "seed", "interleaved round", "exact count"
PUBLISHED = "published"
ROUNDING = 1e-12  # of a value: what two ways of adding the same numbers may differ by
# What a generator is, beside its recipe.
AXES = ("family", "variant", "norm", "precision", "filters", "batch", "external")
LEAST_SUBJECTS = 5  # beside seeds: fewer say too little about other subjects


class MissingDataError(Exception):
    """A comparison lacks a side altogether, or may not be made."""


@dataclass(frozen=True)
class Pairs:
    """Both sides of a comparison, (seeds, columns) each; a column is a subject or a round. NaN where there is no value.

    `undefined` marks values that stand for none, such as the distance of an empty prediction (2, seeds, columns). Each
    side is multiplied by its one of the `factors` before they are compared.
    """

    metric: str
    labels: tuple[str, str]
    unit: str
    seeds: tuple[int, ...]
    columns: tuple[Any, ...]
    values: Array  # (2, seeds, columns)
    undefined: NDArray[np.bool_]
    empty: int = 0  # predictions (or truths) without any voxel, on both sides
    failed: tuple[str, ...] = ()  # cells that failed or are unfinished
    factors: tuple[float, float] = (1.0, 1.0)
    seconds: float | None = None  # of training, where both sides are as they were after so many

    @property
    def differences(self) -> Array:
        """First side minus second, (seeds, columns), without seeds and columns that no side shares.

        Values that differ by rounding are equal: a test of signs would see a direction in it.
        """
        difference = self._whole_difference()
        known = ~np.isnan(difference)
        return difference[known.any(axis=1)][:, known.any(axis=0)]

    @property
    def by_seed(self) -> dict[int, float]:
        """The mean difference of each seed that both sides have."""
        known = ~np.isnan(self._whole_difference()).all(axis=1)
        means = np.nanmean(self.differences, axis=1)
        return dict(zip(np.array(self.seeds)[known].tolist(), means.tolist(), strict=True))

    def _whole_difference(self) -> Array:
        scaled: Array = self.values * np.array(self.factors)[:, None, None]
        difference: Array = scaled[0] - scaled[1]
        difference[np.abs(difference) <= ROUNDING * np.abs(scaled).max(axis=0)] = 0.0
        return difference

    @property
    def has_holes(self) -> bool:
        """Whether a value is missing or stands for none."""
        return bool(np.isnan(self.values).any() or self.undefined.any())

    def filled(self, left: float, right: float) -> "Pairs":
        """With these values in place of what is missing or undefined."""
        holes = np.isnan(self.values) | self.undefined
        fill = np.array([left, right])[:, None, None]
        return replace(self, values=np.where(holes, fill, self.values))

    def equalised(self) -> "Pairs":
        """With each missing or undefined value equal to its partner."""
        holes = np.isnan(self.values) | self.undefined
        partner = np.where(holes[::-1], 0.0, self.values[::-1])
        return replace(self, values=np.where(holes, partner, self.values))

    def rows(self) -> list[PairRow]:
        """The pairs behind the effect, one row per unit (seeds x subjects where both vary)."""
        both = np.where(np.isnan(self.values).any(axis=0), np.nan, self.values)
        known = ~np.isnan(both[0])
        if self.unit == SEED:
            return [
                self._row(both[:, s, c], seed=seed, **({} if column is None else {"subject": column}))
                for s, seed in enumerate(self.seeds)
                for c, column in enumerate(self.columns)
                if known[s, c]
            ]
        key = {SUBJECT: "subject", ROUND: "round", COUNT: "count"}[self.unit]
        return [
            self._row(both[:, known[:, c], c].mean(axis=1), **{key: column})
            for c, column in enumerate(self.columns)
            if known[:, c].any()
        ]

    def _row(self, sides: Array, **unit: Any) -> PairRow:
        left, right = map(float, sides)
        difference = self.factors[0] * left - self.factors[1] * right
        return {**unit, "left": left, "right": right, "difference": difference}  # type: ignore[typeddict-item]


def effect_of(pairs: Pairs) -> tuple[Effect | None, int, int]:
    """The effect, with how many seeds and columns it rests on; None where there is no spread to measure."""
    differences = pairs.differences
    seeds, columns = differences.shape
    if pairs.unit in (SUBJECT, ROUND):
        return (SignFlip(np.nanmean(differences, axis=0)) if columns > 1 else None), seeds, columns
    if seeds < 2:
        return None, seeds, columns
    if columns == 1:
        return Student(differences[:, 0]), seeds, columns
    return Crossed(differences), seeds, columns


def within_range(interval: tuple[Array, Array], pairs: Pairs) -> tuple[float, float]:
    """An interval of the difference of both sides, cut to what such a difference can be."""
    low, high = (float(end) for end in interval)
    least, greatest = range_of(pairs.metric)
    first, second = pairs.factors
    return max(low, first * least - second * greatest), min(high, first * greatest - second * least)


def obstacle_of(pairs: Pairs, seeds: int, columns: int) -> str | None:
    """Why nothing can be decided, whatever the values; None where it can."""
    if pairs.unit == COUNT:
        return None
    if pairs.unit == SEED and seeds < LEAST_SEEDS:
        are = "is" if LEAST_SEEDS - seeds == 1 else "are"
        return f"{plural(seeds, SEED)}: at least {LEAST_SEEDS - seeds} more {are} needed"
    least = LEAST_PAIRS if pairs.unit != SEED else LEAST_SUBJECTS if pairs.columns != (None,) else 0
    if columns < least:
        unit = pairs.unit if pairs.unit != SEED else SUBJECT
        return f"{plural(columns, unit)}: at least {least} are needed"
    return None


class Evidence:
    """What a run has: cells as in results.json, and the rows of `results.rows.subject_rows`."""

    def __init__(self, cells: Sequence[CellResult], subjects: pd.DataFrame) -> None:
        self.cells = cells
        self.labels = list(dict.fromkeys(cell["label"] for cell in cells))
        self._untrained = {cell["label"] for cell in cells if cell["kind"] == "untrained"}
        self._by_subject: dict[tuple[str, str], dict[tuple[int, str], tuple[float, bool]]] = {}
        columns = ["label", "seed", "split", "subject", "metric", "value", "empty"]
        if len(subjects):
            for label, seed, split, subject, metric, value, empty in zip(*(subjects[c] for c in columns), strict=True):
                if split == "test":
                    self._by_subject.setdefault((metric, label), {})[seed, subject] = (value, bool(empty))

    def rivals(self, label: str, among: Sequence[str] | None = None) -> list[str]:
        """Every other synthetic label, or those of them that are named."""
        synthetic = {cell["label"] for cell in self.cells if cell["kind"] in SYNTHETIC_KINDS}
        others = [name for name in self.labels if name != label and name in synthetic]
        return others if among is None else [name for name in others if name in among]

    def pairs(self, metric: str, left: str, right: str, scope: Scope) -> Pairs:
        """The values of two labels. Raises MissingDataError where one has none, or no seed is on both sides."""
        if is_cost(metric):
            return self._cost_pairs(metric, left, right)
        both = (left, right), (right, left)
        sides = [self._values(metric, label) for label in (left, right)]
        if missing := [label for label, side in zip((left, right), sides, strict=True) if not _known(side)]:
            raise MissingDataError(f"no {metric} of {join(missing)}")
        self._refuse_unlike(metric, left, right)
        sides = [self._for_seeds_of(other, label, side) for label, other, side in zip(*both, sides, strict=True)]
        return self._aligned(metric, (left, right), sides, scope)

    def against(self, metric: str, label: str, value: float, scope: Scope) -> Pairs:
        """The values of a label with one published number. Raises MissingDataError where it has none."""
        side = self._values(metric, label)
        if not _known(side):
            raise MissingDataError(f"no {metric} of {label}")
        return self._aligned(metric, (label, PUBLISHED), [side, dict.fromkeys(side, (value, False))], scope)

    def limits(self, metric: str) -> tuple[float, float]:
        """The least and the greatest value that a missing one could have had; without a limit, those of the run."""
        low, high = range_of(metric)
        if math.isfinite(low) and math.isfinite(high):
            return low, high
        labels = {*self.labels, *(label for _, label in self._by_subject)}
        seen = [value for label in labels for value, _ in self._values(metric, label).values()]
        return (
            low if math.isfinite(low) else float(np.nanmin([0.0, *seen])),
            high if math.isfinite(high) else float(np.nanmax([0.0, *seen])),
        )

    def kmeans_sd(self, metric: str, labels: Iterable[str]) -> float | None:
        """Root mean square of the SD over k-means runs within each trained model, for the metrics that have one."""
        wanted = set(labels)
        spreads = [
            entry["sd_kmeans"]
            for cell in self.cells
            if cell["label"] in wanted and (entry := cell["metrics"].get(metric)) and "sd_kmeans" in entry
        ]
        return float(np.sqrt(np.mean(np.square(spreads)))) if spreads else None

    def _values(self, metric: str, label: str) -> dict[tuple[int, Any], tuple[float, bool]]:
        """(seed, subject) -> value and whether the prediction was empty; metrics without subjects have subject None."""
        if has_subjects(metric):
            values: dict[tuple[int, Any], tuple[float, bool]] = dict(self._by_subject.get((metric, label), {}))
            return values
        return {
            (cell["seed"], None): (value, False)
            for cell in self.cells
            if cell["label"] == label and (value := _value(cell, metric)) is not None
        }

    def _for_seeds_of(
        self, other: str, label: str, side: dict[tuple[int, Any], tuple[float, bool]]
    ) -> dict[tuple[int, Any], tuple[float, bool]]:
        """The values of a rule without learning stand beside every seed of the other label: nothing in it is drawn."""
        if label not in self._untrained or other in self._untrained:
            return side
        seeds = {cell["seed"] for cell in self.cells if cell["label"] == other}
        return {(seed, subject): value for seed in seeds for (_, subject), value in side.items()}

    def _refuse_unlike(self, metric: str, left: str, right: str) -> None:
        """Raises MissingDataError where both sides were not measured alike, as far as their cells say."""
        found = find(metric)
        if found is None or found.kind != "set":
            return
        facts: tuple[Fact, ...] = ("extractor", "reference", *(("n",) if found.metric.biased_by_n else ()))
        for fact in facts:
            one, other = (self._facts(metric, label, fact) for label in (left, right))
            if len({*one, *other}) < 2 or (fact == "reference" and self._only_reference_differs(left, right)):
                continue
            seen = " and ".join(map(str, sorted({*one, *other})))
            if fact == "n":
                unbiased = [name for name, each in every("set").items() if not each.metric.biased_by_n]
                remedy = f"claim {' or '.join(unbiased)} instead, or give both sides as many"
                raise MissingDataError(f"n of {metric} differs between {left} and {right}: {seen} patches; {remedy}")
            raise MissingDataError(f"{metric} of {left} and {right} cannot be compared: the {fact} differs, {seen}")

    def _facts(self, metric: str, label: str, fact: Fact) -> set[Any]:
        entries = (cell["metrics"].get(metric) for cell in self.cells if cell["label"] == label)
        return {entry[fact] for entry in entries if entry and entry["value"] is not None and fact in entry}

    def _only_reference_differs(self, left: str, right: str) -> bool:
        """Whether the cells differ in the reference alone (D15): then the claim is about just that."""
        cells = [cell for cell in self.cells if cell["label"] in (left, right)]
        if not all(cell.get("recipe_options") for cell in cells):
            return False
        axes_of = [[cell.get(axis) for axis in AXES] for cell in cells]
        recipes = [cell["recipe_options"] | {"reference": None} for cell in cells]
        return all(pair == (axes_of[0], recipes[0]) for pair in zip(axes_of, recipes, strict=True))

    def _aligned(
        self,
        metric: str,
        labels: tuple[str, str],
        sides: Sequence[Mapping[tuple[int, Any], tuple[float, bool]]],
        scope: Scope,
    ) -> Pairs:
        broken = [cell for cell in self.cells if cell["label"] in labels and cell.get("status", "done") != "done"]
        missing = [
            cell for cell in broken if not any(seed == cell["seed"] for seed, _ in sides[labels.index(cell["label"])])
        ]
        seeds = sorted({seed for side in sides for seed, _ in side} | {cell["seed"] for cell in missing})
        columns = sorted({column for side in sides for (_, column), (value, _) in side.items() if value == value})
        values = np.full((2, len(seeds), len(columns)), np.nan)
        empty = np.zeros(values.shape, dtype=bool)
        for index, side in enumerate(sides):
            for s, seed in enumerate(seeds):
                for c, column in enumerate(columns):
                    if (seed, column) in side:
                        values[index, s, c], empty[index, s, c] = side[seed, column]
        if labels[1] == PUBLISHED:
            values[1] = np.nanmax(values[1])  # the number stands whatever is missing here
        else:
            # A seed that was never run on one side is no hole: it was not asked for.
            asked = [{seed for seed, _ in side} | {cell["seed"] for cell in missing} for side in sides]
            keep = [seed in asked[0] and seed in asked[1] for seed in seeds]
            seeds = [seed for seed, kept in zip(seeds, keep, strict=True) if kept]
            values, empty = values[:, keep], empty[:, keep]
        if np.isnan(values[0] - values[1]).all():
            raise MissingDataError(f"no seed of {labels[0]} and {labels[1]} has {metric} on both sides")
        # An empty prediction overlaps with nothing, a DSC of 0, and its Betti numbers are 0. A distance from it does
        # not exist, nor does the share of its voxels that are right.
        found = find(metric)
        undefined = empty & (found is not None and found.metric.empty_is_undefined)
        return Pairs(
            metric,
            labels,
            SUBJECT if scope == "trained models" else SEED,
            tuple(seeds),
            tuple(columns),
            values,
            undefined,
            int(empty.sum()),
            tuple(cell["id"] for cell in missing),
        )

    def _cost_pairs(self, metric: str, left: str, right: str) -> Pairs:
        entries: list[MetricValue] = []
        for label in (left, right):
            of_label = (cell["metrics"] for cell in self.cells if cell["label"] == label)
            entry = next((metrics[metric] for metrics in of_label if metric in metrics), None)
            if entry is None:
                raise MissingDataError(f"no {metric} of {label}")
            if entry.get("emulated"):
                raise MissingDataError(f"{label} runs in an emulated precision here: its speed says nothing")
            if reason := entry.get("busy"):
                raise MissingDataError(f"the machine was busy while {label} was timed ({reason})")
            entries.append(entry)
        if "rounds" not in entries[0]:  # such as tensor bytes, the same at every repeat
            values, unit = np.array([[[entry["value"]]] for entry in entries], dtype=np.float64), COUNT
        else:
            values, unit = np.array([[entry["rounds"]] for entry in entries], dtype=np.float64), ROUND
        columns = tuple(range(values.shape[2]))
        return Pairs(metric, (left, right), unit, (0,), columns, values, np.zeros(values.shape, dtype=bool))


def _value(cell: CellResult, metric: str) -> float | None:
    entry = cell["metrics"].get(metric)
    return entry["value"] if entry else None


def _known(side: Mapping[Any, tuple[float, bool]]) -> bool:
    return any(value == value for value, _ in side.values())
