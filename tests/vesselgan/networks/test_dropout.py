"""Dropout: how much it drops, what it leaves, and that its draws are all that decides it."""

import pytest
import torch

from vesselgan.networks.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_the_given_share_and_keeps_the_mean(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(2, 4, 32, 32, 33, dtype=dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
    y = Dropout(probability)(x)
    assert y.stride() == x.stride()
    values, counts = y.detach().unique(return_counts=True)
    torch.testing.assert_close(values.float(), torch.tensor([0, 1 / (1 - probability)]), rtol=4e-3, atol=0)
    expected = probability * x.numel()
    assert abs(counts[0] - expected) < 5 * (expected * (1 - probability)) ** 0.5
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, y)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(2**20)) == 0).double()
    # A 64-bit draw serves four voxels in a row.
    for lag in range(1, 9):
        correlation = torch.corrcoef(torch.stack((dropped[:-lag], dropped[lag:])))[0, 1]
        assert abs(float(correlation)) < 5e-3


def test_the_same_seed_drops_the_same_and_evaluation_drops_nothing() -> None:
    layer, x = Dropout(0.3), torch.rand(3, 5, 7)[:, :, ::2]
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert not torch.equal(drawn[0], drawn[2])
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
