"""The Brain Imaging Data Structure (1.10): images as a raw dataset, labels as a derivative of it inside."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesselgan.export.layouts import File, NiftiFiles, as_json, numbers

__all__ = ["BidsLayout"]

_BIDS_VERSION = "1.10.0"
_LABELS = "derivatives/labels"
_COLUMNS = {
    "participant_id": {"Description": "One synthetic patch; no person"},
    "data": {"Description": "How the data came about", "Levels": {"synthetic": "made by a generator"}},
}


class BidsLayout(NiftiFiles):
    """`sub-synNNNNN/anat/..._angio.nii.gz`, and `derivatives/labels/.../..._desc-vessel_mask.nii.gz`.

    The subjects' names say "syn", so that they stay apart from real ones where datasets are mixed.
    """

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
        description = {
            "BIDSVersion": _BIDS_VERSION,
            "License": about.licence,
            "ReferencesAndLinks": [about.reference],
            "GeneratedBy": [{"Name": "vesselgan-benchmark", "Version": about.version}],
        }
        yield "README.md", f"# {about.name}\n\n{about.description}\n\nLicence: {about.licence}\n".encode()
        yield "participants.tsv", "".join(_participants(count)).encode()
        yield "participants.json", as_json(_COLUMNS)
        yield ".bidsignore", b"datasheet.*\nSHA256SUMS\n"
        labels = {
            "Name": f"{about.name}: vessel labels",
            "DatasetType": "derivative",
            **description,
            "SourceDatasets": [{"URL": "../.."}],
            "DatasetLinks": {"images": "../.."},  # what `bids:images:` in a sidecar stands for
        }
        text = "Vessels in the images of the dataset two folders up; its datasheet tells how both were made."
        yield f"{_LABELS}/README.md", f"# {about.name}: vessel labels\n\n{text}\n".encode()
        yield f"{_LABELS}/dataset_description.json", as_json(labels)
        yield "dataset_description.json", as_json({"Name": about.name, "DatasetType": "raw", **description})

    def _contents(self, pairs: range, count: int, images: NDArray[Any], labels: NDArray[np.bool_]) -> Iterator[bytes]:
        mask = {"Description": "Vessels, drawn by the generator", "Type": "ROI", "Synthetic": True}
        for index, name, image, label in zip(pairs, _subjects(pairs, count), images, labels, strict=True):
            source = f"bids:images:{_image(name)}.nii.gz"
            yield self._volumes(image)
            yield as_json({"Modality": "MR", "Synthetic": True, "SyntheticIndex": index})
            yield self._volumes(label)
            yield as_json({**mask, "Sources": [source], "SpatialReference": source, "SyntheticIndex": index})


def _subjects(pairs: range, count: int) -> list[str]:
    return [f"sub-syn{number}" for number in numbers(pairs, count)]


def _image(name: str) -> str:
    return f"{name}/anat/{name}_angio"


def _participants(count: int) -> Iterator[str]:
    yield "participant_id\tdata\n"
    for name in _subjects(range(count), count):
        yield f"{name}\tsynthetic\n"
