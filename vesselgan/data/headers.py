"""What the headers of all image formats must hold, checked before any voxel is read."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import psutil

from vesselgan.errors import InputError
from vesselgan.files import not_the_file

__all__ = [
    "by",
    "check_declared_size",
    "check_is_file",
    "check_memory",
    "check_shape_and_spacing",
    "first_bytes",
    "one_line",
    "what_else",
    "without_single_axes",
]

_LARGEST_DEFLATE_RATIO = 1032  # 258 bytes from 2 bits; more cannot come out of a gzip stream
_MOST_VOXELS = 1024**3
_LONGEST_TEXT = 2**16  # bytes; a header of text has some dozen lines


def check_is_file(path: Path) -> None:
    """Raises InputError for what is missing, or would be waited for when opened (a named pipe)."""
    if path.is_file():
        return
    if path.exists():
        raise InputError(f"{path}: unreadable (a folder or a device, not a file); put the file in its place")
    if path.is_symlink():
        raise InputError(f"{path}: no such file (the link leads to itself or nowhere); mend the link")
    raise InputError(f"{path}: no such file; check the path")


def first_bytes(path: Path) -> bytes:
    """As many as a header of text may have. Raises InputError for what cannot be read."""
    check_is_file(path)
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_TEXT)
    except OSError as error:
        raise InputError(f"{path}: unreadable ({error.strerror}); check its type and permissions") from error


def without_single_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """A volume's shape without axes of one voxel behind the third, as of one moment or one channel."""
    kept = tuple(int(size) for size in shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    return kept


def check_shape_and_spacing(path: Path, shape: Sequence[int], spacing: Sequence[float], field: str) -> None:
    """Raises InputError for a shape that is no volume's and a voxel size that is no size; `field` holds the size."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path}: {len(shape)}-D with shape {tuple(shape)}; needs one 3-D volume, so extract it")
    sizes = np.asarray(spacing, dtype=np.float64)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise InputError(f"{path}: voxel size {by(spacing)} mm; correct {field} in the header")


def check_declared_size(
    path: Path, shape: Sequence[int], voxel_bytes: int, stored: int, *, compressed: bool, stack: bool = False
) -> None:
    """Raises InputError where the header declares more voxels than the `stored` bytes can hold, or a volume has.

    A `stack` of volumes may have as many voxels as fit memory.
    """
    declared = math.prod(shape) * voxel_bytes
    if declared > (_LARGEST_DEFLATE_RATIO if compressed else 1) * stored:
        raise InputError(
            f"{path}: header declares {declared} bytes of voxels, too many for a file of {stored} bytes; "
            "it is truncated or damaged: copy or download it again"
        )
    if math.prod(shape) > _MOST_VOXELS and not stack:
        raise InputError(f"{path}: {math.prod(shape)} voxels, more than {_MOST_VOXELS}; crop or resample it")
    check_memory(path, declared)


def check_memory(path: Path, needed: int) -> None:
    """Raises InputError where so many bytes are not free: small files unfold to a thousand times their size."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: holds {needed / 2**30:.1f} GiB of voxels, and {free / 2**30:.1f} GiB of memory are free; part it"
        )


def by(spacing: Iterable[float]) -> str:
    """``0.5 x 0.5 x 0.7``."""
    return " x ".join(f"{length:.4g}" for length in spacing)


def what_else(head: bytes, *, packed: bool = False) -> str:
    """What a file that is no NIfTI image seems to be by its first bytes, and what helps; `packed` by its name."""
    if told := not_the_file(head):
        return told
    if head.startswith(b"\x1f\x8b"):
        return "is packed with gzip, though its name does not end in .gz; rename it to .nii.gz"
    if packed and (b"n+1\0" in head or b"n+2\0" in head[:16]):
        return "not gzip, though its name ends in .gz; rename it to .nii, or compress it"
    if packed:
        return "not gzip, though its name ends in .gz, and no NIfTI image either; copy or download it again"
    return "not a single-file NIfTI image; convert it to .nii or .nii.gz"


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
