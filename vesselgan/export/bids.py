"""The Brain Imaging Data Structure (1.10): images as a raw dataset, labels as a derivative of it inside."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.export.layouts import About, File, as_json, numbers
from vesselgan.export.volume_bytes import VolumeEncoder

__all__ = ["BidsLayout"]

_BIDS_VERSION = "1.10.0"
_LABELS = "derivatives/labels"


class BidsLayout:
    """`sub-synNNNNN/anat/..._angio.nii.gz`, and `derivatives/labels/.../..._desc-vessel_mask.nii.gz`.

    The subjects' names say "syn", so that they stay apart from real ones where datasets are mixed.
    """

    def __init__(self, about: About, volumes: VolumeEncoder) -> None:
        self.about = about
        self._volumes = volumes

    def pairs_at_once(self, batch: int) -> int:
        """One batch."""
        return batch

    def paths(self, pairs: range, count: int) -> list[str]:
        """For each pair an image and a mask, with a sidecar each."""
        paths = []
        for name in _subjects(pairs, count):
            image = _image(name)
            mask = f"{_LABELS}/{name}/anat/{name}_desc-vessel_mask"
            paths += [f"{path}{ending}" for path in (image, mask) for ending in (".nii.gz", ".json")]
        return paths

    def files(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[File]:
        """As the layouts' protocol says."""
        return zip(self.paths(pairs, count), self._contents(pairs, count, images, labels), strict=True)

    def closing_files(self, count: int) -> Iterator[File]:
        """README, participants and the two `dataset_description.json`."""
        about = self.about
        tool = {"Name": "vesselgan-benchmark", "Version": about.version}
        common = {"BIDSVersion": _BIDS_VERSION, "License": about.licence, "ReferencesAndLinks": [about.reference]}
        yield "README.md", f"# {about.name}\n\n{about.description}\n\nSee datasheet.md.\n".encode()
        yield "participants.tsv", "".join(_participants(count)).encode()
        columns = {"participant_id": {"Description": "One synthetic patch; no person"}}
        columns["data"] = {"Description": "How the data came about", "Levels": {"synthetic": "made by a generator"}}  # type: ignore[dict-item]
        yield "participants.json", as_json(columns)
        yield ".bidsignore", b"datasheet.*\nSHA256SUMS\n"
        labels = {"Name": f"{about.name}: vessel labels", **common, "DatasetType": "derivative", "GeneratedBy": [tool]}
        labels["SourceDatasets"] = [{"URL": "../.."}]
        yield f"{_LABELS}/README.md", f"# {about.name}: vessel labels\n\nOf the images two folders up.\n".encode()
        yield f"{_LABELS}/dataset_description.json", as_json(labels)
        yield (
            "dataset_description.json",
            as_json({"Name": about.name, **common, "DatasetType": "raw", "GeneratedBy": [tool]}),
        )

    def _contents(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[bytes]:
        for index, name, image, label in zip(pairs, _subjects(pairs, count), images, labels, strict=True):
            source = f"bids::{_image(name)}.nii.gz"
            yield self._volumes(image)
            yield as_json({"Modality": "MR", "Synthetic": True, "SyntheticIndex": index})
            yield self._volumes(label)
            yield as_json({"Type": "ROI", "Sources": [source], "Synthetic": True, "SyntheticIndex": index})


def _subjects(pairs: range, count: int) -> list[str]:
    return [f"sub-syn{number}" for number in numbers(pairs, count)]


def _image(name: str) -> str:
    return f"{name}/anat/{name}_angio"


def _participants(count: int) -> Iterator[str]:
    yield "participant_id\tdata\n"
    for name in _subjects(range(count), count):
        yield f"{name}\tsynthetic\n"
