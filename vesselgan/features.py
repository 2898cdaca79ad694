"""Patches -> feature vectors, for distances between distributions.

An extractor is a callable `batches -> (N, d)` with a name, a version and the SHA-256 of its weights, since a distance
means nothing without the features that it was taken on.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesselgan.networks.importing import import_medicalnet
from vesselgan.networks.resnet3d import ResNet10
from vesselgan.recipe import FEWEST_INSIDE

__all__ = ["Extractor", "ResNetFeatures", "holds_enough", "medicalnet", "normalise", "random_resnet10"]

RANDOM_SEED = 20220  # part of the extractor's definition: another seed is another metric


class Extractor(Protocol):
    """What scores need: batches of patches in, one row of features per patch out."""

    name: str
    version: int
    weights_sha256: str

    def __call__(self, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Batches (B, X, Y, Z) in [-1, 1] -> features (N, d)."""


@dataclass
class ResNetFeatures:
    """Activations of a 3D ResNet-10, pooled over positions by `pool`."""

    name: str
    version: int
    weights_sha256: str
    net: ResNet10
    pool: Callable[[ResNet10, Tensor], Tensor]  # the net and (B, 1, X, Y, Z) -> (B, d)
    noise: Literal["noise", "none"] = "none"
    device: str = "cpu"

    def __call__(self, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Batches (B, X, Y, Z) in [-1, 1] -> features (N, d), one batch in memory at a time."""
        rng = np.random.default_rng(0)
        net = self.net.to(self.device).eval()
        rows = []
        with torch.inference_mode():
            for batch in batches:
                patches = torch.from_numpy(normalise(batch, rng if self.noise == "noise" else None))[:, None]
                rows.append(self.pool(net, patches.to(self.device)).double().cpu().numpy())
        return np.concatenate(rows)


def normalise(patches: NDArray[np.float32], rng: np.random.Generator | None = None) -> NDArray[np.float32]:
    """MedicalNet's input: z-scores (B, X, Y, Z) over each patch's voxels above its zero, here -1.

    With `rng`, zero voxels become N(0, 1) noise, as in the paper's code (D9); a constant patch becomes zeros.
    Without noise a patch should hold enough, see `holds_enough`: z-scores over a few voxels put its background far off.
    """
    scaled = np.empty_like(patches)
    for index, patch in enumerate(patches):
        inside = patch > -1
        values = patch[inside] if inside.any() else patch.ravel()
        spread = values.std()
        scaled[index] = (patch - values.mean()) / (spread if spread > 0 else 1)
        if rng is not None:
            scaled[index][~inside] = rng.standard_normal(int((~inside).sum()), dtype=np.float32)
    return scaled


def holds_enough(patches: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(B,) which patches (B, X, Y, Z) in [-1, 1] have features that mean something.

    They hold more than one value, and a share FEWEST_INSIDE of their voxels lies above -1, the zero that `normalise`
    knows: the mean and the SD of fewer say nothing of the rest, which is most of the patch. In scans without skull one
    such patch among 40 can be all of a Fréchet distance.
    """
    axes = (1, 2, 3)
    inside: NDArray[np.float64] = (patches > -1).mean(axis=axes)
    return np.asarray((inside >= FEWEST_INSIDE) & (patches.max(axis=axes) > patches.min(axis=axes)))


def random_resnet10(*, noise: Literal["noise", "none"] = "none", device: str = "cpu") -> ResNetFeatures:
    """The offline default: 256 features of MedicalNet's architecture with fixed random weights.

    They are the mean and the SD, over positions, of each channel of the stem and of the first stage. Chosen with
    `vesselgan.qualification` among other stages, plain random filters, hand-made statistics of intensities and
    gradients, and the nets of a brain extractor. Its distances rank models on one dataset; they cannot be compared
    with published MedicalNet distances.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        net = ResNet10()
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())).hexdigest()
    return ResNetFeatures("random_resnet10", 2, digest, net, _first_stages, noise, device)


def medicalnet(weights: Path, *, noise: Literal["noise", "none"] = "none", device: str = "cpu") -> ResNetFeatures:
    """The paper's extractor: globally averaged activations (512), from a local `resnet_10_23dataset.pth`.

    `vesselgan.hub.medicalnet_weights` downloads that file. No code in it is executed.
    Raises InputError for a file that is not that network's, with the names that do not fit.
    """
    net, digest = import_medicalnet(weights)
    return ResNetFeatures("medicalnet", 1, digest, net, ResNet10.forward, noise, device)


def _first_stages(net: ResNet10, images: Tensor) -> Tensor:
    """Mean and SD over positions of the stem's and the first stage's channels (B, 256): texture, not whole objects."""
    pooled = []
    for stage in islice(net.stages(images), 2):
        positions = stage.flatten(2)  # (B, 64, x y z)
        pooled += [positions.mean(dim=2), positions.std(dim=2)]
    return torch.cat(pooled, dim=1)
