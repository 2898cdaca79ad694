"""Checkpoint files that are either whole or not there."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vesselgan.errors import InputError
from vesselgan.files import atomic_path

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, so that a crash at any moment leaves old or new.

    The temporary file stands beside the target, since a rename is atomic only within one file system, and its name is
    fixed, so that killed processes leave no heap of them; one process at a time may write to a path.
    """
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold (``weights_only``).

    Raises InputError for a file that is missing, damaged or more than tensors and plain values.
    """
    if path.exists() and not zipfile.is_zipfile(path):
        # Also a bare pickle, which torch.load would look into.
        raise InputError(f"{path}: not a readable checkpoint (no zip archive); delete it to start again")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: not a readable checkpoint ({reason}); delete it to start again") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not the state of a training")
    return state
