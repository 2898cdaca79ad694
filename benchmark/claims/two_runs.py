"""Two runs side by side: what is another option, machine, kernel or result, and what got worse. Pure.

A difference is tested where both runs have the same test subjects and seeds on the same data: by subjects (sign-flip)
below five shared seeds, by seeds and subjects from five on; a metric without subjects by seeds alone. Tests are those
of claims. A judged value that is worse by more than the tolerance is a regression, unless a test was made and sees no
more than chance. Its p is not corrected for the number of metrics: beyond the tolerance, a miss is the dearer mistake.
Costs are no regression where their intervals over rounds overlap, or where machines differ.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from benchmark.claims.evidence import SEED, SUBJECT, Pairs, effect_of, obstacle_of, within_range
from benchmark.claims.run_changes import Change, changes_of
from benchmark.claims.run_notes import LEVEL, notes_of
from benchmark.claims.statistics import LEAST_SEEDS, holm
from benchmark.metrics.registry import Named, every
from benchmark.results.earlier import EarlierCell, EarlierResults, EarlierValue

__all__ = ["JUDGED", "Difference", "RunComparison", "Tolerance", "VerdictChange", "compare_runs"]

# What is judged; of others a tolerance has to be asked for, or chance alone would find regressions among sixty metrics.
JUDGED = (
    *("dsc/all", "dsc/intracranial", "bavd_voxel/all", "bavd_voxel/intracranial", "fid", "prd_auc"),
    *("step_time_ms", "peak_memory_mib"),
)
State = Literal["same", "better", "worse", "regression", "lost", "new", "changed"]
NAMED = 3  # lost values of a label, the others are counted
ROUNDING = 1e-9  # of a value, or of 1: the last digits of sums in another order are no change
# Stages that are about a machine, whose keys say nothing of results.
OF_MACHINE = ("measure", "verify")


@dataclass(frozen=True)
class Tolerance:
    """How much worse a value may be: a share of the first run's, or an amount of its own for some metrics."""

    share: float = 0.05
    # Of one code on one busy machine, two runs differed by 24 to 30 %; on a quiet one, less may be asked for.
    shares: Mapping[str, float] = field(default_factory=lambda: {"step_time_ms": 0.5})
    amounts: Mapping[str, float] = field(default_factory=dict)

    def judges(self, metric: str) -> bool:
        """Whether a value of this metric may be a regression."""
        return metric in JUDGED or metric in self.shares or metric in self.amounts

    def of(self, metric: str, value: float) -> float:
        """In the unit of the metric."""
        return self.amounts.get(metric, self.shares.get(metric, self.share) * abs(value))


@dataclass(frozen=True)
class Difference:
    """A metric of an arm, by its label: means over the seeds that both have, and second minus first."""

    label: str
    metric: str
    first: float | None
    second: float | None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    unit: str = SEED
    test: str | None = None
    p: float | None = None
    p_holm: float | None = None
    tolerance: float | None = None
    state: State = "same"
    note: str | None = None


@dataclass(frozen=True)
class VerdictChange:
    """A claim that both runs judge, and not alike."""

    claim: str
    first: str
    second: str
    broken: bool  # it must hold, and is refuted now


@dataclass(frozen=True)
class RunComparison:
    """Everything; `not_repeated` are cells whose stages are all the same and whose results are not."""

    changes: Sequence[Change]
    differences: Sequence[Difference]
    verdicts: Sequence[VerdictChange]
    only_first: Sequence[str]
    only_second: Sequence[str]
    failed: Sequence[str]  # cells that were done
    not_repeated: Sequence[str]
    same_stages: int
    stages: int
    notes: Sequence[str]

    @property
    def regressions(self) -> list[str]:
        """In one sentence each."""
        lines = [f"{cell}: was done, and is not" for cell in self.failed]
        lost: dict[str, list[str]] = {}
        for each in self.differences:
            if each.state == "regression":
                change = f"{each.first:.4g} -> {each.second:.4g}, more than {each.tolerance:.2g} worse"
                lines.append(f"{each.label}: {each.metric} {change}")
            elif each.state == "lost" and each.first is not None:
                lost.setdefault(each.label, []).append(f"{each.metric} was {each.first:.4g}")
        for label, values in lost.items():
            more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
            lines.append(f"{label}: {', '.join(values[:NAMED])}{more}, and there is no value now")
        lines += [f"{each.claim}: must hold, and is refuted" for each in self.verdicts if each.broken]
        return lines


