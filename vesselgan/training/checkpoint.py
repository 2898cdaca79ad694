"""Checkpoint files that are either whole or not there, and the one before, should the last be damaged."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vesselgan.errors import InputError
from vesselgan.files import atomic_path

__all__ = ["checkpoints_of", "load_checkpoint", "save_checkpoint"]


def checkpoints_of(path: Path) -> list[Path]:
    """The checkpoints that are there, the last one first: ``NAME.pt``, then ``NAME.previous.pt``."""
    return [place for place in (path, _previous(path)) if place.exists()]


def _previous(path: Path) -> Path:
    return path.with_suffix(f".previous{path.suffix}")


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, so that a crash at any moment leaves old or new.

    The one that it replaces is kept beside it, see `checkpoints_of`.

    The temporary file stands beside the target, since a rename is atomic only within one file system, and its name is
    fixed, so that killed processes leave no heap of them; one process at a time may write to a path.
    """
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # before the old one moves
        if path.exists():
            path.replace(_previous(path))


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold (``weights_only``).

    Raises InputError for a file that is missing, damaged or more than tensors and plain values.
    """
    if path.exists() and not zipfile.is_zipfile(path):
        # Also a bare pickle, which torch.load would look into.
        raise InputError(f"{path}: not a readable checkpoint (no zip archive); delete it to start again")
    try:
        _check_archive(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises many kinds for bytes that it cannot make sense of
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint ({reason}); delete it to start again") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not the state of a training")
    return state


def _check_archive(path: Path) -> None:
    """Raises ValueError where a byte has changed, which torch does not notice, or where packed data would unfold."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("packed, as no checkpoint is")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
