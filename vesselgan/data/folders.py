"""Folders of arrays from anywhere: scans of any format, npy and npz files, found by name and checked as scans are.

Sorted by name, so that equal folders give equal results whatever the file system lists first.
"""

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.headers import check_declared_size, check_memory, first_bytes, without_single_axes
from vesselgan.data.volumes import VOLUME_ENDINGS, check_same_grid, checked_finite, is_volume, load_volume
from vesselgan.errors import InputError
from vesselgan.files import not_the_file

__all__ = [
    "Labels",
    "MaskFile",
    "array_files",
    "checked_images",
    "checked_labels",
    "folders_within",
    "read_arrays",
    "read_mask",
]

_ENDINGS = (*VOLUME_ENDINGS, ".npz", ".npy.gz", ".npy")
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError),
    *(zlib.error, struct.error, zipfile.BadZipFile),
)


@dataclass(frozen=True, eq=False)
class MaskFile:
    """One mask; a file without header (npy, npz) has neither affine nor spacing."""

    path: Path
    data: NDArray[np.bool_]  # (X, Y, Z)
    affine: NDArray[np.float64] | None = None
    spacing_mm: tuple[float, float, float] | None = None

    def check_grid(self, other: "MaskFile") -> None:
        """Raises InputError where the other's voxels are not this one's; without headers only shapes can say.

        A header turns a mask to RAS, so one with and one without do not match.
        """
        if (self.affine is None) != (other.affine is None):
            has = "no NIfTI header" if other.affine is None else "a NIfTI header"
            raise InputError(
                f"{other.path}: {has}, unlike {self.path}, so their axes may differ; "
                "give both as NIfTI or both as arrays"
            )
        if self.affine is not None and other.affine is not None:
            check_same_grid(other.path, other.data.shape, other.affine, self.path, self.data.shape, self.affine)
        elif self.data.shape != other.data.shape:
            raise InputError(f"{other.path}: shape {other.data.shape}, but {self.path} has {self.data.shape}; resample")


def array_files(folder: Path, option: str) -> dict[str, Path]:
    """Name without ending -> file, of the arrays that lie in `folder` itself; other files are passed over.

    Raises InputError: no such folder, a link that leads nowhere, two files of one name.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; point to one with {option} DIR")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), None)
        if ending is None or path.name.startswith(".") or path.is_dir():
            continue
        if not path.is_file():  # a named pipe would be waited for, a link can lead to itself
            raise InputError(f"{path}: is no file (a broken link, or a device); remove it or put the file there")
        name = path.name[: -len(ending)]
        if name in found and _beside_its_mask(found[name], path):
            found[name] = path if is_volume(path) else found[name]
            continue
        if name in found:
            raise InputError(f"{path}: has the name of {found[name].name}; keep one of the two")
        found[name] = path
    return found


def folders_within(folder: Path) -> list[Path]:
    """The folders in `folder`, one level down. Raises InputError for a link that leads back into it."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    home = folder.resolve()
    for path in inside:
        if home.is_relative_to(path.resolve()):
            raise InputError(f"{path}: a link back to the folder that holds it; remove it")
    return inside


def _beside_its_mask(*files: Path) -> bool:
    """Whether one is nnU-Net's file of probabilities (`--save_probabilities`), and the other the mask made of it."""
    npz = [path for path in files if path.suffix == ".npz"]
    return len(npz) == 1 and any(map(is_volume, files)) and _array_names(npz[0]) in ({"softmax"}, {"probabilities"})


def _array_names(path: Path) -> set[str]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return set(archive.files)
    except _DAMAGED:
        return set()


