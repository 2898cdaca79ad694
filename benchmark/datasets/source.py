"""Where the subjects of a run come from: the embedded phantom or a folder, and what identifies their content."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark.artifacts.options import DataSource, Reading
from benchmark.datasets.fingerprints import files_of, identical_images, subject_sha256s
from benchmark.datasets.layouts import DESCRIBED_BY_JSON, DatasetLayout, choose_layout
from benchmark.protocol.schema import External, Profile, Split
from vesselgan.data import (
    SPLITS,
    FoundSubjects,
    Layout,
    Subject,
    complete_split,
    pair_by_listing,
    scan_folder,
    split_subjects,
)
from vesselgan.data.patch_folder import patch_files
from vesselgan.errors import InputError
from vesselgan.files import file_sha256

__all__ = ["ExternalSource", "Source", "choose_source", "find_externals", "phantom_keys", "reading_options"]


@dataclass(frozen=True)
class Source:
    """Hashed options of the `prepare` stage, and the unhashed places of its files."""

    options: DataSource
    split: Mapping[str, list[str]]
    where: Mapping[str, str]
    description: str
    weights_sha256: str | None = None
    listed_options: DataSource | None = None  # files paired as two unsorted lists (D6); None without files
    mispaired: int = 0  # subjects to whose image that pairing gives another subject's label

    @property
    def has_files(self) -> bool:
        """Whether the subjects are files, which can be paired wrongly, or made here."""
        return self.listed_options is not None

    def options_for(self, pairing: str) -> DataSource:
        """Hashed options under the recipe's `pairing`, `by_key` or `listing_order`."""
        return self.listed_options if self.listed_options and pairing == "listing_order" else self.options

    def people(self, split: str) -> list[list[str]]:
        """The scans of each person of a split, in the order of their first scans."""
        persons = self.options.get("persons", {})
        scans: dict[str, list[str]] = {}
        for key in self.split[split]:
            scans.setdefault(persons.get(key, key), []).append(key)
        return list(scans.values())

    def training_patches(self, profile: Profile) -> int:
        """How many patches the training subjects give."""
        return len(self.split["train"]) * (math.prod(profile.patches.grid) + profile.patches.vessel)


@dataclass(frozen=True)
class ExternalSource:
    """Somebody else's pairs: where they lie, what they are, and their intensities for black and white."""

    folder: Path
    files: Mapping[str, str]  # path in the folder -> SHA-256
    intensities: tuple[float, float] | None
    nan: float | None = None


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
            path.relative_to(folder).as_posix(): file_sha256(path, remember)
            for path in patch_files(folder, "external:")
        }
        found[external.label] = ExternalSource(folder.resolve(), files, external.intensities, external.nan)
    return found


