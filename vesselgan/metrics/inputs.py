"""What the metrics accept: every check of an argument, and its one-line message."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "as_array",
    "check_count",
    "check_level",
    "check_policy",
    "check_same_width",
    "checked_feature_pair",
    "checked_features",
    "checked_groups",
    "checked_mask",
    "checked_masks",
    "checked_numbers",
    "checked_spacing",
    "checked_volumes",
]

Mask: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Parts: TypeAlias = NDArray[np.intp]
EmptyPolicy: TypeAlias = Literal["raise", "nan", "inf", "diagonal"]


def checked_masks(truth: ArrayLike, prediction: ArrayLike) -> tuple[Mask, Mask]:
    """Two boolean masks of one shape."""
    truth_mask, prediction_mask = checked_mask("truth", truth), checked_mask("prediction", prediction)
    if truth_mask.shape != prediction_mask.shape:
        raise ValueError(f"prediction has shape {prediction_mask.shape}, but truth has shape {truth_mask.shape}")
    return truth_mask, prediction_mask


def checked_volumes(truth: ArrayLike, prediction: ArrayLike) -> tuple[Mask, Mask]:
    """Two boolean (X, Y, Z) masks of one shape."""
    truth_mask, prediction_mask = checked_masks(truth, prediction)
    if truth_mask.ndim != 3:
        raise ValueError(f"truth and prediction must be (X, Y, Z) volumes, but have shape {truth_mask.shape}")
    return truth_mask, prediction_mask


def checked_spacing(spacing_mm: Sequence[float] | Floats | None) -> Floats:
    """(3,) voxel edge lengths, all 1 where no spacing is given: distances are then in voxels."""
    if spacing_mm is None:
        return np.ones(3)
    spacing = checked_numbers("spacing_mm", spacing_mm).astype(np.float64)
    if spacing.shape != (3,):
        raise ValueError(f"spacing_mm must hold three lengths (x, y, z), but has shape {spacing.shape}")
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"spacing_mm must be positive and finite, but is {spacing.tolist()}")
    return spacing


def check_policy(empty: str) -> None:
    """Refuse an unknown policy at once, not only when the first empty mask comes by."""
    if empty not in get_args(EmptyPolicy):
        raise ValueError(f"empty must be one of {', '.join(get_args(EmptyPolicy))}, but is {empty!r}")


def checked_features(name: str, features: ArrayLike) -> Floats:
    """(N, d) finite float64 rows, N >= 2."""
    rows = checked_numbers(name, features).astype(np.float64, copy=False)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise ValueError(f"{name} must be (N, d) with N >= 2 rows of features, but has shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds NaN or infinite features")
    return rows


def checked_feature_pair(real: ArrayLike, generated: ArrayLike) -> tuple[Floats, Floats]:
    """Two feature matrices of the same width."""
    real_rows, generated_rows = checked_features("real", real), checked_features("generated", generated)
    check_same_width(real_rows.shape[1], generated_rows.shape[1])
    return real_rows, generated_rows


def as_array(values: ArrayLike) -> NDArray[Any]:
    """An array of array-likes and of torch tensors, wherever they lie and whether or not they need gradients.

    Torch is not imported for it: a tensor is what has `detach` and `cpu`.
    """
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        tensor = values.detach().cpu()
        # numpy has no bfloat16.
        values = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    array: NDArray[Any] = np.asarray(values)
    return array


def checked_groups(name: str, groups: ArrayLike | None, count: int) -> Parts:
    """(count,) number of the group, such as the subject, of each row; without groups each row is its own."""
    if groups is None:
        return np.arange(count)
    array = as_array(groups)
    if array.shape != (count,):
        raise ValueError(f"{name} must name one group for each of the {count} rows, but has shape {array.shape}")
    _, numbers = np.unique(array, return_inverse=True)
    members: Parts = numbers.astype(np.intp)
    return members


def checked_numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """An array of booleans or real numbers, of whatever shape."""
    array = as_array(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, but has dtype {array.dtype}")
    return array


def check_same_width(real_width: int, generated_width: int) -> None:
    """Features of two different extractors are not comparable."""
    if real_width != generated_width:
        raise ValueError(f"generated has {generated_width} features per row, but real has {real_width}")


def check_level(level: float) -> None:
    """The level of an interval."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, but is {level}")


def check_count(name: str, value: int, *, at_least: int, at_most: int | None = None) -> None:
    """A count within its limits."""
    if value < at_least or (at_most is not None and value > at_most):
        limit = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{name} must be {limit}, but is {value}")


def checked_mask(name: str, mask: ArrayLike) -> Mask:
    """A boolean mask, from booleans or from integers that are all 0 or 1.

    Floats are refused even where they hold 0 and 1 only: a probability map must get its threshold from the caller.
    """
    array = checked_numbers(name, mask)
    if array.dtype.kind == "f":
        raise ValueError(f"{name} must be a binary mask of booleans or integers, but has dtype {array.dtype}")
    if array.dtype == np.bool_:
        # A view of other bytes as bool holds them as they are, and whoever counts or adds would count wrongly.
        values = array.view(np.uint8)
        return array if not values.size or values.max() <= 1 else values != 0
    if array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError(f"{name} must be a binary mask, but holds values other than 0 and 1")
    # One byte of 0 or 1 is what a boolean is: no copy.
    mask_values: Mask = array.view(np.bool_) if array.dtype.itemsize == 1 else array.astype(np.bool_)
    return mask_values
