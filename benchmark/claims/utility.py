"""How many real subjects is a synthetic set worth? Where the curve over real subjects reaches its DSC. Pure.

The curve joins the mean DSC of U-Nets that learned from n real subjects by straight lines over log n. Where a mean
falls though subjects were added, neighbouring points are pooled until none does (isotonic regression): more real
subjects are taken not to hurt. A set is worth the fewest subjects at which the curve reaches its mean DSC.

The interval is every n whose difference from the set lies within chance (Fieller 1954, J. R. Stat. Soc. B 16:175). A
point of the curve is a weighted mean of its two neighbours, for each seed and test subject by itself; so its difference
from the set has one value per seed and subject, and the analysis of the claims applies to it (`Crossed`: seeds and
subjects both drawn anew). That needs no resampling, which with three seeds would be too narrow, and the interval is
open where the data are: a set that cannot be told from the best point of the curve has no upper limit.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.claims.statistics import Crossed, Effect, Student
from benchmark.metrics.segmentation import DSC_METRICS
from benchmark.protocol.cells import BASELINE_RECIPE
from benchmark.results.format import CellResult
from benchmark.results.judgements import CurvePoint, UtilityArm, UtilityCurve, Worth
from benchmark.words import plural
from vesselgan.metrics.estimates import mean_with_interval

__all__ = ["INTERPOLATION", "utility_of", "worth_in_words", "worth_of"]

Array = NDArray[np.float64]
LEAST_POINTS = 2
STEPS = 1000  # of the curve at which the interval is looked for
INTERPOLATION = "straight lines over log n between means over seeds and test subjects; means that fall are pooled"


def utility_of(cells: Sequence[CellResult], rows: pd.DataFrame, training_subjects: int) -> list[UtilityCurve]:
    """One entry per recipe of the real data and metric that has a curve; empty where the protocol asks for none.

    `cells` are those of results.json, `rows` those of `results.rows.subject_rows`.
    """
    groups: dict[tuple[object, ...], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell["recipe_options"].get(name) for name in BASELINE_RECIPE), []).append(cell)
    entries = (_entry(group, rows, metric, training_subjects) for group in groups.values() for metric in DSC_METRICS)
    return [entry for entry in entries if entry]


def _entry(cells: Sequence[CellResult], rows: pd.DataFrame, metric: str, training_subjects: int) -> UtilityCurve | None:
    of_metric = rows[(rows["metric"] == metric) & (rows["split"] == "test")].dropna(subset="value")
    known, arms = set(of_metric["label"]), dict[str, CellResult]()
    for cell in cells:
        if cell["label"] in known:
            arms.setdefault(cell["label"], cell)
    real = {label: cell["real_subjects"] or training_subjects for label, cell in arms.items() if cell["kind"] == "real"}
    labels = sorted(real, key=lambda label: real[label])
    numbers = [real[label] for label in labels]
    if len(set(numbers)) < LEAST_POINTS or len(set(numbers)) < len(numbers):
        return None
    values = {  # label -> a row per seed, a column per test subject
        label: of_metric[of_metric["label"] == label].pivot_table(index="seed", columns="subject", values="value")
        for label in arms
    }
    curve = [_point(label, real[label], values[label]) for label in labels]
    others: list[UtilityArm] = []
    for label, cell in arms.items():
        if label not in real and cell["kind"] != "untrained":
            beside = (cell["real_subjects"] or training_subjects) if cell["mixed_with"] else 0
            paired = _paired([values[label], *(values[name] for name in labels)])
            worth = worth_of(numbers, paired[1:], paired[0])
            others.append({**_point(label, beside, values[label]), "mixed_with": cell["mixed_with"], "worth": worth})
    recipe = arms[labels[-1]]["recipe"]
    return {"metric": metric, "recipe": recipe, "interpolation": INTERPOLATION, "curve": curve, "arms": others}


def _point(label: str, real_subjects: int, values: pd.DataFrame) -> CurvePoint:
    """Mean over seeds of each seed's mean over test subjects."""
    by_seed = values.mean(axis=1)
    return {
        "label": label,
        "real_subjects": real_subjects,
        **mean_with_interval(by_seed.tolist(), "seed"),
        "by_seed": {str(seed): float(value) for seed, value in by_seed.items()},
    }


def _paired(tables: Sequence[pd.DataFrame]) -> Array:
    """(labels, seeds, subjects) of the seeds and subjects that every label has."""
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    subjects = sorted(set.intersection(*(set(table.columns[table.notna().all()]) for table in tables)))
    return np.stack([table.loc[seeds, subjects].to_numpy(dtype=np.float64) for table in tables])


