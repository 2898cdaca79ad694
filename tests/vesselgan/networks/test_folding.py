"""Folded convolutions and the generator's last block against the plain layers that they stand for, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesselgan.networks import UpsampleConv3d, last_block
from vesselgan.networks.folding import (
    fold,
    folded_conv3d,
    folded_weight,
    folded_weight_gradient,
    strided_conv3d,
    unfold,
)
from vesselgan.networks.upsampling import transposed_weight, transposed_weight_gradient

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def random(*shape: int, seed: int = 0, wanted: bool = True) -> Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_(wanted)


def test_a_block_of_eight_voxels_becomes_eight_channels_and_back() -> None:
    volumes = random(2, 3, 4, 6, 8, wanted=False)
    blocks = fold(volumes)
    assert blocks.shape == (2, 24, 2, 3, 4)
    for corner in range(8):
        x, y, z = corner >> 2, corner >> 1 & 1, corner & 1
        torch.testing.assert_close(blocks[:, 3 * corner : 3 * corner + 3], volumes[:, :, x::2, y::2, z::2])
    torch.testing.assert_close(unfold(blocks), volumes)


@pytest.mark.parametrize("size", [(2, 2, 2), (4, 6, 8)])
def test_a_folded_convolution_equals_the_ordinary_one_at_the_borders_too(size: tuple[int, int, int]) -> None:
    x, convolution = random(2, 5, *size), nn.Conv3d(5, 2, 3, padding=1).double()
    torch.testing.assert_close(folded_conv3d(x, convolution), convolution(x), **EXACT)


@pytest.mark.parametrize(
    ("derive", "gradient_of"),
    [(folded_weight, folded_weight_gradient), (transposed_weight, transposed_weight_gradient)],
)
def test_the_gradient_of_derived_taps_is_autograds(
    derive: Callable[[Tensor], Tensor], gradient_of: Callable[[Tensor], Tensor]
) -> None:
    weight = random(2, 5, 3, 3, 3)
    taps = derive(weight)
    arriving = random(*taps.shape, seed=1, wanted=False)
    (expected,) = torch.autograd.grad(taps, weight, arriving)
    torch.testing.assert_close(gradient_of(arriving), expected, **EXACT)


@pytest.mark.parametrize("size", [(2, 2, 2), (8, 6, 4)])
def test_a_strided_convolution_has_the_gradients_of_a_gradient_penalty(size: tuple[int, int, int]) -> None:
    inputs = (random(2, 2, *size), random(5, 2, 3, 3, 3, seed=1), random(5, seed=2))

    def penalised(convolve: Callable[..., Tensor]) -> list[Tensor]:
        result = convolve(*inputs)
        (inner,) = torch.autograd.grad(result.square().sum(), inputs[0], create_graph=True)
        loss = (inner.norm() - 1).square() + result.sum()
        return [result, inner, *torch.autograd.grad(loss, inputs)]

    expected = penalised(lambda x, weight, bias: F.conv3d(x, weight, bias, stride=2, padding=1))
    for found, wanted in zip(penalised(strided_conv3d), expected, strict=True):
        torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("piece_bytes", [1, 3 * 2 * 8 * 16 * 8, 2**30])
def test_the_last_block_equals_its_four_layers_in_pieces_of_any_size(
    piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(last_block.__globals__["_PIECE_BYTES"], "cpu", piece_bytes)
    upsample, norm, output = UpsampleConv3d(6, 4), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 3, padding=1)
    layers = nn.Sequential(upsample, norm, nn.ReLU(), output).double()
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 0.5)
    hidden = random(5, 6, 2, 4, 2, seed=1)  # 5 samples: the last piece is a smaller one
    arriving = random(5, 2, 4, 8, 4, seed=2, wanted=False)

    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    expected = layers(hidden)
    gradients = torch.autograd.grad(expected, [hidden, *layers.parameters()], arriving)
    after = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    norm.load_state_dict(before, strict=False)

    found = last_block(hidden, upsample, norm, output)
    torch.testing.assert_close(found, expected, **EXACT)
    names = ["hidden", *dict(layers.named_parameters())]
    for name, one, other in zip(
        names, torch.autograd.grad(found, [hidden, *layers.parameters()], arriving), gradients, strict=True
    ):
        torch.testing.assert_close(one, other, **EXACT, msg=lambda text, name=name: f"{name}: {text}")
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, after[name], **EXACT)


def test_the_last_block_refuses_a_second_derivative() -> None:
    upsample, norm, output = UpsampleConv3d(3, 4), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 3, padding=1)
    hidden = torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        last_block(hidden, upsample, norm, output).square().sum(), hidden, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_last_block_refuses_to_go_backward_twice() -> None:
    upsample, norm, output = UpsampleConv3d(3, 4), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 3, padding=1)
    total = last_block(torch.randn(2, 3, 2, 2, 2), upsample, norm, output).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        total.backward()
