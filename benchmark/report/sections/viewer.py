"""A few cases as volumes, for the viewer of the page: scans with their errors, and a pair of patches."""

import gzip
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, TypedDict

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.error_maps import load_error_map
from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import map_array
from benchmark.artifacts.roles import Role
from benchmark.report.pictures import grey_values
from benchmark.report.sections.figures import first_files, run_store
from benchmark.report.sections.segmentations import SegmentedSubject
from benchmark.report.sections.text import ArmMark
from benchmark.results.format import Results
from benchmark.results.run_folder import Run
from vesselgan.data import VolumeStore

__all__ = ["Viewer", "ViewerCase", "viewer"]

SUBJECTS = 2
MOST_BYTES = 1_000_000  # of a packed scan; a larger one is reduced
GREYS = 64  # as many as an eye tells apart, and packed they take half the bytes of 256
BUNDLE = "niivue.umd.js.gz"

Mask = Literal["errors", "label"]


class ViewerCase(TypedDict):
    """An image with a mask over it, by the names of their volumes; `errors` have 1 found, 2 missed, 3 invented."""

    title: str
    image: str
    mask: str
    kind: Mask


@dataclass(frozen=True)
class Viewer:
    """The cases, their volumes as packed NIfTI in base 64, by how much the largest one was reduced, and NiiVue.

    `notice` is the licence under which the page may carry the bundle.
    """

    cases: Sequence[ViewerCase]
    volumes: Mapping[str, str]
    reduced: int
    bundle: str
    notice: str


def viewer(
    run: Run, results: Results, marks: Mapping[str, ArmMark], segmented: Sequence[SegmentedSubject]
) -> Viewer | None:
    """Up to two subjects of those pictured under the run's best label and under real patches, and a pair of patches.

    None where no volume is there.
    """
    store = run_store(run)
    if store is None:
        return None
    packed = _Volumes()
    cases = [
        *_segmentations(run, results, marks, store, [each.subject for each in segmented][:SUBJECTS], packed),
        *_patches(run, results, store, packed),
    ]
    if not cases:
        return None
    vendor = resources.files("benchmark.report") / "vendor"
    bundle, notice = (vendor / BUNDLE).read_bytes(), (vendor / "NOTICE.md").read_text(encoding="utf-8")
    return Viewer(cases, packed.volumes, packed.reduced, b64encode(bundle).decode(), notice)


def _segmentations(
    run: Run,
    results: Results,
    marks: Mapping[str, ArmMark],
    store: VolumeStore,
    subjects: Sequence[str],
    packed: "_Volumes",
) -> Iterator[ViewerCase]:
    answer = results["answer"]
    evaluated = {mark.name: record for mark, record, _ in first_files(run, marks, Role.EVALUATE, "subjects.csv")}
    wanted = [name for name in (answer["label"] if answer else None, "real") if name in evaluated]
    for key in subjects:
        for arm in wanted or list(evaluated)[:1]:
            errors = run.file(evaluated[arm], Role.EVALUATE, f"errors/{key}.nii.gz")
            if errors is None:
                continue
            image, affine = np.asarray(store.image(key), dtype=np.float32), np.asarray(store.subject(key).affine)
            name = f"{key}-scan"
            factor = packed.factors.get(name) or packed.add_image(name, grey_values(image, unit=False), affine)
            packed.add(f"{key}-{arm}", load_error_map(errors, None)[0], affine, factor)
            yield {"title": f"{key}: {arm}", "image": name, "mask": f"{key}-{arm}", "kind": "errors"}


def _patches(run: Run, results: Results, store: VolumeStore, packed: "_Volumes") -> Iterator[ViewerCase]:
    """The synthetic and the real patch that the answer shows."""
    chosen = results["median_patches"]
    if chosen is None:
        return
    record = next(record for record in run.cells if record["cell"]["id"] == chosen["cell"])
    images, labels = (run.file(record, Role.PAIRS, f"{name}.npy") for name in ("images", "labels"))
    affine = np.diag([*store.subjects[0].spacing_mm, 1.0])
    pairs: list[tuple[str, NDArray[np.float32], NDArray[Any]]] = []
    if images and labels:
        row = chosen["synthetic"]["row"]
        image, label = decoded(np.asarray(map_array(images)[row])), np.asarray(map_array(labels)[row])
        pairs.append((f"synthetic patch: {chosen['label']}", image, label))
    real, mask = store.cut_pairs([chosen["real"]["row"]], "volume")
    pairs.append(("real patch", real[0], mask[0]))
    for title, patch, label in pairs:
        name = title.partition(":")[0].replace(" ", "-")
        factor = packed.add_image(name, grey_values(patch, unit=True), affine)
        packed.add(f"{name}-label", label.astype(np.uint8), affine, factor)
        yield {"title": title, "image": name, "mask": f"{name}-label", "kind": "label"}


class _Volumes:
    """Packed NIfTI files by name, and by which factor each image was reduced."""

    def __init__(self) -> None:
        self.volumes: dict[str, str] = {}
        self.factors: dict[str, int] = {}

    @property
    def reduced(self) -> int:
        return max(self.factors.values(), default=1)

    def add_image(self, name: str, greys: NDArray[np.uint8], affine: NDArray[np.float64]) -> int:
        """Reduced as far as it must be to stay small; returns the factor, for its masks."""
        coarse = greys // np.uint8(256 // GREYS) * np.uint8(256 // GREYS)
        factor = 1
        while len(content := _nifti(coarse, affine, factor)) > MOST_BYTES:
            factor += 1
        self.factors[name] = factor
        self.volumes[name] = b64encode(content).decode()
        return factor

    def add(self, name: str, mask: NDArray[np.uint8], affine: NDArray[np.float64], factor: int) -> None:
        self.volumes[name] = b64encode(_nifti(mask, affine, factor)).decode()


def _nifti(volume: NDArray[np.uint8], affine: NDArray[np.float64], factor: int) -> bytes:
    """A packed file; of each block of `factor` voxels a side the highest value: vessels are bright, errors high."""
    if factor > 1:
        padded = np.pad(volume, [(0, -size % factor) for size in volume.shape])
        blocks = padded.reshape([part for size in padded.shape for part in (size // factor, factor)])
        volume = blocks.max(axis=(1, 3, 5))
        centre = np.eye(4)
        centre[:3, 3] = (factor - 1) / 2
        affine = affine @ centre @ np.diag([factor, factor, factor, 1.0])
    image = nib.Nifti1Image(volume, affine)  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), 9, mtime=0)
