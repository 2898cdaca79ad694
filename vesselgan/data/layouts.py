"""How a dataset names its files, and which of the files in a folder are whose."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vesselgan.errors import InputError

__all__ = ["BIDS", "SPLITS", "FoundSubjects", "Layout", "Subject", "find_subjects", "person_of", "scan_folder"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Layout:
    """Where the images, labels and brain masks of a dataset lie, and what the labels mean.

    A pattern is a relative path in which ``{key}`` stands for the scan, ``{split}`` for a name in `splits` and ``*``
    for anything; each stays within one folder or file name. Several patterns of a kind are alternatives.
    """

    name: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    masks: tuple[str, ...] = ()  # optional brain masks
    key: str = r"[^/.][^/]*"  # what {key} may be; a leading dot marks what file managers leave behind
    subject: str | None = None  # finds the person in a key; None: each key is a person
    splits: Mapping[str, str] = field(default_factory=dict)  # {split} -> train, ...
    vessels: tuple[int, ...] | None = None  # the label's values that are vessels; None: 0 and one other value
    background: tuple[int, ...] = (0,)  # the other values of such a label map
    unlabelled: bool = False  # whether images without label belong to the dataset, and are passed over
    spacing_mm: tuple[float, float, float] | None = None  # resample to this (right, anterior, superior); None: as is
    nan: float | None = None  # what NaN voxels of an image become, as of a background that was cut out; None: refused


# Raw, with vessels in derivatives; the packaged layout of this name says more of it.
BIDS = Layout(
    "bids",
    images=tuple(f"sub-*/{ses}anat/{{key}}_angio.{end}" for ses in ("", "ses-*/") for end in ("nii.gz", "nii")),
    labels=tuple(
        f"derivatives/*/sub-*/{ses}anat/{{key}}_*-vessel*_{kind}.{end}"
        for ses in ("", "ses-*/")
        for kind in ("mask", "dseg")
        for end in ("nii.gz", "nii")
    ),
    masks=tuple(
        f"derivatives/*/sub-*/{ses}anat/{{key}}_desc-brain_mask.{end}"
        for ses in ("", "ses-*/")
        for end in ("nii.gz", "nii")
    ),
    key="sub-[A-Za-z0-9]+(?:_(?:ses|acq|ce|rec|run|echo|part)-[A-Za-z0-9]+)*",
    subject="sub-[A-Za-z0-9]+",
    unlabelled=True,
)


@dataclass(frozen=True)
class Subject:
    """The files of one scan."""

    key: str
    image: Path
    label: Path
    mask: Path | None  # of the brain
    person: str = ""  # the same for several scans of one person; empty: the key is the person
    split: str | None = None  # as the dataset gives it


@dataclass(frozen=True)
class FoundSubjects:
    """What a folder holds."""

    subjects: list[Subject]  # sorted by key
    problems: list[str]  # a line each
    unlabelled: int  # images that are passed over for want of a label
    files: int  # images and labels whose names fit
    labels: int  # of these
    matched: frozenset[Path] = frozenset()  # every file whose name fits: images, labels, masks


@dataclass(frozen=True)
class _File:
    path: Path
    split: str | None


def find_subjects(folder: Path | str, layout: Layout) -> list[Subject]:
    """The subjects in *folder*, sorted by key.

    Raises:
        InputError: a line for each problem: no such folder, no files in this layout, two files for one subject, an
            image without label, a label or mask without image, a person in two splits, an unknown split.
    """
    found = scan_folder(folder, layout)
    if found.problems:
        raise InputError("\n".join(found.problems))
    return found.subjects


def scan_folder(folder: Path | str, layout: Layout) -> FoundSubjects:
    """The subjects in *folder* and all that is wrong with its names. Raises InputError if there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: is a file; give the folder of the dataset"
            if folder.exists()
            else f"{folder}: no such data folder; give the path of a folder of labelled scans"
        )
    problems: list[str] = []
    told: set[str] = set()  # keys with two files of a kind, which one line tells
    images, labels, masks = (
        _by_key(folder, patterns, layout, problems, told) for patterns in (layout.images, layout.labels, layout.masks)
    )
    files = len(images) + len(labels)
    if not files and not problems:
        expected = f"{layout.images[0]} with {layout.labels[0]}"
        problems.append(f"{folder}: no files in the layout {layout.name} ({expected}); choose another with --layout")
    # Challenges keep the labels of their test set back: images of a split without any label are no mistake.
    expected_in = {None, "train", *(file.split for file in labels.values())}
    hidden = [key for key, file in images.items() if layout.unlabelled or file.split not in expected_in]
    hidden = [key for key in hidden if key not in labels] if labels else []
    matched = frozenset(file.path for kind in (images, labels, masks) for file in kind.values())
    unlabelled = {key: images.pop(key) for key in hidden}
    for there, missing, absent_kind in ((images, labels, "label"), (labels, images, "image"), (masks, images, "image")):
        for key in sorted(there.keys() - missing.keys() - unlabelled.keys()):
            problems.append(f"{there[key].path}: no {absent_kind} of subject {key!r} in {folder}; add it or drop this")
    subjects = [
        Subject(
            key,
            images[key].path,
            labels[key].path,
            masks[key].path if key in masks else None,
            person_of(key, layout),
            _split(
                key, [part[key] for part in (images, labels, masks) if key in part], [] if key in told else problems
            ),
        )
        for key in sorted(images.keys() & labels.keys())
    ]
    problems += _in_two_splits(subjects)
    return FoundSubjects(subjects, problems, len(unlabelled), files, len(labels), matched)


