"""The segmentation U-Net."""

import pytest
import torch

from vesselgan.errors import InputError
from vesselgan.networks import UNet
from vesselgan.networks.dropout import Dropout


def test_the_default_unet_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        unet = UNet()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 5_970_435


def test_logits_have_one_channel_and_the_input_size_for_any_depth() -> None:
    images = torch.randn(2, 3, 16, 8, 8)
    for filters in ((4, 8), (4, 6, 8, 10)):
        assert UNet(channels=3, filters=filters)(images).shape == (2, 1, 16, 8, 8)


def test_an_axis_that_cannot_be_halved_is_refused_with_the_nearest_size() -> None:
    with pytest.raises(InputError, match=r"multiple of 8.*\(24, 16, 8\)"):
        UNet(filters=(2, 2, 2, 2))(torch.zeros(1, 1, 22, 16, 3))


def test_a_single_level_is_refused() -> None:
    with pytest.raises(InputError, match="two levels"):
        UNet(filters=(8,))


def test_the_published_layers_stand_in_the_published_order() -> None:
    kinds = [type(layer).__name__ for layer in UNet(filters=(2, 4)).modules() if not list(layer.children())]
    level = ["ReLU", "BatchNorm3d", "Dropout", "Conv3d", "ReLU", "BatchNorm3d"]
    assert kinds == [
        "BatchNorm3d",
        *("Conv3d", *level),
        *("Conv3d", *level),
        *("Conv3d", "ReLU", "Conv3d", "ReLU"),
        *("_SkipConv3d", *level),
        "Conv3d",
    ]


def test_evaluation_mode_is_deterministic_and_training_mode_drops_out() -> None:
    torch.manual_seed(0)
    unet, images = UNet(filters=(4, 8), dropout=0.5), torch.randn(1, 1, 8, 8, 8)
    assert not torch.equal(unet(images), unet(images))
    assert torch.equal(unet.eval()(images), unet(images))
    assert all(layer.p == 0.5 for layer in unet.modules() if isinstance(layer, Dropout))


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_the_network_for_inference_has_the_same_values_to_the_bit(autocast: bool) -> None:
    torch.manual_seed(0)
    plain, images = UNet(filters=(4, 6, 8)).eval(), torch.randn(2, 1, 8, 12, 4)
    for layer in plain.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            for values in (layer.weight, layer.bias, layer.running_mean):
                torch.nn.init.normal_(values)  # type: ignore[arg-type]
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    plain.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    before = {name: values.clone() for name, values in plain.state_dict().items()}
    given = images.clone()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, fast = plain(images), plain.for_inference()(images)
        # Laid out otherwise, norms are computed in another order.
        contiguous = plain.to(memory_format=torch.contiguous_format).for_inference()(images)  # type: ignore[call-overload]
    assert expected.float().std() > 0.01
    assert torch.equal(fast, expected)
    torch.testing.assert_close(contiguous, expected, rtol=0, atol=0.05 if autocast else 1e-5)
    assert torch.equal(images, given)
    assert all(torch.equal(values, before[name]) for name, values in plain.state_dict().items())


def test_a_network_in_training_mode_has_no_form_for_inference() -> None:
    with pytest.raises(ValueError, match=r"eval\(\)"):
        UNet(filters=(2, 4)).for_inference()