def compare_runs(first: EarlierResults, second: EarlierResults, tolerance: Tolerance) -> RunComparison:
    """What differs from the first run to the second."""
    both = (first, second)
    cells = [{(cell["label"], cell["seed"]): cell for cell in side["cells"]} for side in both]
    shared = [key for key in cells[0] if key in cells[1]]
    pairs = [(cells[0][key], cells[1][key]) for key in shared]
    changes = list(changes_of(first, second, pairs))
    data_differ = [change.name for change in changes if change.group == "data"]
    other_data = f"the data differ ({', '.join(data_differ)})" if data_differ else None
    other_machine = any(change.name.startswith(("machine", "device")) for change in changes)
    differences = _with_holm(list(_differences(both, pairs, tolerance, other_data, other_machine=other_machine)))
    tested = sum(each.p is not None for each in differences)
    known = [(one.get("stages", {}), two.get("stages", {})) for one, two in pairs]
    keys = [(of_one.get(role), key) for of_one, of_two in known if of_one for role, key in of_two.items()]
    return RunComparison(
        changes,
        differences,
        list(_verdicts(first, second)),
        [cells[0][key]["id"] for key in cells[0] if key not in cells[1]],
        [cells[1][key]["id"] for key in cells[1] if key not in cells[0]],
        [two["id"] for one, two in pairs if one["status"] == "done" and two["status"] != "done"],
        [one["id"] for one, two in pairs if _is_not_repeated(one, two)],
        len({one for one, two in keys if one == two}),
        len({two for _, two in keys}),
        notes_of(both, changes, other_data, other_machine=other_machine, tested=tested),
    )


def _is_not_repeated(one: EarlierCell, two: EarlierCell) -> bool:
    """All stages are the same, and a number is not."""
    keys = [
        {role: key for role, key in cell.get("stages", {}).items() if not role.startswith(OF_MACHINE)}
        for cell in (one, two)
    ]
    if not keys[0] or keys[0] != keys[1]:
        return False
    known = every()
    return any(
        one["metrics"][name]["value"] != two["metrics"][name]["value"]
        for name in one["metrics"].keys() & two["metrics"].keys()
        if name in known and known[name].kind != "cost"
    )


def _verdicts(first: EarlierResults, second: EarlierResults) -> Iterator[VerdictChange]:
    before = {claim["name"]: claim["verdict"] for claim in first["claims"]}
    for claim in second["claims"]:
        verdict = claim["verdict"]
        if claim["name"] in before and before[claim["name"]] != verdict:
            broken = bool(claim.get("must_hold")) and verdict == "refuted"
            yield VerdictChange(claim["name"], before[claim["name"]], verdict, broken)


def _differences(
    both: tuple[EarlierResults, EarlierResults],
    pairs: Sequence[tuple[EarlierCell, EarlierCell]],
    tolerance: Tolerance,
    other_data: str | None,
    *,
    other_machine: bool,
) -> Iterator[Difference]:
    rows = [_by_subject(side) for side in both]
    known = every()
    for label in dict.fromkeys(one["label"] for one, _ in pairs):
        of_label = [(one, two) for one, two in pairs if one["label"] == label]
        there = {name for one, two in of_label for cell in (one, two) for name in cell["metrics"]}
        for name, named in known.items():
            if name not in there:
                continue
            found = _means(label, named, of_label)
            if found.first is None or found.second is None:
                yield found
                continue
            if named.kind == "cost":
                yield _judged_cost(found, named, of_label, tolerance, other_machine=other_machine)
            elif other_data:
                yield _stated(found, named, tolerance, note=other_data, may_regress=False)
            elif unlike := _unlike(name, of_label):
                yield _stated(found, named, tolerance, note=unlike, may_regress=False)
            else:
                yield _tested(found, named, _pairs_of(label, named, of_label, rows), tolerance)


def _by_subject(side: EarlierResults) -> dict[tuple[str, str], dict[str, float]]:
    """(cell, metric) -> test subject -> value."""
    persons = (side.get("prepared") or {}).get("persons", {})
    scans: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in side["subjects"]:
        if row.get("split", "test") == "test" and row["value"] is not None:
            of_cell = scans.setdefault((row["cell"], row["metric"]), {})
            of_cell.setdefault(persons.get(row["subject"], row["subject"]), []).append(row["value"])
    return {
        place: {person: float(np.mean(values)) for person, values in of_cell.items()}
        for place, of_cell in scans.items()
    }


def _means(label: str, named: Named, cells: Sequence[tuple[EarlierCell, EarlierCell]]) -> Difference:
    """Over the seeds that have a value on both sides; where none has, over what there is."""
    values = [tuple(_value(cell, named.name) for cell in pair) for pair in cells]
    whole = [(one, two) for one, two in values if one is not None and two is not None]
    if whole:
        first, second = (float(np.mean(side)) for side in zip(*whole, strict=True))
        return Difference(label, named.name, first, second, second - first, n=len(whole))
    sides = [[value for value in side if value is not None] for side in zip(*values, strict=True)]
    means = [float(np.mean(side)) if side else None for side in sides]
    state: State = "lost" if means[0] is not None else "new" if means[1] is not None else "same"
    return Difference(label, named.name, means[0], means[1], n=0, state=state)