def choose_source(
    profile_name: str,
    profile: Profile,
    data: Path | None,
    layout: str = "auto",
    remember: Path | None = None,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    scored: bool = True,
) -> Source:
    """The subjects of a run and their split; hashes of files are remembered in the folder `remember`.

    `layout` is a packaged name, a YAML file or "auto", and `spacing_mm` resamples (None: as the layout says). Without
    `scored` nothing asks for features, nor for the extractor's weights.

    Raises InputError: the profile requires data and there is none, the folder is no dataset (with a line for each file
    that is missing, unreadable or there twice), there are too few subjects, or the extractor's weights are missing.
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
        if spacing_mm is not None:
            raise InputError("--spacing resamples scans: give them with --data DIR")
        if layout != "auto":
            raise InputError(f"--layout {layout} says how scans are named: give them with --data DIR")
        if any(axis > size for axis, size in zip(profile.patch, profile.phantom.shape, strict=True)):
            shape = list(profile.phantom.shape)
            raise InputError(
                f"profile {profile_name!r}: patch {list(profile.patch)} exceeds the phantom's shape {shape}"
            )
        keys = phantom_keys(profile)
        split = split_subjects(
            keys, train=wanted.train, validation=wanted.validation, test=wanted.test, seed=wanted.seed
        )
        phantom = profile.phantom
        options: DataSource = {
            "phantom": {
                "shape": phantom.shape,
                "spacing_mm": phantom.spacing_mm,
                "seed": phantom.seed,
                "subjects": len(keys),
            }
        }
        return Source(
            options, split, {}, f"embedded phantom, {len(keys)} simulated subjects (no patient data)", weights
        )
    return _files_source(folder, layout, spacing_mm, wanted, remember, weights)


def _files_source(
    folder: Path,
    layout: str,
    spacing_mm: tuple[float, float, float] | None,
    wanted: Split,
    remember: Path | None,
    weights: str | None,
) -> Source:
    chosen = choose_layout(folder, layout)
    settings = replace(chosen.layout, spacing_mm=spacing_mm or chosen.layout.spacing_mm)
    found = scan_folder(folder, settings)
    digests, unreadable = subject_sha256s(found.subjects, remember)
    if problems := [*found.problems, *unreadable, *identical_images(found.subjects, digests)]:
        raise InputError("\n".join(problems))
    subjects = found.subjects
    shares = {name: getattr(wanted, name) for name in SPLITS}
    split = complete_split(subjects, **shares, seed=wanted.seed)
    reading = reading_options(settings)
    listing = pair_by_listing(subjects, folder)
    options, listed = (_hashed(pairs, digests, reading) for pairs in (subjects, listing))
    mispaired = sum(right.label != wrong.label for right, wrong in zip(subjects, listing, strict=True))
    where = {"folder": str(folder.resolve()), "layout": json.dumps(asdict(settings))}
    return Source(options, split, where, _description(folder, chosen, settings, found), weights, listed, mispaired)


def _hashed(pairs: Sequence[Subject], digests: Mapping[Path, str], reading: Reading) -> DataSource:
    options: DataSource = {
        "files": {pair.key: {role: digests[path] for role, path in files_of(pair).items()} for pair in pairs}
    }
    if reading:
        options["reading"] = reading
    scans = Counter(pair.person for pair in pairs if pair.person)
    if persons := {pair.key: pair.person for pair in pairs if scans[pair.person] > 1}:
        options["persons"] = persons
    return options


def phantom_keys(profile: Profile) -> list[str]:
    """The subjects of the embedded dataset."""
    return [f"phantom-{index:03d}" for index in range(sum(getattr(profile.split, name) for name in SPLITS))]


def reading_options(layout: Layout) -> Reading:
    """What of a layout decides the voxels: the arguments of `load_subject` that are not its defaults."""
    options: Reading = {}
    if layout.vessels is not None:
        options["vessels"], options["background"] = list(layout.vessels), list(layout.background)
    if layout.spacing_mm is not None:
        options["spacing_mm"] = list(layout.spacing_mm)
    if layout.nan is not None:
        options["nan"] = layout.nan
    return options


def _description(folder: Path, chosen: DatasetLayout, settings: Layout, found: FoundSubjects) -> str:
    people = len({subject.person or subject.key for subject in found.subjects})
    scans = len(found.subjects)
    text = f"{folder.name}, " + (f"{scans} scans of " if scans != people else "")
    text += f"{people} subjects given with --data (layout {chosen.name})"
    given = [name for name in SPLITS if any(subject.split == name for subject in found.subjects)]
    if set(given) - {"train"}:  # all in one folder for training is no division
        text += f"; {', '.join(given)} as the dataset divides them"
    if chosen.coverage == "circle of Willis":
        text += "; its labels mark the circle of Willis only, so every other vessel counts as background"
    if settings.vessels and chosen.name in DESCRIBED_BY_JSON:
        text += f"; values {', '.join(map(str, settings.vessels))} of its labels are vessels, as its dataset.json says"
    if settings.spacing_mm:
        text += f"; resampled to {' x '.join(f'{mm:g}' for mm in settings.spacing_mm)} mm"
    return text + (f"; {found.unlabelled} images without label passed over" if found.unlabelled else "")


def _weights_sha256(profile_name: str, profile: Profile, remember: Path | None) -> str | None:
    if profile.score.extractor != "medicalnet":
        return None
    if profile.score.weights is None:
        raise InputError(
            f"profile {profile_name!r} scores with MedicalNet features and has no weights: download "
            "resnet_10_23dataset.pth (MedicalNet) and give it with --weights FILE (or let --weights hub download it), "
            "or set score.extractor to random_resnet10"
        )
    digest = file_sha256(Path(profile.score.weights), remember)
    from vesselgan.networks.importing import import_medicalnet  # torch, which most plans do without

    import_medicalnet(Path(profile.score.weights))  # a wrong file is told now and not after a day of training
    return digest
