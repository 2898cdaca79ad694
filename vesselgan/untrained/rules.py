"""Two rules without learning, each fitted on the training subjects: what a trained network has to beat.

* `threshold`: a voxel is vessel where it is at least as bright as one number, the same for all subjects.
* `vesselness`: the same on the response of a multi-scale line filter (Sato et al. 1998); its scales are chosen too.

What is chosen, and for what. The number (and the scales) with the highest mean DSC over the training subjects, in the
region that is scored: once among all voxels, once inside the brain masks. So each region has a rule of its own, and a
row of a table takes from each its own region's scores. One rule for both would be weaker in at least one of them (fat
and scalp are bright, and outside the brain mask), and a gain over a weak baseline is no gain. It needs no more than is
known when a scan is segmented: which region is asked about. Nothing of a validation or test subject has a part in it.

A rule acts on volumes scaled to [-1, 1] by `vesselgan.data.robust_range`, whatever a network's recipe says.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vesselgan.errors import InputError
from vesselgan.untrained.sato import responses_by_slab

__all__ = ["METHODS", "LabelledVolume", "Method", "UntrainedRule", "fit", "segment"]

Method = Literal["threshold", "vesselness"]
METHODS: tuple[Method, ...] = get_args(Method)
WHOLE = "all"

# Thresholds gone through: multiples of 2^-15 in [-1, 1]. Scanners give 4096 levels or fewer, so on their volumes these
# part whatever can be parted; and a voxel's place among them is exact, since powers of two round nothing.
_STEPS = 2**15
_VOXELS_AT_ONCE = 2**20

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A training subject: the image (X, Y, Z) in [-1, 1], its vessels, and the regions that are scored beside `all`."""

    key: str
    image: Floats
    truth: Mask
    spacing_mm: tuple[float, float, float]
    regions: Mapping[str, Mask]  # such as {"intracranial": brain mask}; empty where there is no mask


@dataclass(frozen=True, slots=True)
class UntrainedRule:
    """A fitted rule for one region."""

    method: Method
    region: str
    threshold: float  # vessel is what is at least this: an intensity in [-1, 1], or a response
    scales_mm: tuple[float, ...]  # of the line filter; empty for the method `threshold`
    training_dsc: float  # mean over the training subjects, in the region
    training_subjects: int  # that have vessels in the region

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"scales_mm": list(self.scales_mm)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UntrainedRule":
        """What `to_dict` gave.

        Raises:
            InputError: keys missing or unknown, or a method that is none.
        """
        if set(values) != set(cls.__slots__) or values["method"] not in METHODS:
            raise InputError(f"untrained rule {dict(values)}: needs {', '.join(cls.__slots__)}; fit it again")
        return cls(**{**values, "scales_mm": tuple(values["scales_mm"])})


def fit(
    method: Method, subjects: Iterable[LabelledVolume], *, scales_mm: Sequence[float] = ()
) -> dict[str, UntrainedRule]:
    """Region -> the rule with the highest mean DSC over the subjects; `all`, and each region that a subject has.

    One subject is in memory at a time, and of it slabs. All multiples of 2^-15 are gone through as thresholds, by
    counting and not by trying; of equally good neighbours the middle one is taken. For `vesselness` so is every run of
    neighbouring scales. A subject without vessels in a region has no part in that region's choice: no threshold is
    right for it.

    Args:
        method: `threshold` or `vesselness`.
        subjects: the training subjects.
        scales_mm: candidate scales of the line filter in rising order, e.g. `default_scales_mm`; none for `threshold`.

    Raises:
        InputError: no subject, or none with vessels; two of one key.
        ValueError: scales where none are used or none where they are; an image outside [-1, 1]; shapes that differ.
    """
    if (method == "vesselness") != bool(len(scales_mm)) or list(scales_mm) != sorted(set(scales_mm)):
        raise ValueError(f"scales_mm {tuple(scales_mm)}: vesselness needs rising candidates, threshold takes none")
    runs = [(first, last) for first, last in combinations(range(len(scales_mm) + 1), 2)] or [(0, 1)]
    sums: dict[str, NDArray[np.float64]] = {}  # region -> sum over subjects of the DSC, of each run at each threshold
    counts: dict[str, int] = {}
    seen: set[str] = set()
    for subject in subjects:
        if subject.key in seen:
            raise InputError(f"subject {subject.key!r} comes twice among the training subjects; give each one key")
        seen.add(subject.key)
        for region, (found, predicted) in _counted(method, subject, scales_mm, runs).items():
            vessels = found[0, 0]  # at the lowest threshold everything is found
            if vessels:
                total = sums.setdefault(region, np.zeros((len(runs), 2 * _STEPS + 1)))
                total += 2 * found / (predicted + vessels)
                counts[region] = counts.get(region, 0) + 1
    if WHOLE not in sums:
        what = "have no vessels in their labels" if seen else "are none"
        raise InputError(f"{method}: the training subjects {what}; a threshold needs labelled vessels to be chosen by")
    return {
        region: _best(method, region, total / counts[region], counts[region], scales_mm, runs)
        for region, total in sums.items()
    }