def read_arrays(path: Path, names: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of an npz of these names (all of them without `names`), or an npy's one array under the name "".

    An npy is memory-mapped, unless it is packed (npy.gz). Raises InputError for a file that cannot be read or holds
    Python objects.
    """
    try:
        if path.suffix == ".npy":
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix == ".gz":
            return {"": _read_packed(path)}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            wanted = set(names) or set(archive.files)
            _check_sizes(path, archive, wanted)
            return {name: archive[name] for name in archive.files if name in wanted}
    except InputError:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        told = not_the_file(first_bytes(path)) or f"cannot be read ({reason}); write it again with numpy"
        raise InputError(f"{path}: {told}") from None


def _check_sizes(path: Path, archive: Any, wanted: set[str]) -> None:
    """Raises InputError where an array of an npz would take more than its bytes can hold, or than there is memory."""
    total = 0
    for entry in archive.zip.infolist():
        if entry.filename.removesuffix(".npy") in wanted:
            packed = entry.compress_type != zipfile.ZIP_STORED
            with archive.zip.open(entry) as file:
                shape, dtype = _declared(file)
            check_declared_size(path, shape, dtype.itemsize, entry.compress_size, compressed=packed, stack=True)
            total += math.prod(shape) * dtype.itemsize
    check_memory(path, total)


def _declared(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type by the header of an npy."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return shape, dtype


def _read_packed(path: Path) -> NDArray[Any]:
    """An npy.gz, as the paper's code writes its patches."""
    with gzip.open(path, "rb") as file:
        shape, dtype = _declared(file)
        check_declared_size(path, shape, dtype.itemsize, path.stat().st_size, compressed=True)
        file.seek(0)
        data: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return data


Labels = frozenset[int] | Literal["nonzero"]


def read_mask(path: Path, labels: Labels | None = None) -> MaskFile:
    """One mask, which may be empty: a scan's format, npy, or npz with a `label` (or only one array).

    `labels` are the values of a label map that count, or all but 0; without them the file is a mask.

    Raises InputError as `load_mask`, for what is not (X, Y, Z), and for other values than 0 and one other, or than
    whole ones in a label map.
    """
    if is_volume(path):
        volume = load_volume(path, is_label=True)
        return MaskFile(path, _marked(path, volume.data, labels), volume.affine, volume.spacing_mm)
    arrays = read_arrays(path)
    if "label" not in arrays and len(arrays) != 1:
        raise InputError(f"{path}: arrays {', '.join(sorted(arrays)) or 'none'}; give the mask the name 'label'")
    data = arrays["label"] if "label" in arrays else next(iter(arrays.values()))
    data = data.reshape(without_single_axes(data.shape))
    if data.ndim != 3:
        raise InputError(f"{path}: shape {data.shape}; needs one mask (X, Y, Z)")
    return MaskFile(path, _marked(path, data, labels))


def _marked(path: Path, data: NDArray[Any], labels: Labels | None) -> NDArray[np.bool_]:
    if labels is None:
        return checked_labels(path, data, "binarise it, or say which values are vessels (--labels 1,2)")
    if data.dtype == np.bool_:
        data = _marked_bytes(data).view(np.uint8)
    if data.dtype.kind not in "biuf" or not np.isfinite(data).all() or (data != np.round(data)).any() or data.min() < 0:
        raise InputError(f"{path}: holds other values than whole ones from 0; a label map has a number for each class")
    return np.asarray(data != 0 if labels == "nonzero" else np.isin(data, sorted(labels)))


def checked_labels(path: Path, data: NDArray[Any], remedy: str = "binarise it") -> NDArray[np.bool_]:
    """A mask of any shape as bool. Raises InputError for other values than 0 and one other."""
    if data.dtype.kind not in "biuf":
        raise InputError(f"{path}: values of type {data.dtype}; a mask holds 0 and 1")
    if data.dtype == np.bool_:
        return _marked_bytes(data)
    mask = np.asarray(data != 0)
    marked = data[mask]
    # Where every voxel is -1, it is the background of labels of -1 and 1.
    background = mask.all() and (marked[:1] < 0).any()
    if background or (marked[1:] != marked[:1]).any() or not np.isfinite(marked[:1]).all():
        values = np.unique(data)
        listed = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        raise InputError(f"{path}: values {listed}; a mask holds exactly two, 0 and one other: {remedy}")
    return mask


def _marked_bytes(data: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A view of other bytes as bool holds them as they are: whatever is not 0 is marked."""
    return np.asarray(data.view(np.uint8) != 0)


def checked_images(path: Path, data: NDArray[Any], nan: float | None = None) -> NDArray[np.float32]:
    """Intensities of any shape as float32, in which NaN becomes `nan`, if that is given.

    Raises InputError for what is no number, NaN or infinite.
    """
    if data.dtype.kind not in "iufb":
        raise InputError(f"{path}: values of type {data.dtype}; needs one real number per voxel")
    with np.errstate(over="ignore"):
        return checked_finite(path, np.asarray(data, dtype=np.float32), nan)
