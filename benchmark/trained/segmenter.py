"""A trained U-Net on anybody's scans: any size and orientation in, a mask on the same voxels out."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from benchmark.stages.train_unet import UNetFacts, open_unet, scaled
from benchmark.trained.find import choose_cell, find_run, unknown_source
from vesselgan.data import Volume, as_in_file, load_volume, robust_range, save_volume
from vesselgan.data.nifti import is_nifti
from vesselgan.data.resampling import resample as resample_image
from vesselgan.data.volumes import VOLUME_ENDINGS, is_volume, read_stored
from vesselgan.errors import InputError
from vesselgan.inference import segment_volume
from vesselgan.networks import UNet
from vesselgan.networks.finite import refuse_non_finite
from vesselgan.training import choose_precision

__all__ = ["Segmented", "Segmenter", "find_unet", "images_of", "open_segmenter", "output_names"]

NEEDED = ("filters", "dropout", "precision", "patch", "intensity_scaling", "spacing_mm")
SPACING_TOLERANCE = 1.25  # a factor, either way, between the voxels of a scan and those that the network learned from
_CHANNELS = re.compile(r"(.+)_(\d{4})")  # of nnU-Net: NAME_0000 is the first channel of NAME
_NNUNET_FOLDERS = ("imagestr", "imagests", "imagesval")
_WEIGHTS = "unet.safetensors"


@dataclass(frozen=True)
class Segmented:
    """What became of one image."""

    files: tuple[Path, ...]
    vessel_ml: float
    vessel_share: float


def find_unet(source: str, *, runs: Path, cell: str | None) -> Path:
    """The `train_unet` folder of a run (its name in `runs`, or its folder), or that of its path or `unet.safetensors`.

    Raises InputError: nothing there, nothing finished, or several and no `cell`.
    """
    if run := find_run(source, runs, cell):
        return run.store.folder(choose_cell(run, "unet", "U-Net", cell)["stages"]["unet"])
    path = Path(source)
    folder = path.parent if path.name == _WEIGHTS else path
    if not (folder / _WEIGHTS).is_file():
        raise unknown_source(source, "U-Net", _WEIGHTS, runs)
    return folder


def open_segmenter(folder: Path, device: str, *, overlap: float, batch: int) -> "Segmenter":
    """The network of a `train_unet` folder, ready. Raises InputError for files that are damaged or lack something."""
    try:
        known = json.loads((folder / "unet.json").read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in known]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / 'unet.json'}: cannot be read ({error}); train the network again") from None
    if missing:
        raise InputError(f"{folder / 'unet.json'}: lacks {', '.join(missing)} (an earlier version's); train it again")
    try:
        unet, facts = open_unet(folder, device)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / _WEIGHTS}: does not fit unet.json ({reason})") from None
    refuse_non_finite(unet, folder / _WEIGHTS)
    return Segmenter(unet, facts, device, overlap, batch)


def images_of(paths: Sequence[Path]) -> list[Path]:
    """The images themselves, and of a folder every scan in it, by name, but for further channels in nnU-Net's folders.

    Raises InputError for a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if is_volume(file) and not file.name.startswith("."))
        if _is_nnunet(path):
            inside = [file for file in inside if not (match := _CHANNELS.fullmatch(_stem(file))) or match[2] == "0000"]
        if not inside:
            raise InputError(f"{path}: no scan (.nii.gz, .mha, ...) in this folder; name files, or another folder")
        found += inside
    return found


def output_names(images: Sequence[Path]) -> dict[Path, str]:
    """A name for each image's results: its own, with as many of its folders before it as tell it from the others.

    A scan in a folder of nnU-Net's has the name of its case, which is that of its label: without the channel `_0000`.

    Raises InputError for a file that is given twice, and for names that cannot be told apart.
    """
    resolved: dict[Path, Path] = {}
    for image in images:
        first = resolved.setdefault(image.resolve(), image)
        if first is not image:
            raise InputError(f"{image}: given twice (as {first}); name it once")
    parts = {image: (*image.resolve().parts[1:-1], _case(image)) for image in images}
    names = {}
    for image in images:
        for depth in range(1, len(parts[image]) + 1):
            tails = [tuple(other[-depth:]) for other in parts.values()]
            if tails.count(parts[image][-depth:]) == 1:
                break
        names[image] = "_".join(parts[image][-depth:])
    for image in images:
        twins = [other for other in images if names[other] == names[image]]
        if len(twins) > 1:
            raise InputError(f"{twins[1]}: its results would have the name of those of {twins[0]}; rename one")
    return names