def worth_of(numbers: Sequence[int], curve: Array, arm: Array) -> Worth:
    """How many real subjects reach what `arm` reaches, and the interval of that number.

    Args:
        numbers: of real subjects, ascending, at least two.
        curve: (len(numbers), seeds, subjects) DSC of the U-Nets that learned from so many.
        arm: (seeds, subjects) DSC of what is weighed.

    Returns:
        `value` (None beyond the curve, then `beyond` says on which side: "fewer" or "more" than the `smallest` or
        `largest` number), `ci_low` and `ci_high` (None where the data set no limit), `seeds`, `subjects`, and a
        `reason` where there is no interval.
    """
    seeds, subjects = arm.shape
    entry: Worth = {
        "value": None,
        "beyond": None,
        "ci_low": None,
        "ci_high": None,
        "smallest": numbers[0],
        "largest": numbers[-1],
        "seeds": seeds,
        "subjects": subjects,
        "reason": None,
    }
    if not arm.size:
        return {**entry, "reason": "no seed and test subject that all of the curve's U-Nets share with it"}
    pooled, log_n = _pooled(curve), np.log(numbers)
    means, target = pooled.mean(axis=(1, 2)), float(arm.mean())
    places = np.linspace(log_n[0], log_n[-1], STEPS + 1)
    if target < means[0]:
        entry["beyond"] = "fewer"
    elif target > means[-1]:
        entry["beyond"] = "more"
    else:
        at = _reached(log_n, means, target)
        entry["value"] = float(np.exp(at))
        places = np.sort(np.append(places, at))
    if seeds < 2:
        return {**entry, "reason": "no interval from one seed"}
    alike = _alike(log_n, pooled, arm, places)
    lowest, highest = places[alike][[0, -1]] if alike.any() else (log_n[-1], log_n[0])
    if entry["beyond"] != "fewer" and not alike[0]:
        entry["ci_low"] = float(np.exp(lowest))
    if entry["beyond"] != "more" and not alike[-1]:
        entry["ci_high"] = float(np.exp(highest))
    return entry


def _pooled(curve: Array) -> Array:
    """The curve with neighbours averaged until no mean falls (pool adjacent violators)."""
    blocks: list[tuple[Array, int]] = []
    for values in curve:
        blocks.append((values, 1))
        while len(blocks) > 1 and blocks[-2][0].mean() > blocks[-1][0].mean():
            (later, n_later), (earlier, n_earlier) = blocks.pop(), blocks.pop()
            count = n_earlier + n_later
            blocks.append(((earlier * n_earlier + later * n_later) / count, count))
    return np.stack([values for values, count in blocks for _ in range(count)])


def _reached(log_n: Array, means: Array, target: float) -> float:
    """Where the joined means first reach the target, which lies between the first and the last."""
    after = int(np.argmax(means >= target))
    if after == 0:
        return float(log_n[0])
    share = (target - means[after - 1]) / (means[after] - means[after - 1])
    return float(log_n[after - 1] + share * (log_n[after] - log_n[after - 1]))


def _alike(log_n: Array, curve: Array, arm: Array, places: Array) -> NDArray[np.bool_]:
    """At which places of the curve its difference from the arm lies within chance."""
    after = np.clip(np.searchsorted(log_n, places), 1, len(log_n) - 1)
    share = ((places - log_n[after - 1]) / (log_n[after] - log_n[after - 1]))[:, None, None]
    differences = (1 - share) * curve[after - 1] + share * curve[after] - arm
    effect: Effect = Crossed(differences) if arm.shape[1] > 1 else Student(differences[..., 0])
    low, high = effect.interval()
    # Rounding must not exclude the place where the means meet.
    return np.asarray((low <= 1e-12) & (high >= -1e-12))


def worth_in_words(arm: UtilityArm) -> str:
    """A sentence about an arm of `utility_of`."""
    worth = arm["worth"]
    pairs = f"synthetic pairs of {arm['mixed_with'] or arm['label']}"
    beside = arm["real_subjects"]
    what = f"{subjects(beside)} with the {pairs}" if arm["mixed_with"] else f"the {pairs}"
    if worth["value"] is not None:
        amount = f"about {subjects(worth['value'])}"
    elif worth["beyond"]:
        end = worth["smallest"] if worth["beyond"] == "fewer" else worth["largest"]
        amount = f"{worth['beyond']} than {subjects(end)}"
    else:
        return f"It cannot be said what {what} {'is' if beside == 1 else 'are'} worth: {worth['reason']}."
    return (
        f"{what[:1].upper()}{what[1:]} {'is' if beside == 1 else 'are'} worth {amount} ({_interval_in_words(worth)})."
    )


def subjects(count: float) -> str:
    """`1 real subject`, `4.2 real subjects`."""
    return plural(_count(count), "real subject")


def _interval_in_words(worth: Worth) -> str:
    if worth["reason"]:
        return str(worth["reason"])
    low, high = worth["ci_low"], worth["ci_high"]
    if low is not None and high is not None:
        return f"95\N{NO-BREAK SPACE}% interval {_count(low)} to {_count(high)}"
    if low is not None:
        return f"95\N{NO-BREAK SPACE}% interval: {_count(low)} or more"
    if high is not None:
        return f"95\N{NO-BREAK SPACE}% interval: {_count(high)} or fewer"
    return f"95\N{NO-BREAK SPACE}% interval: from fewer than {worth['smallest']} to more than {worth['largest']}"


def _count(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 or value == round(value) else f"{value:.1f}"
