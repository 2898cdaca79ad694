"""MedicalNet's ResNet-10."""

import pytest
import torch

from vesselgan.networks import ResNet10


@pytest.fixture(scope="module")
def resnet() -> ResNet10:
    torch.manual_seed(0)
    return ResNet10().eval()


def test_keys_and_shapes_are_those_of_medicalnet(resnet: ResNet10) -> None:
    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        kinds = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{kind}": (width,) for kind in kinds} | {f"{name}.num_batches_tracked": ()}

    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 1, 7, 7, 7), **norm("bn1", 64)}
    for stage, (before, width) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
        block = f"layer{stage}.0"
        expected |= {f"{block}.conv1.weight": (width, before, 3, 3, 3), **norm(f"{block}.bn1", width)}
        expected |= {f"{block}.conv2.weight": (width, width, 3, 3, 3), **norm(f"{block}.bn2", width)}
        if before != width:
            expected |= {f"{block}.downsample.0.weight": (width, before, 1, 1, 1)}
            expected |= norm(f"{block}.downsample.1", width)
    assert {name: tuple(tensor.shape) for name, tensor in resnet.state_dict().items()} == expected


def test_features_are_512_global_averages(resnet: ResNet10) -> None:
    with torch.no_grad():
        features = resnet(torch.randn(3, 1, 32, 24, 16))
    assert features.shape == (3, 512)
    assert bool((features >= 0).all())


def test_dilated_stages_keep_the_resolution_of_an_eighth(resnet: ResNet10) -> None:
    with torch.no_grad():
        hidden = torch.zeros(1, 64, 8, 8, 4)  # what the stem makes of 32 x 32 x 16
        shapes = []
        for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            hidden = stage(hidden)
            shapes.append(tuple(hidden.shape[1:]))
    assert shapes == [(64, 8, 8, 4), (128, 4, 4, 2), (256, 4, 4, 2), (512, 4, 4, 2)]
    convolutions = [resnet.layer3[0].conv1, resnet.layer3[0].conv2, resnet.layer4[0].conv1, resnet.layer4[0].conv2]
    assert [convolution.dilation[0] for convolution in convolutions] == [2, 2, 4, 4]
