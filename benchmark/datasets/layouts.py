"""Dataset layouts: one YAML each, shipped or the user's own, and which of them a folder is in."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from benchmark.protocol.schema import Millimetres, Strict
from benchmark.protocol.yaml_model import read_model
from vesselgan.data import Layout, scan_folder
from vesselgan.errors import InputError

__all__ = ["DatasetLayout", "choose_layout", "load_layout", "packaged_layouts"]

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd")
LABEL_ENDINGS = (*ENDINGS, ".tre")


def _pattern(text: str, endings: tuple[str, ...]) -> str:
    unknown = set(re.findall(r"\{[^}]*\}?|\}", text)) - {"{key}", "{split}"}
    path = PurePosixPath(text)
    if unknown or "{key}" not in text:
        raise ValueError("a pattern holds {key}, perhaps {split}, and nothing else in braces")
    if path.is_absolute() or ".." in path.parts or "**" in text or "\\" in text:
        raise ValueError("a pattern is a path within the dataset, with / and single *")
    if not text.endswith(endings):
        raise ValueError(f"a pattern ends in {', '.join(endings)}")
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return text


ImagePattern = Annotated[str, AfterValidator(lambda text: _pattern(text, ENDINGS))]
LabelPattern = Annotated[str, AfterValidator(lambda text: _pattern(text, LABEL_ENDINGS))]
Regex = Annotated[str, AfterValidator(_regex)]
LabelValue = Annotated[int, Field(ge=-(2**15), le=2**15, strict=True)]  # exact in float32
Text = Annotated[str, Field(min_length=1)]


class LayoutFile(Strict):
    """What a layout's YAML may say."""

    layout: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: Text
    images: Annotated[list[ImagePattern], Field(min_length=1)]
    labels: Annotated[list[LabelPattern], Field(min_length=1)]
    masks: list[ImagePattern] = Field(default_factory=list)
    key: Regex = r"[^/.][^/]*"
    subject: Regex | None = None
    splits: dict[str, Literal["train", "validation", "test"]] = Field(default_factory=dict)
    vessels: Annotated[dict[LabelValue, str], Field(min_length=1)] | None = None
    background: dict[LabelValue, str] = Field(default_factory=lambda: {0: "background"})
    coverage: Literal["whole brain", "circle of Willis", "not stated"] = "not stated"
    unlabelled: bool = False
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    general: bool = False
    licence: Text


@dataclass(frozen=True)
class DatasetLayout:
    """A layout with what people want to know of its dataset."""

    layout: Layout
    title: str
    coverage: str  # of the labels
    licence: str
    general: bool  # gives way to a layout that fits the same files and says more of them

    @property
    def name(self) -> str:
        """As `--layout` takes it."""
        return self.layout.name


def packaged_layouts() -> dict[str, Path]:
    """Name -> file of the layouts that ship with the package."""
    return {
        path.stem: path for path in sorted((Path(str(files("benchmark.datasets"))) / "layout_files").glob("*.yaml"))
    }


def load_layout(name: str) -> DatasetLayout:
    """A layout by its packaged name or by its file's path.

    Raises InputError, with a line per error in the file.
    """
    path = Path(name)
    if not path.is_file():
        packaged = packaged_layouts()
        if name not in packaged:
            raise InputError(f"unknown layout {name!r}; choose one of auto, {', '.join(packaged)}, or a YAML file")
        path = packaged[name]
    file, place = read_model(path, LayoutFile, "layout")
    problems = []
    for kind, patterns in (("images", file.images), ("labels", file.labels), ("masks", file.masks)):
        problems += [
            f"{path}:{place((kind, index))}: {kind}.{index}: has {{split}}, so 'splits' must say what its names mean"
            for index, pattern in enumerate(patterns)
            if "{split}" in pattern and not file.splits
        ]
    problems += [
        f"{path}:{place(('background', value))}: background.{value}: is a vessel, too; keep one of the two"
        for value in file.background
        if file.vessels and value in file.vessels
    ]
    if problems:
        raise InputError("\n".join(problems))
    layout = Layout(
        file.layout,
        tuple(file.images),
        tuple(file.labels),
        tuple(file.masks),
        key=file.key,
        subject=file.subject,
        splits=file.splits,
        vessels=tuple(sorted(file.vessels)) if file.vessels else None,
        background=tuple(sorted(file.background)),
        unlabelled=file.unlabelled,
        spacing_mm=file.spacing_mm,
    )
    return DatasetLayout(layout, file.title, file.coverage, " ".join(file.licence.split()), file.general)


def choose_layout(folder: Path, name: str = "auto") -> DatasetLayout:
    """The layout asked for, or the one packaged layout that pairs files here.

    A layout whose pairs another one has, and more besides, gives way to it, and so does a general one to one that says
    more of the same pairs. Raises InputError where none or several are left: a person then names one.
    """
    if name != "auto":
        return load_layout(name)
    known = _known()
    found = {each.name: scan_folder(folder, each.layout) for each in known}
    pairs = {
        each.name: {(subject.image, subject.label) for subject in found[each.name].subjects}
        or ({(folder, folder)} if found[each.name].files else set())  # files, though none that belong together
        for each in known
    }
    if any(found[each.name].subjects for each in known):
        pairs = {name: some for name, some in pairs.items() if found[name].subjects}
    fitting = [each for each in known if pairs.get(each.name)]
    fitting = [each for each in fitting if not any(pairs[each.name] < pairs[other.name] for other in fitting)]
    if any(not each.general for each in fitting):
        fitting = [
            each
            for each in fitting
            if not each.general or not any(pairs[each.name] == pairs[other.name] for other in fitting if other != each)
        ]
    if not fitting:
        tried = "; ".join(f"{each.name}: {each.layout.images[0]} with {each.layout.labels[0]}" for each in known)
        raise InputError(f"{folder}: no files in a known layout; give one with --layout; tried {tried}")
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise InputError(f"{folder}: files of several layouts ({names}); name one with --layout, or part the files")
    return fitting[0]


@cache
def _known() -> tuple[DatasetLayout, ...]:
    return tuple(load_layout(str(path)) for path in packaged_layouts().values())
