"""Adam, but for matrices steps in which all directions count alike (Jordan et al. 2024, Muon).

Of the momentum of a matrix, such as a convolution's filters, a few singular values are large, and a step of Adam is
little else. Here all are made about 1. With few steps to make, a multiscale generator's coarse levels learn more so.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["OrthogonalAdam", "orthogonalised"]

_MOMENTUM = 0.95
_ROUNDS = 5
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at zero, and from about 0.7 to 1.2 up to 1
_SMALLEST = 1e-30


class OrthogonalAdam(torch.optim.Adam):
    """Fused Adam at the rate ``lr`` for all parameters but ``matrices``, which move by ``lr_matrices``.

    A matrix has two axes or more, of which those after the first count as one. As in fused Adam, what a GradScaler has
    scaled is divided by its ``grad_scale``, and nothing moves where ``found_inf`` is 1.
    """

    grad_scale: Tensor | None
    found_inf: Tensor | None

    def __init__(
        self,
        parameters: Iterable[Tensor],
        matrices: Sequence[Tensor],
        *,
        lr: float,
        lr_matrices: float,
        betas: tuple[float, float],
    ) -> None:
        orthogonal = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in parameters if id(parameter) not in orthogonal]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": list(matrices), "lr": lr_matrices}]
        super().__init__(groups, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of the parameters that have a gradient."""
        group = self.param_groups[1]
        moved = [matrix for matrix in group["params"] if matrix.grad is not None]
        gradients = [matrix.grad for matrix in moved]
        if moved:
            self._move(moved, gradients, group["lr"])
        for matrix in moved:
            matrix.grad = None  # so that Adam leaves it alone
        result = super().step(closure)
        for matrix, gradient in zip(moved, gradients, strict=True):
            matrix.grad = gradient
        return result

    def _move(self, matrices: list[Tensor], gradients: list[Tensor], lr: float) -> None:
        for matrix in matrices:
            if not self.state[matrix]:
                # Adam reads a step of every state that it loads.
                self.state[matrix] = {"step": torch.zeros(()), "momentum": torch.zeros_like(matrix)}
        scale, rejected = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        if scale is not None:
            gradients = list(torch._foreach_div(gradients, scale))
        momenta = [self.state[matrix]["momentum"] for matrix in matrices]
        new = torch._foreach_lerp(momenta, gradients, 1 - _MOMENTUM)
        changes = orthogonalised(torch._foreach_lerp(gradients, new, _MOMENTUM))  # Nesterov's
        for matrix, momentum, next_one, change in zip(matrices, momenta, new, changes, strict=True):
            # Tall ones move more, so that what comes of a change is as large for all shapes.
            change.mul_(-lr * max(1, len(change) ** 2 / change.numel()) ** 0.5)
            if rejected is None:
                momentum.copy_(next_one)
                matrix.add_(change)
            else:
                momentum.copy_(torch.where(rejected.bool(), momentum, next_one))
                matrix.add_(torch.where(rejected.bool(), 0, change))


def orthogonalised(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Of each matrix U S V' about U V', by the quintic iteration of Jordan et al. 2024; zero stays zero.

    S comes to lie between about 0.7 and 1.2, but for singular values below a thousandth of the matrix's norm. Only the
    small square X X' is iterated on, for all of one size at once.
    """
    # Channels last, as they lie in memory: the order of columns does not matter.
    flat = [matrix.movedim(1, -1).flatten(1) for matrix in matrices]
    wide = [matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T for matrix in flat]
    results = list(flat)
    for size in sorted({len(matrix) for matrix in wide}):
        members = [number for number, matrix in enumerate(wide) if len(matrix) == size]
        squares = torch.stack([(wide[number] @ wide[number].T).float() for number in members])
        traces = squares.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=_SMALLEST)[:, None, None]
        factors = _factors(squares / traces) * traces.rsqrt()
        for number, factor in zip(members, factors, strict=True):
            product = factor @ wide[number]
            results[number] = product if wide[number] is flat[number] else product.T
    channels_last = (matrix.movedim(1, -1).shape for matrix in matrices)
    return [result.reshape(shape).movedim(-1, 1) for result, shape in zip(results, channels_last, strict=True)]


def _factors(squares: Tensor) -> Tensor:
    """What matrices X with these X X' (N, m, m), whose traces are 1, are to be multiplied by from the left."""
    linear, cubic, quintic = _POLYNOMIAL
    one = torch.eye(squares.shape[-1], device=squares.device)
    factors = one
    for _ in range(_ROUNDS):
        turn = linear * one + cubic * squares + quintic * (squares @ squares)
        factors = turn @ factors
        squares = turn @ squares @ turn
    return factors
