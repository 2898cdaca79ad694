"""What a dataset holds, subject by subject, and everything that is wrong with it; one volume in memory at a time."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmark.datasets.fingerprints import identical_images, subject_sha256s
from benchmark.datasets.layouts import choose_layout
from benchmark.datasets.source import phantom_keys, reading_options
from benchmark.datasets.suspicions import Suspicions, scan_like_files
from benchmark.protocol.schema import Profile
from vesselgan.data import LoadedSubject, Subject, examine_subject, phantom_subjects, scan_folder
from vesselgan.data.volumes import is_volume, volume_files
from vesselgan.errors import InputError

__all__ = ["DataCheck", "SubjectCheck", "check_folder", "check_phantom"]


@dataclass(frozen=True)
class SubjectCheck:
    """One subject; what could not be read is None."""

    key: str
    person: str
    split: str | None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    vessel_share: float | None = None
    brain_mask: bool | None = None
    problems: tuple[str, ...] = ()


@dataclass
class DataCheck:
    """A dataset."""

    name: str
    layout: str
    coverage: str
    licence: str
    unlabelled: int = 0
    subjects: list[SubjectCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of no one subject
    passed_over: list[str] = field(default_factory=list)  # files like scans that are in no pattern of the layout

    @property
    def all_problems(self) -> list[str]:
        """Every line, each once."""
        return list(dict.fromkeys([*self.problems, *(line for each in self.subjects for line in each.problems)]))

    def as_json(self) -> dict[str, object]:
        """Everything but the pictures."""
        kept = {
            name: getattr(self, name) for name in ("name", "layout", "coverage", "licence", "unlabelled", "passed_over")
        }
        return {**kept, "subjects": [asdict(each) for each in self.subjects], "problems": self.all_problems}


def check_folder(
    folder: Path,
    layout: str,
    remember: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: Callable[[LoadedSubject], None] = lambda subject: None,
) -> DataCheck:
    """Examine every file of a dataset; `seen` gets each subject that could be read, while it is in memory.

    Raises InputError where there is nothing to examine: no such folder, no layout that fits.
    """
    chosen = choose_layout(folder, layout)
    found = scan_folder(folder, chosen.layout)
    check = DataCheck(folder.resolve().name, chosen.name, chosen.coverage, chosen.licence, found.unlabelled)
    digests, unreadable = subject_sha256s(found.subjects, remember)
    check.problems = [*found.problems, *unreadable, *identical_images(found.subjects, digests)]
    parts = {part for path in found.matched for part in _parts_of(path)}
    check.passed_over = [path.relative_to(folder).as_posix() for path in scan_like_files(folder) if path not in parts]
    suspicions = Suspicions()
    reading = reading_options(chosen.layout)  # but for the spacing: what is checked are the files as they are
    vessels, background = reading.get("vessels"), reading.get("background", (0,))
    voxels: dict[str, Subject] = {}
    for index, subject in enumerate(found.subjects):
        progress(index, len(found.subjects))
        loaded, problems = examine_subject(subject, vessels=vessels, background=background, nan=reading.get("nan"))
        facts = SubjectCheck(subject.key, subject.person, subject.split, problems=tuple(problems))
        if loaded is not None:
            facts = _facts(loaded, subject.person, subject.split, suspicions.of(subject, loaded))
            check.problems += _same_voxels(subject, loaded, digests, voxels)
            check.problems += suspicions.rescaled(subject, loaded)
            seen(loaded)
        check.subjects.append(facts)
    check.problems += suspicions.exchanged()
    progress(len(found.subjects), len(found.subjects))
    return check


def check_phantom(
    profile: Profile,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: Callable[[LoadedSubject], None] = lambda subject: None,
) -> DataCheck:
    """The embedded dataset of a profile."""
    check = DataCheck("phantom", "none (simulated)", "whole brain", "No patient data; part of this software.")
    keys, phantom = phantom_keys(profile), profile.phantom
    made: Iterable[LoadedSubject] = phantom_subjects(
        len(keys), phantom.shape, seed=phantom.seed, spacing_mm=phantom.spacing_mm
    )
    for index, subject in enumerate(made):
        progress(index, len(keys))
        check.subjects.append(_facts(subject, subject.key, None))
        seen(subject)
    progress(len(keys), len(keys))
    return check


def _parts_of(path: Path) -> tuple[Path, ...]:
    """The files that an image consists of: an .hdr has its voxels in an .img."""
    try:
        return (path, *volume_files(path)) if is_volume(path) else (path,)
    except InputError:  # which is told where the file is read
        return (path,)


def _facts(loaded: LoadedSubject, person: str, split: str | None, problems: Sequence[str] = ()) -> SubjectCheck:
    return SubjectCheck(
        loaded.key,
        person,
        split,
        loaded.image.shape,
        tuple(round(mm, 4) for mm in loaded.spacing_mm),
        float(loaded.label.mean()),
        loaded.mask is not None,
        tuple(problems),
    )


def _same_voxels(
    subject: Subject, loaded: LoadedSubject, digests: dict[Path, str], voxels: dict[str, Subject]
) -> list[str]:
    """A scan that is there twice in different files, such as packed and unpacked."""
    digest = hashlib.blake2b(loaded.image.tobytes()).hexdigest()
    other = voxels.setdefault(digest, subject)
    if other is subject or digests.get(other.image) == digests.get(subject.image):  # one file twice is told already
        return []
    return [f"{subject.image}: the same voxels as {other.image} (subject {other.key!r}); drop one"]