def _stem(image: Path) -> str:
    ending = next((ending for ending in VOLUME_ENDINGS if image.name.lower().endswith(ending)), "")
    return image.name[: len(image.name) - len(ending)]


def _case(image: Path) -> str:
    match = _CHANNELS.fullmatch(_stem(image))
    return match[1] if match and match[2] == "0000" and _is_nnunet(image.resolve().parent) else _stem(image)


def _is_nnunet(folder: Path) -> bool:
    return folder.name.lower() in _NNUNET_FOLDERS


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained U-Net with what its training data were like."""

    unet: UNet
    facts: UNetFacts
    device: str
    overlap: float
    batch: int

    def read(self, path: Path, nan: float | None = None) -> Volume:
        """An image, checked; with `nan`, NaN voxels become that.

        Raises InputError as `load_volume`, and for a constant image.
        """
        volume = load_volume(path, nan=nan)
        if volume.data.min() == volume.data.max():
            raise InputError(f"{path}: constant image (every voxel is {volume.data.flat[0]:g}); export it again")
        return volume

    def warning(self, path: Path, volume: Volume) -> str | None:
        """Where its voxels are of another size than those that the network learned from."""
        learned = self.facts["spacing_mm"]
        ratios = np.divide(volume.spacing_mm, learned)
        if max(ratios.max(), 1 / ratios.min()) <= SPACING_TOLERANCE:
            return None
        here, there = (" x ".join(f"{length:.3g}" for length in spacing) for spacing in (volume.spacing_mm, learned))
        return f"{path}: voxels of {here} mm, but the network learned from {there} mm"

    def one_batch(self) -> None:
        """Compute as many empty tiles as are computed at a time."""
        tiles = torch.zeros(self.batch, 1, *self.facts["patch"], device=self.device)
        with choose_precision(self.facts["precision"], self.device).autocast():
            self.unet(tiles.contiguous(memory_format=torch.channels_last_3d))

    def segment(
        self,
        path: Path,
        volume: Volume,
        stem: Path,
        *,
        probability: bool,
        resample: bool,
        progress: Callable[[int, int], None],
    ) -> Segmented:
        """Write `STEM_vessels.nii.gz` (uint8) and, if wanted, `STEM_probability.nii.gz` (float32), on the file's grid.

        With `resample` the network sees the image at the spacing that it was trained with, and its probabilities are
        brought back before the threshold.
        """
        image = scaled(volume.data, robust_range(volume.data), self.facts["intensity_scaling"])
        if resample:
            image = resample_image(image, volume.spacing_mm, self.facts["spacing_mm"])
        values = segment_volume(
            self.unet,
            image,
            self.facts["patch"],
            precision=choose_precision(self.facts["precision"], self.device),
            overlap=self.overlap,
            batch=self.batch,
            progress=progress,
        )
        del image
        if resample:
            values = resample_image(values, self.facts["spacing_mm"], volume.spacing_mm, volume.data.shape)
        affine = read_stored(path)[1]
        turned = as_in_file(affine, values)
        placed_as = path if is_nifti(path) else None
        vessels = turned > self.facts["threshold"]
        files = [stem.with_name(f"{stem.name}_vessels.nii.gz")]
        save_volume(files[0], vessels, affine, "vessels: 1", placed_as=placed_as)
        if probability:
            files.append(stem.with_name(f"{stem.name}_probability.nii.gz"))
            save_volume(files[1], turned, affine, "probability of vessel", placed_as=placed_as)
        voxels = int(np.count_nonzero(vessels))
        return Segmented(tuple(files), voxels * float(np.prod(volume.spacing_mm)) / 1000, voxels / vessels.size)
