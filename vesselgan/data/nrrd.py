"""NRRD files (.nrrd, .nhdr): header and voxels of one volume, as 3D Slicer writes them."""

import bz2
import gzip
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

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

__all__ = ["check_nrrd", "is_nrrd", "nrrd_files", "read_nrrd"]

_LARGEST_BZIP2_RATIO = 2**16
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names}
# The world of a space, as signs that turn it to RAS.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]  # without axes of one voxel behind the third
    affine: NDArray[np.float64]  # (4, 4), to mm in RAS
    dtype: np.dtype[np.generic]
    encoding: str
    data_file: Path
    data_offset: int


def is_nrrd(path: Path) -> bool:
    """By its ending."""
    return path.name.lower().endswith((".nrrd", ".nhdr"))


def nrrd_files(path: Path) -> tuple[Path, ...]:
    """The files that one image consists of. Raises InputError for a header that cannot be read."""
    data_file = _read_header(path).data_file
    return (path,) if data_file == path else (path, data_file)


def check_nrrd(path: Path) -> _Header:
    """The header. Raises InputError for one that is none, or not of a volume that can be read."""
    header = _read_header(path)
    check_shape_and_spacing(path, header.shape, np.linalg.norm(header.affine[:3, :3], axis=0), "space directions")
    check_is_file(header.data_file)
    stored = header.data_file.stat().st_size - header.data_offset
    if header.encoding == "bzip2":
        stored *= _LARGEST_BZIP2_RATIO
    check_declared_size(path, header.shape, header.dtype.itemsize, stored, compressed=header.encoding == "gzip")
    return header


def read_nrrd(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Voxels as float32 (X, Y, Z) as they are stored, affine (4, 4) to mm in RAS, and the header's voxel size (3,).

    Raises InputError as `load_volume`.
    """
    header = check_nrrd(path)
    wanted = math.prod(header.shape) * header.dtype.itemsize
    try:
        with header.data_file.open("rb") as file:
            file.seek(header.data_offset)
            packed = file.read()
        if header.encoding == "gzip":
            content = zlib.decompressobj(47).decompress(packed, wanted + 1)
        else:
            content = bz2.BZ2Decompressor().decompress(packed, wanted + 1) if header.encoding == "bzip2" else packed
        if len(content) != wanted:
            raise EOFError(f"{len(content)} bytes of voxels, not {wanted}")
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: truncated or damaged ({one_line(error)}); copy or download it again") from error
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is found as inf later
        data = np.frombuffer(content, header.dtype).reshape(header.shape, order="F").astype(np.float32)
    return data, header.affine, np.linalg.norm(header.affine[:3, :3], axis=0)


def _read_header(path: Path) -> _Header:
    head = first_bytes(path)
    if not head.startswith(b"NRRD000"):
        raise InputError(f"{path}: {not_the_file(head) or 'not an NRRD file; convert it to .nii.gz'}")
    end = re.search(rb"\r?\n\r?\n", head)
    lines = head[: end.start() if end else len(head)].decode("latin-1").splitlines()[1:]
    fields = {
        name.strip().lower(): value.strip()
        for name, mark, value in (line.partition(":") for line in lines if not line.startswith("#"))
        if mark and not value.startswith("=")
    }
    try:
        return _parsed(path, fields, end.end() if end else len(head))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: broken NRRD header ({one_line(error)}); write the file again") from None


def _parsed(path: Path, fields: dict[str, str], end: int) -> _Header:
    code = _DTYPES.get(fields["type"].lower())
    encoding = _ENCODINGS.get(fields["encoding"].lower())
    if code is None or encoding is None:
        what = f"type {fields['type']}, encoding {fields['encoding']}"
        raise InputError(f"{path}: {what}; needs one real number per voxel, raw or packed with gzip: convert it")
    sizes = tuple(int(size) for size in fields["sizes"].split())
    given = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    if len(given) != len(sizes):
        raise InputError(f"{path}: says not how its axes lie (space directions); write it with a space")
    if "none" in given and not all(size == 1 for size, way in zip(sizes, given, strict=True) if way == "none"):
        raise InputError(f"{path}: shape {sizes} with several channels; needs one 3-D volume, so extract it")
    columns = [_vector(way) for way in given if way != "none"]
    shape = tuple(size for size, way in zip(sizes, given, strict=True) if way != "none")
    space = _SPACES.get(fields.get("space", "").lower())
    if space is None or len(columns) < 3 or any(len(column) != 3 for column in columns):
        raise InputError(f"{path}: space {fields.get('space', 'none')!r} is no RAS, LAS or LPS; write it in one")
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns[:3]).T
    affine[:3, 3] = _vector(fields.get("space origin", "(0,0,0)"))
    affine[:3] *= np.array(space)[:, None]
    big = fields.get("endian", "little").lower() == "big"
    dtype: np.dtype[np.generic] = np.dtype((">" if big else "<") + code)
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (name.upper().startswith("LIST") or "%" in name):
        raise InputError(f"{path}: voxels in a list of files; write them as one .nrrd or .nii.gz")
    if int(fields.get("byte skip", fields.get("byteskip", "0"))) or int(fields.get("line skip", "0")):
        raise InputError(f"{path}: voxels behind a header of their own (byte skip); write them as one .nrrd or .nii.gz")
    data_file, offset = (path, end) if name is None else (path.parent / name, 0)
    return _Header(without_single_axes(shape), affine, dtype, encoding, data_file, offset)


def _vector(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.strip("()").split(","))
