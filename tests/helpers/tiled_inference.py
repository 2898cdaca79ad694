"""Networks and images for tiled segmentation, and MONAI's sliding window to compare it with."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vesselgan.networks import UNet
from vesselgan.training import choose_precision

FP32 = choose_precision("fp32", "cpu")
Image = NDArray[np.float32]


class VoxelWise(nn.Module):
    """A network whose answer for a voxel depends on that voxel only, so tiling must not show."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images


def noise(shape: tuple[int, ...]) -> Image:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def unet(filters: tuple[int, ...] = (4, 8)) -> UNet:
    torch.manual_seed(0)
    net = UNet(filters=filters)
    with torch.no_grad():  # untrained networks say nearly the same everywhere
        for _ in range(30):
            net.train()(torch.randn(2, 1, 16, 16, 16))
        net.output.weight.mul_(4)
    return net.to(memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]


def monai_inferer() -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("monai.inferers").sliding_window_inference  # type: ignore[no-any-return]


def by_monai(net: nn.Module, image: Image, tile: tuple[int, ...], overlap: float, batch: int, kind: str) -> Image:
    """What MONAI makes of the same network, tiles, overlap, batch and number format."""
    precision, sliding_window = choose_precision(kind, "cpu"), monai_inferer()

    def predictor(tiles: torch.Tensor) -> torch.Tensor:
        with precision.autocast():
            return net(tiles).float().sigmoid()

    with torch.inference_mode():
        probability = sliding_window(
            torch.from_numpy(image)[None, None],
            tile,
            batch,
            predictor,
            overlap=overlap,
            mode="gaussian",
            padding_mode="replicate",
        )
    result: Image = probability[0, 0].numpy()
    return result
