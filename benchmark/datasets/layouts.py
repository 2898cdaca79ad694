"""Dataset layouts: one YAML each, shipped or the user's own, and which of them a folder is in."""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from benchmark.datasets.nnunet_json import as_dataset_json_says
from benchmark.protocol.schema import Millimetres, Strict
from benchmark.protocol.yaml_model import read_model
from vesselgan.data import Layout, scan_folder
from vesselgan.errors import InputError

__all__ = ["DESCRIBED_BY_JSON", "DatasetLayout", "choose_layout", "load_layout", "packaged_layouts"]

ENDINGS = (".nii", ".nii.gz", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr")
DESCRIBED_BY_JSON = ("nnunet", "msd")  # layouts whose folders may have a dataset.json
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


def _without_ranges(given: Any) -> Any:
    """`1-42: vessel` stands for 42 values of that meaning."""
    if not isinstance(given, dict):
        return given
    values: dict[Any, Any] = {}
    for key, meaning in given.items():
        ends = re.fullmatch(r"(\d{1,5})-(\d{1,5})", key) if isinstance(key, str) else None
        wanted = range(int(ends[1]), int(ends[2]) + 1) if ends else [key]
        if ends and not wanted:
            raise ValueError(f"{key}: a range goes from the lower value to the higher one")
        for value in wanted:
            if value in values:
                raise ValueError(f"{value} is named twice")
            values[value] = meaning
    return values


ImagePattern = Annotated[str, AfterValidator(lambda text: _pattern(text, ENDINGS))]
LabelPattern = Annotated[str, AfterValidator(lambda text: _pattern(text, LABEL_ENDINGS))]
Regex = Annotated[str, AfterValidator(_regex)]
LabelValue = Annotated[int, Field(ge=-(2**15), le=2**15, strict=True)]  # exact in float32
LabelValues = Annotated[dict[LabelValue, str], BeforeValidator(lambda given: _without_ranges(given))]
Text = Annotated[str, Field(min_length=1)]


class LayoutFile(Strict):
    """What a layout's YAML may say."""

    layout: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: Text
    images: Annotated[list[ImagePattern], Field(min_length=1)]
    labels: Annotated[list[LabelPattern], Field(min_length=1)]
    masks: list[ImagePattern] = Field(default_factory=list)
    key: Regex = r"[^/.][^/]*"
    mark: Regex | None = None
    subject: Regex | None = None
    splits: dict[str, Literal["train", "validation", "test"]] = Field(default_factory=dict)
    vessels: Annotated[LabelValues, Field(min_length=1)] | None = None
    background: LabelValues = Field(default_factory=lambda: {0: "background"})
    coverage: Literal["whole brain", "circle of Willis", "not stated"] = "not stated"
    unlabelled: bool = False
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    nan: Annotated[float, Field(allow_inf_nan=False)] | None = None
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
    mark: str | None = None  # found in at least one key, or the files are of another dataset that names them alike

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
        nan=file.nan,
    )
    return DatasetLayout(layout, file.title, file.coverage, " ".join(file.licence.split()), file.general, file.mark)


def choose_layout(folder: Path, name: str = "auto") -> DatasetLayout:
    """The layout asked for, or the one packaged layout that pairs files here.

    A layout whose pairs another one has, and more besides, gives way to it, and so does a general one to one that says
    more of the same pairs. Raises InputError where none or several are left: a person then names one.
    """
    if name != "auto":
        return _described(folder, load_layout(name))
    known = _known()
    found = {each.name: scan_folder(folder, each.layout) for each in known}
    pairs = {
        each.name: {(subject.image, subject.label) for subject in found[each.name].subjects}
        or ({(folder, folder)} if found[each.name].files else set())  # files, though none that belong together
        for each in known
    }
    for each in known:
        if each.mark and not any(re.search(each.mark, subject.key) for subject in found[each.name].subjects):
            pairs[each.name] = set()
    if any(found[each.name].subjects for each in known if pairs[each.name]):
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
        if inside := [path for path in _folders_of(folder) if _fits(path)]:
            raise InputError(f"{folder}: no dataset, but {inside[0]} seems to be one; give that folder")
        raise InputError(f"{folder}: no files in a known layout; give one with --layout; tried {tried}")
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise InputError(f"{folder}: files of several layouts ({names}); name one with --layout, or part the files")
    return _described(folder, fitting[0])


def _folders_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _fits(folder: Path) -> bool:
    return any(scan_folder(folder, each.layout).subjects for each in _known())


def _described(folder: Path, chosen: DatasetLayout) -> DatasetLayout:
    if chosen.name not in DESCRIBED_BY_JSON:
        return chosen
    return replace(chosen, layout=as_dataset_json_says(folder, chosen.layout))


@cache
def _known() -> tuple[DatasetLayout, ...]:
    return tuple(load_layout(str(path)) for path in packaged_layouts().values())
