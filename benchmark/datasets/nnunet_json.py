"""nnU-Net's `dataset.json`: which values of a label are vessels, which channel is angiography, which files count."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vesselgan.data import Layout
from vesselgan.errors import InputError

__all__ = ["as_dataset_json_says"]

_NAME = "dataset.json"
_IGNORE = "ignore"
_VESSEL = re.compile(r"(?<!non)(?<!non[-_ ])(vessel|arter|vein|venous|sinus)", re.IGNORECASE)
_ANGIOGRAPHY = re.compile(r"tof|mra|angio", re.IGNORECASE)
_FIRST_CHANNEL = "_0000."


def as_dataset_json_says(folder: Path, layout: Layout) -> Layout:
    """The layout with what a folder's `dataset.json`, of nnU-Net's version 1 or 2, says of labels and channels.

    Every class but background is vessel, where there are several; one of the value 1 is what a layout expects anyway.
    Where some of their names say vessel and others do not, such as "vessel" and "tumour", a person has to say. A
    label that holds the value of `ignore` is refused when it is read, since nothing here can leave voxels out. Of
    several channels the one that is named after angiography is the image. Files of another ending than its
    `file_ending` are passed over.

    Raises InputError for a file that is no such description, for channels of which none or several are named so, and
    for an ending that no image has or that no image should.
    """
    path = folder / _NAME
    if not path.is_file():
        return layout
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = _classes(content.get("labels") or {})
        channels = {int(number): str(name) for number, name in _channels(content).items()}
        ending = content.get("file_ending")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no description of a dataset ({error}); correct or remove it") from None
    marked = {value: name for name, value in classes if value and name.lower() != _IGNORE}
    others = {value: name for value, name in marked.items() if not _VESSEL.search(name)}
    if others and len(others) < len(marked):
        ours = ", ".join(f"{value}: {name}" for value, name in sorted(marked.items()) if value not in others)
        rest = ", ".join(f"{value}: {name}" for value, name in sorted(others.items()))
        raise InputError(
            f"{path}: are {rest} vessels as {ours} is? Say so in a layout of your own (--layout FILE.yaml) with "
            f"vessels: {{{ours}}} and background: {{0: background, {rest}}}"
        )
    vessels = tuple(sorted(marked))
    if vessels and vessels != (1,):
        layout = replace(layout, vessels=vessels, background=(0,))
    channel = _angiography(path, channels) if _FIRST_CHANNEL in layout.images[0] else 0
    if channel:
        images = tuple(pattern.replace(_FIRST_CHANNEL, f"_{channel:04d}.") for pattern in layout.images)
        layout = replace(layout, images=images)
    return layout if ending is None else _of_ending(path, layout, ending)


def _of_ending(path: Path, layout: Layout, ending: object) -> Layout:
    kept = [
        tuple(pattern for pattern in patterns if _ending(pattern) == ending)
        for patterns in (layout.images, layout.labels, layout.masks)
    ]
    if not isinstance(ending, str) or not kept[0]:
        known = ", ".join(dict.fromkeys(map(_ending, layout.images)))
        raise InputError(f"{path}: file_ending {ending!r}: is read in none of these files ({known}); convert them")
    if not any(file.name.endswith(ending) for file in path.parent.glob("images*/*")):
        raise InputError(f"{path}: file_ending {ending}, but no file of the images has it; correct it, or the files")
    return replace(layout, images=kept[0], labels=kept[1] or layout.labels, masks=kept[2] or layout.masks)


def _ending(pattern: str) -> str:
    return re.sub(r".*?((\.nii)?\.[A-Za-z]+)$", r"\1", pattern)


def _classes(labels: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and value; version 1 has the value first, version 2 the name, and a list for regions."""
    if labels and all(key.isdigit() for key in labels):
        return [(str(name), int(value)) for value, name in labels.items()]
    found: list[tuple[str, int]] = []
    for name, values in labels.items():
        found += [(name, int(value)) for value in (values if isinstance(values, list) else [values])]
    return list({value: (name, value) for name, value in reversed(found)}.values())


def _channels(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return content.get("channel_names") or content.get("modality") or {}


def _angiography(path: Path, channels: Mapping[int, str]) -> int:
    named = [number for number, name in channels.items() if _ANGIOGRAPHY.search(name)]
    if len(channels) > 1 and len(named) != 1:
        listed = ", ".join(f"{number}: {name}" for number, name in sorted(channels.items()))
        raise InputError(
            f"{path}: channels {listed}; name one of them TOF, so that it is known which is the angiography"
        )
    return named[0] if len(channels) > 1 else 0