def _value(cell: EarlierCell, name: str) -> float | None:
    entry = cell["metrics"].get(name)
    return None if entry is None else entry["value"]


def _unlike(name: str, cells: Iterable[tuple[EarlierCell, EarlierCell]]) -> str | None:
    """Why values of a metric are not of one kind; None where they are."""
    for fact in ("extractor", "reference"):
        for pair in cells:
            entries = (cell["metrics"].get(name) for cell in pair)
            first, second = (None if entry is None else entry.get(fact) for entry in entries)
            if first != second:
                return f"the {fact} differs: {first} and {second}"
    return None


def _pairs_of(
    label: str,
    named: Named,
    cells: Sequence[tuple[EarlierCell, EarlierCell]],
    rows: Sequence[Mapping[tuple[str, str], Mapping[str, float]]],
) -> Pairs:
    """The second run's values and the first one's, of one arm: by seed, and by subject where it has any."""
    tables: list[list[Mapping[Any, float]]] = [[], []]
    for pair in cells:
        for side, cell in enumerate(pair):
            value = _value(cell, named.name)
            single: dict[Any, float] = {} if value is None else {None: value}
            tables[side].append(rows[side].get((cell["id"], named.name), {}) if named.kind == "subject" else single)
    columns = sorted({c for side in tables for table in side for c in table}, key=str)
    values = np.array([[[table.get(c, np.nan) for c in columns] for table in side] for side in reversed(tables)])
    seeds = tuple(one["seed"] for one, _ in cells)
    unit = SUBJECT if named.kind == "subject" and len(seeds) < LEAST_SEEDS else SEED
    return Pairs(named.name, (label, label), unit, seeds, tuple(columns), values, np.zeros(values.shape, dtype=bool))


def _tested(found: Difference, named: Named, pairs: Pairs, tolerance: Tolerance) -> Difference:
    """With a paired test where there is enough to make one."""
    differences = pairs.differences
    if not differences.size or not np.any(differences[~np.isnan(differences)]):
        return _stated(found, named, tolerance)
    effect, seeds, columns = effect_of(pairs)
    obstacle = obstacle_of(pairs, seeds, columns)
    if effect is None or obstacle:
        return _stated(found, named, tolerance, note=f"no test: {obstacle or 'one pair'}")
    low, high = within_range(effect.interval(), pairs)
    p = min(1.0, 2 * float(min(effect.p_above(0.0), effect.p_below(0.0))))
    n = columns if pairs.unit == SUBJECT else seeds
    stated = _stated(found, named, tolerance, may_regress=p < LEVEL)
    return replace(stated, ci_low=low, ci_high=high, n=n, unit=pairs.unit, test=effect.test, p=p)


def _judged_cost(
    found: Difference,
    named: Named,
    cells: Sequence[tuple[EarlierCell, EarlierCell]],
    tolerance: Tolerance,
    *,
    other_machine: bool,
) -> Difference:
    """Of another run no round is the partner of one of this: intervals over rounds stand in for a test."""
    entries = [(one["metrics"].get(named.name), two["metrics"].get(named.name)) for one, two in cells]
    if other_machine:
        return _stated(found, named, tolerance, note="another machine", may_regress=False)
    if busy := next((each["busy"] for pair in entries for each in pair if each and each.get("busy")), None):
        return _stated(found, named, tolerance, note=busy, may_regress=False)
    if any(one and two and _overlap(one, two) for one, two in entries):
        return _stated(found, named, tolerance, note="intervals over rounds overlap", may_regress=False)
    return _stated(found, named, tolerance)


def _overlap(one: EarlierValue, two: EarlierValue) -> bool:
    ends = [(entry.get("ci_low"), entry.get("ci_high")) for entry in (one, two)]
    (low, high), (other_low, other_high) = ends
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high


def _stated(
    found: Difference, named: Named, tolerance: Tolerance, *, note: str | None = None, may_regress: bool = True
) -> Difference:
    assert found.first is not None
    assert found.difference is not None
    allowed, difference = tolerance.of(named.name, found.first), found.difference
    state: State = "same"
    if abs(difference) <= ROUNDING * max(1.0, abs(found.first)):
        return replace(found, tolerance=allowed, note=note)
    if named.metric.better is None:
        state = "changed"
    else:
        is_worse = (difference > 0) == (named.metric.better == "lower")
        beyond = abs(difference) > allowed
        state = (
            "better"
            if not is_worse
            else "regression"
            if beyond and may_regress and tolerance.judges(named.name)
            else "worse"
        )
    return replace(found, tolerance=allowed, state=state, note=note)


def _with_holm(differences: Sequence[Difference]) -> list[Difference]:
    tested = [p for each in differences if (p := each.p) is not None]
    corrected = iter(holm(tested).tolist()) if tested else iter(())
    return [each if each.p is None else replace(each, p_holm=next(corrected)) for each in differences]