def _by_key(
    folder: Path, patterns: tuple[str, ...], layout: Layout, problems: list[str], told: set[str]
) -> dict[str, _File]:
    found: dict[str, _File] = {}
    for pattern in patterns:
        for path, key, split in _matches(folder, pattern, layout.key):
            if split is not None and split not in layout.splits:
                known = ", ".join(layout.splits)
                problems.append(f"{path}: {split!r} is no split of the layout {layout.name} ({known}); rename it")
            elif key in found:
                first = found[key]
                what = f"subject {key!r} has {first.path} already"
                if split and first.split and layout.splits[split] != first.split:
                    what = f"subject {key!r} is in two splits, with {first.path} in {first.split}"
                if key not in told:
                    problems.append(f"{path}: {what}; keep one of the two")
                told.add(key)
            else:
                found[key] = _File(path, layout.splits[split] if split else None)
    return found


def _matches(folder: Path, pattern: str, key: str) -> Iterator[tuple[Path, str, str | None]]:
    """Files that fit a pattern, with their key and the name of their split."""
    names, groups = "", Counter[str]()
    pattern, ending = pattern[: _ending_of(pattern)], pattern[_ending_of(pattern) :]
    for part in re.split(r"(\{key\}|\{split\}|\*)", pattern):
        if part in ("{key}", "{split}"):
            name = part[1:-1]
            names += f"(?P={name})" if groups[name] else f"(?P<{name}>{key if name == 'key' else '[^/]+?'})"
            groups[name] += 1
        else:
            names += "[^/]*" if part == "*" else re.escape(part)
    everything = re.sub(r"([\[\]?])", r"[\1]", pattern)
    everything = re.sub(r"(\{key\}|\{split\}|\*)+", "*", everything)
    # A few scanners and old systems write endings in capitals.
    names += f"(?i:{re.escape(ending)})"
    everything += "".join(f"[{sign.lower()}{sign.upper()}]" if sign.isalpha() else sign for sign in ending)
    for path in sorted(folder.glob(everything)):
        matched = re.fullmatch(names, path.relative_to(folder).as_posix())
        if matched:
            yield path, matched["key"], matched.groupdict().get("split")


def _ending_of(pattern: str) -> int:
    """Where the ending of a pattern begins: the dots and letters behind the last name."""
    match = re.search(r"(\.[A-Za-z]+){1,2}$", pattern)
    return match.start() if match else len(pattern)


def person_of(key: str, layout: Layout) -> str:
    """The person to whom a scan belongs, by its key."""
    found = re.search(layout.subject, key) if layout.subject else None
    return (found[1] if found.re.groups else found[0]) if found else key


def _split(key: str, files: list[_File], problems: list[str]) -> str | None:
    given = {file.split: file.path for file in files if file.split}
    if len(given) > 1:
        listed = " and ".join(f"{path} ({split})" for split, path in given.items())
        problems.append(f"{files[0].path}: subject {key!r} is in two splits, {listed}; keep one")
    return next(iter(given), None)


def _in_two_splits(subjects: list[Subject]) -> Iterator[str]:
    """The scans of one person in different splits."""
    first: dict[str, Subject] = {}
    for subject in subjects:
        other = first.setdefault(subject.person or subject.key, subject)
        if subject.split != other.split and other is not subject:
            yield (
                f"{subject.image}: subject {subject.person!r} is in two splits, {subject.split or 'none'} here and "
                f"{other.split or 'none'} in {other.image}; keep one"
            )