def segment(rule: UntrainedRule, image: Floats, *, spacing_mm: Sequence[float]) -> Mask:
    """Vessels (X, Y, Z) of an image in [-1, 1], by the rule. Score it in the rule's own region.

    Raises:
        ValueError: an image outside [-1, 1], or not of three axes.
    """
    _check(image)
    vessels = np.empty(image.shape, np.bool_)
    for slab, values in _values(rule.method, image, spacing_mm, rule.scales_mm):
        vessels[slab] = values.max(axis=0) >= np.float32(rule.threshold)
    return vessels


def _values(
    method: Method, image: Floats, spacing_mm: Sequence[float], scales_mm: Sequence[float]
) -> Iterator[tuple[slice, Floats]]:
    """What is compared with thresholds, slab after slab along x (scales, x, Y, Z); one scale for plain intensities."""
    if method == "vesselness":
        yield from responses_by_slab(image, spacing_mm=spacing_mm, scales_mm=scales_mm)
        return
    thickness = max(1, _VOXELS_AT_ONCE // max(1, image.shape[1] * image.shape[2]))
    for first in range(0, len(image), thickness):
        slab = slice(first, min(first + thickness, len(image)))
        yield slab, image[None, slab]


def _counted(
    method: Method, subject: LabelledVolume, scales_mm: Sequence[float], runs: Sequence[tuple[int, int]]
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Region -> (true vessels found, voxels predicted), each (runs, thresholds), thresholds rising."""
    _check(subject.image)
    regions: dict[str, Mask | None] = {**subject.regions, WHOLE: None}
    for name, given in [("truth", subject.truth), *subject.regions.items()]:
        if given.shape != subject.image.shape:
            raise ValueError(f"{subject.key}: {name} has shape {given.shape}, the image {subject.image.shape}")
    shape = len(runs), 2 * _STEPS + 1
    counted = {name: (np.zeros(shape, np.int64), np.zeros(shape, np.int64)) for name in regions}
    for slab, values in _values(method, subject.image, subject.spacing_mm, scales_mm):
        places = np.floor(values * np.float32(_STEPS)).astype(np.int32) + _STEPS
        truth = subject.truth[slab]
        for run, (first, last) in enumerate(runs):
            highest = places[first] if last == first + 1 else places[first:last].max(axis=0)
            for name, mask in regions.items():
                inside, vessels = (highest, truth) if mask is None else (highest[mask[slab]], truth & mask[slab])
                found, predicted = counted[name]
                predicted[run] += np.bincount(inside.ravel(), minlength=shape[1])
                found[run] += np.bincount(highest[vessels], minlength=shape[1])
    # At least a threshold is what lies at its place or above.
    return {name: (_from_above(found), _from_above(predicted)) for name, (found, predicted) in counted.items()}


def _from_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.ascontiguousarray(counts[:, ::-1].cumsum(axis=1)[:, ::-1])


def _best(
    method: Method,
    region: str,
    dsc: NDArray[np.float64],
    subjects: int,
    scales_mm: Sequence[float],
    runs: Sequence[tuple[int, int]],
) -> UntrainedRule:
    run, place = divmod(int(dsc.argmax()), dsc.shape[1])
    best = dsc[run, place]
    after = int(np.argmin(np.append(dsc[run, place:], -1) == best))  # places until it falls
    first, last = runs[run]
    return UntrainedRule(
        method=method,
        region=region,
        threshold=(place + after // 2 - _STEPS) / _STEPS,
        scales_mm=tuple(scales_mm[first:last]),
        training_dsc=float(best),
        training_subjects=subjects,
    )


def _check(image: Floats) -> None:
    if image.ndim != 3:
        raise ValueError(f"image must be (X, Y, Z), but has shape {image.shape}")
    low, high = (image.min(), image.max()) if image.size else (np.nan, np.nan)
    if not (low >= -1 and high <= 1):
        raise ValueError(f"image must hold values from -1 to 1 (see robust_range), but holds {low} to {high}")
