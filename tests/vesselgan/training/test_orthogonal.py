"""Orthogonalised steps: what becomes of singular values, and that the optimiser's habits are those of Adam."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vesselgan.training.orthogonal import OrthogonalAdam, orthogonalised

BETAS = (0.9, 0.99)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (8, 5, 3, 3, 3), (16, 16)])
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_directions_stay_and_singular_values_come_near_one(shape: tuple[int, ...], scale: float) -> None:
    matrix = seeded(*shape) * scale
    left, before, right = torch.linalg.svd(matrix.double().flatten(1), full_matrices=False)
    assert before[0] / before[-1] > 1.5
    (result,) = orthogonalised([matrix])
    assert result.shape == matrix.shape
    turned = left.T @ result.double().flatten(1) @ right.T
    values = turned.diagonal()
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.25
    assert float((turned - values.diag()).abs().max()) < 1e-3


def test_matrices_of_several_sizes_are_each_treated_as_if_alone_and_zero_stays_zero() -> None:
    matrices = [seeded(8, 20), seeded(4, 9, seed=1), seeded(20, 8, seed=2), torch.zeros(8, 30)]
    together = orthogonalised(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalised([matrix])[0], rtol=1e-4, atol=1e-5)
    assert together[3].eq(0).all()


def test_the_memory_format_makes_no_difference() -> None:
    filters = seeded(8, 5, 3, 3, 3)
    lies_otherwise = filters.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(orthogonalised([filters]), orthogonalised([lies_otherwise]))


def made(seed: int = 3) -> tuple[nn.Linear, OrthogonalAdam]:
    torch.manual_seed(seed)
    layer = nn.Linear(12, 6)
    return layer, OrthogonalAdam(layer.parameters(), [layer.weight], lr=0.1, lr_matrices=0.5, betas=BETAS)


def give_gradients(layer: nn.Linear, seed: int, scale: float = 1.0) -> None:
    layer.weight.grad, layer.bias.grad = seeded(6, 12, seed=seed) * scale, seeded(6, seed=seed + 100) * scale


def test_vectors_move_as_adam_moves_them_and_matrices_by_their_own_rate() -> None:
    layer, optimiser = made()
    plain = nn.Parameter(layer.bias.detach().clone())
    adam = torch.optim.Adam([plain], lr=0.1, betas=BETAS)
    for step in range(3):
        give_gradients(layer, step)
        plain.grad = layer.bias.grad
        before = layer.weight.detach().clone()
        optimiser.step()
        adam.step()
        torch.testing.assert_close(layer.bias, plain)
        lengths = torch.linalg.svdvals(layer.weight.detach() - before)
        assert 0.5 * 0.6 < float(lengths.min()) <= float(lengths.max()) < 0.5 * 1.25
        assert layer.weight.grad is not None, "the gradients stay readable"


def test_a_tall_matrix_moves_more_by_the_root_of_its_proportions() -> None:
    moved = []
    for shape in ((8, 32), (32, 8)):
        matrix = nn.Parameter(torch.zeros(shape))
        matrix.grad = seeded(8, 32).reshape(8, 32) if shape[0] == 8 else seeded(8, 32).T.contiguous()
        OrthogonalAdam([matrix], [matrix], lr=1, lr_matrices=1, betas=BETAS).step()
        moved.append(float(matrix.detach().norm()))
    assert moved[1] / moved[0] == pytest.approx(2, rel=1e-3)


def test_a_rejected_step_moves_nothing_whatever_the_gradients_are() -> None:
    layer, optimiser = made()
    give_gradients(layer, 0)
    optimiser.step()
    before = copy.deepcopy((layer.state_dict(), optimiser.state_dict()["state"]))
    give_gradients(layer, 1, scale=float("nan"))
    optimiser.found_inf = torch.ones(())
    optimiser.step()
    torch.testing.assert_close((layer.state_dict(), optimiser.state_dict()["state"]), before, rtol=0, atol=0)


def test_scaled_gradients_count_as_what_they_were_before() -> None:
    (one, plain), (other, scaled) = made(), made()
    for step in range(2):
        give_gradients(one, step)
        give_gradients(other, step, scale=2.0 ** (10 + step))
        plain.step()
        scaled.grad_scale, scaled.found_inf = torch.tensor(2.0 ** (10 + step)), torch.zeros(())
        scaled.step()
        torch.testing.assert_close(one.weight, other.weight)
        torch.testing.assert_close(one.bias, other.bias)


def test_it_goes_on_from_its_state() -> None:
    layer, optimiser = made()
    give_gradients(layer, 0)
    optimiser.step()
    twin, again = made(seed=4)
    twin.load_state_dict(layer.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for one, its_optimiser in ((layer, optimiser), (twin, again)):
        give_gradients(one, 1)
        its_optimiser.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)


def test_what_has_no_gradient_stays() -> None:
    layer, optimiser = made()
    before = layer.weight.detach().clone()
    layer.bias.grad = seeded(6)
    optimiser.step()
    assert torch.equal(layer.weight, before)
