"""MetaImage files (.mha, .mhd): the header read and checked here, the voxels by SimpleITK where installed."""

import math
import re
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.data.headers import (
    check_declared_size,
    check_is_file,
    check_shape_and_spacing,
    first_bytes,
    one_line,
    without_single_axes,
)
from vesselgan.errors import InputError
from vesselgan.files import not_the_file

__all__ = ["check_metaimage", "is_metaimage", "metaimage_files", "read_metaimage"]

_CHUNK = 2**20  # bytes
_VOXEL_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world runs to the left and to the back


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    voxel_bytes: int
    compressed: bool
    data_file: Path  # the .mha itself, or the file beside an .mhd
    data_offset: int  # where the voxels begin in it


def is_metaimage(path: Path) -> bool:
    """By its ending."""
    return path.name.lower().endswith((".mha", ".mhd"))


def metaimage_files(path: Path) -> tuple[Path, ...]:
    """The files that one image consists of: an ``.mhd`` keeps its voxels beside it.

    Raises InputError for a header that cannot be read.
    """
    data_file = _read_header(path).data_file
    return (path,) if data_file == path else (path, data_file)


def check_metaimage(path: Path) -> _Header:
    """The header. Raises InputError for one that is none, or not of a volume that can be read."""
    header = _read_header(path)
    check_shape_and_spacing(path, header.shape, header.spacing, "ElementSpacing")
    check_is_file(header.data_file)
    stored = header.data_file.stat().st_size - header.data_offset
    check_declared_size(path, header.shape, header.voxel_bytes, stored, compressed=header.compressed)
    return header


def read_metaimage(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Voxels as float32 (X, Y, Z) as they are stored, affine (4, 4) to mm in RAS, and the header's voxel size (3,).

    Raises InputError as `load_volume`, and where SimpleITK is not installed.
    """
    header = check_metaimage(path)
    if header.compressed:
        _check_stream(path, header)
    try:
        voxels, spacing, origin, direction = _by_simpleitk(path)
    except RuntimeError as error:
        reason = one_line(error).rpartition("ITK ERROR: ")[2]
        raise InputError(f"{path}: truncated or damaged ({reason}); copy or download it again") from error
    axes = voxels.ndim
    voxels = voxels.reshape(without_single_axes(voxels.shape[::-1])[::-1])
    if voxels.shape != header.shape[::-1]:
        raise InputError(f"{path}: voxels of shape {voxels.shape[::-1]}, not {header.shape}; write the file again")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction).reshape(axes, axes)[:3, :3] * np.asarray(spacing[:3])
    affine[:3, 3] = origin[:3]
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is found as inf later
        data = np.asarray(voxels.transpose(), dtype=np.float32)
    return data, _LPS_TO_RAS @ affine, np.asarray(header.spacing, dtype=np.float64)


def _by_simpleitk(path: Path) -> tuple[Any, ...]:
    try:
        sitk: Any = import_module("SimpleITK")
    except ImportError:
        raise InputError(
            f"{path}: reading MetaImage needs SimpleITK: pip install 'SimpleITK>=2.4,<3' (the extra [metaimage]), "
            "or convert it to .nii.gz"
        ) from None
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what is wrong comes as an exception
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")  # by the header that was checked, whatever else the content looks like
    reader.SetFileName(str(path))
    image = reader.Execute()
    return sitk.GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def _read_header(path: Path) -> _Header:
    """The fields that decide how much will be read. ElementDataFile ends the header, and voxels may follow it."""
    head = first_bytes(path)
    end = re.search(rb"^ElementDataFile\s*=\s*([^\r\n]+?)[ \t]*\r?(?:\n|\Z)", head, re.MULTILINE)
    if end is None:
        what = not_the_file(head) or "not a MetaImage (no ElementDataFile in its header); convert it to .nii.gz"
        raise InputError(f"{path}: {what}")
    lines = head[: end.start()].decode("latin-1").splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    kind = fields.get("ElementType", "").removeprefix("MET_")
    if kind not in _VOXEL_BYTES or fields.get("ElementNumberOfChannels", "1") != "1":
        what = f"{fields.get('ElementNumberOfChannels', '1')} x MET_{kind}"
        raise InputError(f"{path}: voxels of type {what}; needs one real number per voxel, so convert it")
    data_name = end[1].decode("latin-1")
    if data_name in ("LIST",) or "%" in data_name:
        raise InputError(f"{path}: voxels in a list of files; write them as one .mha or .nii.gz")
    try:
        shape = tuple(int(n) for n in fields["DimSize"].split())
        spacing = tuple(float(mm) for mm in fields.get("ElementSpacing", fields.get("ElementSize", "")).split())
    except (KeyError, ValueError):
        raise InputError(f"{path}: broken MetaImage header (DimSize or ElementSpacing); write the file again") from None
    if len(spacing) != len(shape) or not all(map(math.isfinite, spacing)):
        raise InputError(f"{path}: no voxel size of {len(shape)} numbers; correct ElementSpacing in the header")
    local = data_name.upper() == "LOCAL"
    compressed = fields.get("CompressedData", "False").lower() in ("true", "1")
    data_file, offset = (path, end.end()) if local else (path.parent / data_name, 0)
    shape = without_single_axes(shape)
    return _Header(shape, spacing[: len(shape)], _VOXEL_BYTES[kind], compressed, data_file, offset)


def _check_stream(path: Path, header: _Header) -> None:
    """Raise InputError for damaged compressed voxels, which ITK takes as they come."""
    left, unpacked = math.prod(header.shape) * header.voxel_bytes, zlib.decompressobj(47)  # zlib or gzip
    try:
        with header.data_file.open("rb") as file:
            file.seek(header.data_offset)
            while not unpacked.eof and left >= 0 and (packed := unpacked.unconsumed_tail or file.read(_CHUNK)):
                left -= len(unpacked.decompress(packed, _CHUNK))
        if left - len(unpacked.flush()) or not unpacked.eof:
            raise zlib.error("its length is not the one declared")
    except (OSError, zlib.error) as error:
        raise InputError(f"{path}: truncated or damaged ({one_line(error)}); copy or download it again") from error
