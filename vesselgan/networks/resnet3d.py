"""MedicalNet's ResNet-10 (Chen et al. 2019, "Med3D"), the paper's feature extractor."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet10"]


class ResNet10(nn.Module):
    """Four basic blocks after a 7x7x7 stem; the last two stages are dilated by 2 and 4 and keep their resolution.

    Modules are named as in MedicalNet, so that the state of its ``resnet_10_23dataset.pth`` (without the ``module.``
    prefix) loads with ``load_state_dict``. Untrained weights are Kaiming-normal (fan out), BatchNorm 1 and 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.layer1 = nn.Sequential(_BasicBlock(64, 64))
        self.layer2 = nn.Sequential(_BasicBlock(64, 128, stride=2))
        self.layer3 = nn.Sequential(_BasicBlock(128, 256, dilation=2))
        self.layer4 = nn.Sequential(_BasicBlock(256, 512, dilation=4))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, X, Y, Z), z-scored -> globally averaged features (B, 512)."""
        *_, last = self.stages(images)
        return last.mean(dim=(2, 3, 4))

    def stages(self, images: Tensor) -> Iterator[Tensor]:
        """Activations (B, 64 to 512, x, y, z) of the stem and of each stage, each computed when it is asked for."""
        hidden = torch.relu_(self.bn1(self.conv1(images)))
        yield hidden
        hidden = F.max_pool3d(hidden, kernel_size=3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
            yield hidden


class _BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a 1x1x1 convolution where the shape changes (type B)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(hidden)) + shortcut)
