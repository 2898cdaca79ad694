"""SHA-256 of input files, remembered so that a re-run reads no data twice."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from vesselgan.data import Subject, check_header
from vesselgan.data.volumes import is_volume, volume_files
from vesselgan.errors import InputError
from vesselgan.files import file_sha256, text_sha256

__all__ = ["files_of", "identical_images", "subject_sha256s"]


def files_of(subject: Subject) -> dict[str, Path]:
    """Role -> file of a subject."""
    return {"image": subject.image, "label": subject.label} | ({"mask": subject.mask} if subject.mask else {})


def subject_sha256s(subjects: Iterable[Subject], remember: Path | None) -> tuple[dict[Path, str], list[str]]:
    """The hash of every file of these subjects, and a line for each file without a sound header.

    A header in a file of its own (``.mhd``, ``.hdr``, ``.nhdr``) goes with the voxels beside it.
    """
    digests: dict[Path, str] = {}
    problems = []
    for path in [path for subject in subjects for path in files_of(subject).values()]:
        try:
            check_header(path)
            parts = volume_files(path) if is_volume(path) else (path,)
            hashes = [file_sha256(part, remember) for part in parts]
            digests[path] = hashes[0] if len(parts) == 1 else text_sha256("".join(hashes))
        except InputError as error:
            problems.append(str(error))
    return digests, problems


def identical_images(subjects: Iterable[Subject], digests: Mapping[Path, str]) -> list[str]:
    """A line for each image with the content of another subject's."""
    first: dict[str, Subject] = {}
    problems = []
    for subject in subjects:
        digest = digests.get(subject.image)
        if digest and (other := first.setdefault(digest, subject)) is not subject:
            problems.append(f"{subject.image}: the same content as {other.image} (subject {other.key!r}); drop one")
    return problems
