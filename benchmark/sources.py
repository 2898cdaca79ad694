"""Where the subjects of a run come from: the embedded phantom or a folder, and what identifies their content."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.protocol import External, Profile
from vesselgan.data import Subject, find_subjects, pair_by_listing, split_subjects
from vesselgan.data.patch_folder import patch_files
from vesselgan.errors import InputError
from vesselgan.files import write_text

__all__ = ["ExternalSource", "Source", "choose_source", "find_externals"]


@dataclass(frozen=True)
class Source:
    """Hashed options of the `prepare` stage, and the unhashed places of its files."""

    options: Mapping[str, Any]
    split: Mapping[str, list[str]]
    where: Mapping[str, str]
    description: str
    weights_sha256: str | None = None
    listed_options: Mapping[str, Any] | None = None  # files paired as two unsorted lists (D6); None without files

    @property
    def has_files(self) -> bool:
        """Whether the subjects are files, which can be paired wrongly, or made here."""
        return self.listed_options is not None

    def options_for(self, pairing: str) -> Mapping[str, Any]:
        """Hashed options under the recipe's `pairing`, `by_key` or `listing_order`."""
        return self.listed_options if self.listed_options and pairing == "listing_order" else self.options

    def training_patches(self, profile: Profile) -> int:
        """How many patches the training subjects give."""
        return len(self.split["train"]) * (math.prod(profile.patches.grid) + profile.patches.vessel)


@dataclass(frozen=True)
class ExternalSource:
    """Somebody else's pairs: where they lie, what they are, and their intensities for black and white."""

    folder: Path
    files: Mapping[str, str]  # path in the folder -> SHA-256
    intensities: tuple[float, float] | None


def find_externals(
    externals: Iterable[External], beside: Path, remember: Path | None = None
) -> dict[str, ExternalSource]:
    """The folders of `include` by label; relative ones start at the folder `beside`, that of the protocol file.

    Raises InputError for a folder that is missing, or without patches.
    """
    found = {}
    for external in externals:
        folder = beside / external.external
        files = {
            path.relative_to(folder).as_posix(): _sha256(path, remember) for path in patch_files(folder, "external:")
        }
        found[external.label] = ExternalSource(folder.resolve(), files, external.intensities)
    return found


def choose_source(
    profile_name: str,
    profile: Profile,
    data: Path | None,
    layout: str = "auto",
    remember: Path | None = None,
    *,
    scored: bool = True,
) -> Source:
    """The subjects of a run and their split; hashes of files are remembered in the folder `remember`.

    Without `scored` nothing asks for features, nor for the extractor's weights.

    Raises InputError: the profile requires data and there is none, the folder is no dataset, there are too few
    subjects, or the extractor's weights are missing.
    """
    folder = data or (None if profile.data == "phantom" else Path(profile.data))
    if folder is None and profile.requires.data:
        raise InputError(
            f"profile {profile_name!r} needs real data and none was given: point to a folder of labelled TOF-MRA with "
            "--data DIR (nnU-Net raw: imagesTr/CASE_0000.nii.gz + labelsTr/CASE.nii.gz), or use --profile laptop"
        )
    weights = _weights_sha256(profile_name, profile, remember) if scored else None
    wanted = profile.split
    if folder is None:
        if any(axis > size for axis, size in zip(profile.patch, profile.phantom.shape, strict=True)):
            shape = list(profile.phantom.shape)
            raise InputError(
                f"profile {profile_name!r}: patch {list(profile.patch)} exceeds the phantom's shape {shape}"
            )
        count = wanted.train + wanted.validation + wanted.test
        keys = [f"phantom-{index:03d}" for index in range(count)]
        split = split_subjects(
            keys, train=wanted.train, validation=wanted.validation, test=wanted.test, seed=wanted.seed
        )
        options = {"phantom": {**profile.phantom.model_dump(), "subjects": count}}
        return Source(options, split, {}, f"embedded phantom, {count} simulated subjects (no patient data)", weights)
    subjects = find_subjects(folder, layout)
    total = wanted.train + wanted.validation + wanted.test
    shares = {name: getattr(wanted, name) / total for name in ("train", "validation", "test")}
    split = split_subjects([subject.key for subject in subjects], **shares, seed=wanted.seed)
    digests = {path: _sha256(path, remember) for subject in subjects for path in _paths(subject).values()}
    options, listed = (
        {"files": {pair.key: {role: digests[path] for role, path in _paths(pair).items()} for pair in pairs}}
        for pairs in (subjects, pair_by_listing(subjects, folder))
    )
    where = {"folder": str(folder.resolve()), "layout": layout}
    return Source(options, split, where, f"{folder.name}, {len(subjects)} subjects given with --data", weights, listed)


def _paths(subject: Subject) -> dict[str, Path]:
    return {"image": subject.image, "label": subject.label} | ({"mask": subject.mask} if subject.mask else {})


def _weights_sha256(profile_name: str, profile: Profile, remember: Path | None) -> str | None:
    if profile.score.extractor != "medicalnet":
        return None
    if profile.score.weights is None:
        raise InputError(
            f"profile {profile_name!r} scores with MedicalNet features and has no weights: download "
            "resnet_10_23dataset.pth (MedicalNet) and give it with --weights FILE (or let --weights hub download it), "
            "or set score.extractor to random_resnet10"
        )
    return _sha256(Path(profile.score.weights), remember)


def _sha256(path: Path, remember: Path | None) -> str:
    """The file's SHA-256, remembered by path, size and modification time, so that a re-run reads no data twice."""
    if not path.is_file():  # a named pipe would be waited for
        raise InputError(f"{path}: is no file; name an existing one")
    try:
        facts = path.stat()
        place = str(path.resolve())
        identity = [place, facts.st_size, facts.st_mtime_ns]
        note = remember / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.json" if remember else None
        known = _remembered(note)
        if known.get("identity") == identity:
            return str(known["sha256"])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if note:
        write_text(note, json.dumps({"identity": identity, "sha256": digest}))
    return digest


def _remembered(note: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text(encoding="utf-8")) if note else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
