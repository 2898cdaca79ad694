"""Patches -> feature vectors, for distances between distributions.

An extractor is a callable `batches -> (N, d)` with a name, a version and the SHA-256 of its weights, since a distance
means nothing without the features that it was taken on.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vesselgan.networks.importing import import_medicalnet
from vesselgan.networks.resnet3d import ResNet10

__all__ = ["Extractor", "ResNetFeatures", "medicalnet", "normalise", "random_resnet10"]

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
    """Globally averaged activations (512) of a 3D ResNet-10."""

    name: str
    net: ResNet10
    weights_sha256: str
    noise: Literal["noise", "none"] = "none"
    device: str = "cpu"
    version: int = 1

    def __call__(self, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Batches (B, X, Y, Z) in [-1, 1] -> features (N, 512), one batch in memory at a time."""
        rng = np.random.default_rng(0)
        net = self.net.to(self.device).eval()
        rows = []
        with torch.inference_mode():
            for batch in batches:
                patches = torch.from_numpy(normalise(batch, rng if self.noise == "noise" else None))[:, None]
                rows.append(net(patches.to(self.device)).double().cpu().numpy())
        return np.concatenate(rows)


def normalise(patches: NDArray[np.float32], rng: np.random.Generator | None = None) -> NDArray[np.float32]:
    """MedicalNet's input: z-scores (B, X, Y, Z) over each patch's voxels above its zero, here -1.

    With `rng`, zero voxels become N(0, 1) noise, as in the paper's code (D9); a constant patch becomes zeros.
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


def random_resnet10(*, noise: Literal["noise", "none"] = "none", device: str = "cpu") -> ResNetFeatures:
    """The offline default: MedicalNet's architecture with fixed random weights.

    Its distances rank models on one dataset; they cannot be compared with published MedicalNet distances.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        net = ResNet10()
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())).hexdigest()
    return ResNetFeatures("random_resnet10", net, digest, noise, device)


def medicalnet(weights: Path, *, noise: Literal["noise", "none"] = "none", device: str = "cpu") -> ResNetFeatures:
    """The paper's extractor, from a local `resnet_10_23dataset.pth`; no code in the file is executed.

    Raises InputError for a file that is not that network's, with the names that do not fit.
    """
    net, digest = import_medicalnet(weights)
    return ResNetFeatures("medicalnet", net, digest, noise, device)
