"""Which patch sizes and widths the networks accept, told in one line when they do not."""

from collections.abc import Sequence

from vesselgan.errors import InputError

__all__ = ["check_filters", "check_patch_size"]

Size = tuple[int, int, int]


def check_patch_size(patch_size: Sequence[int], multiple: int = 16) -> Size:
    """The patch size (X, Y, Z) in voxels as a tuple; InputError unless each axis is a positive multiple."""
    size = tuple(int(axis) for axis in patch_size)
    if len(size) != 3:
        raise InputError(f"patch size {list(patch_size)} has {len(size)} axes; it needs three (X, Y, Z)")
    if any(axis < multiple or axis % multiple for axis in size):
        nearest = tuple(max(multiple, (2 * axis + multiple) // (2 * multiple) * multiple) for axis in size)
        raise InputError(f"patch size {size}: each axis must be a multiple of {multiple}; the nearest is {nearest}")
    return size[0], size[1], size[2]


def check_filters(filters: int) -> int:
    """The widest layer's channels; InputError unless a positive multiple of 8, since three halvings follow."""
    if filters < 8 or filters % 8:
        raise InputError(f"filters is {filters}; it must be a multiple of 8, such as {max(8, round(filters / 8) * 8)}")
    return filters
