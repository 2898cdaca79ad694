"""The generator's full-resolution end as one operation: upsampling convolution, BatchNorm, ReLU, output convolution.

Its tensors are the largest of a training step, and PyTorch would keep two of them and make two more in backward. Here
only the upsampled one is kept; the activation is computed again where backward needs it, in pieces of a few samples
that stay in the processor's cache, and gradients overwrite one another. Each convolution is taken, forwards and
backwards, in the form that is fast for it (``folding``, ``upsampling``). Same numbers but for rounding, and but for the
gradient of the bias before BatchNorm: rounding error around zero elsewhere, exactly zero here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vesselgan.networks.folding import fold, folded_weight, folded_weight_gradient, unfold
from vesselgan.networks.upsampling import UpsampleConv3d, transposed_weight, transposed_weight_gradient

__all__ = ["last_block", "pieces_as_on"]

# A piece's share of the upsampled tensor: small enough for a CPU's cache, large enough to keep a GPU busy.
_PIECE_BYTES = {"cpu": 2**22, "cuda": 2**28}
_counted_on: list[str] = []

_aten = torch.ops.aten


def last_block(hidden: Tensor, upsample: UpsampleConv3d, norm: nn.BatchNorm3d, output: nn.Conv3d) -> Tensor:
    """``output(relu(norm(upsample(hidden))))`` in training mode: (B, I, X, Y, Z) -> (B, O, 2X, 2Y, 2Z).

    Updates the running statistics of ``norm``. Differentiable once.
    """
    mean_before, variance_before, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean_before is not None
    assert variance_before is not None
    assert batches is not None
    assert norm.momentum is not None
    result, mean, variance = _LastBlock.apply(  # type: ignore[no-untyped-call]
        hidden, upsample.weight, upsample.bias, norm.weight, norm.bias, output.weight, output.bias, norm.eps
    )
    with torch.no_grad():
        count = result.numel() // result.shape[1]
        batches += 1
        mean_before.lerp_(mean, norm.momentum)
        variance_before.lerp_(variance * (count / (count - 1)), norm.momentum)
    return result  # type: ignore[no-any-return]


@contextmanager
def pieces_as_on(device_type: str) -> Iterator[None]:
    """Take pieces of the size that this device has, `cpu` or `cuda`: for whoever counts a GPU's memory without one."""
    _counted_on.append(device_type)
    try:
        yield
    finally:
        _counted_on.pop()


class _LastBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        up_weight: Tensor,
        up_bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        up_weight, up_bias, out_weight, out_bias = (
            tensor.to(hidden.dtype) for tensor in (up_weight, up_bias, out_weight, out_bias)
        )
        taps = transposed_weight(up_weight).contiguous(memory_format=torch.channels_last_3d)
        pieces = [F.conv_transpose3d(piece, taps, up_bias, stride=2, padding=1) for piece in _split(hidden, taps)]
        mean, variance = _statistics(pieces, gamma)
        ctx.eps = eps
        ctx.pieces = pieces  # by hand, for backward to let go of them one by one
        ctx.save_for_backward(hidden, up_weight, gamma, beta, out_weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        results, buffer = [], torch.empty_like(pieces[0])
        taps, bias = folded_weight(out_weight), out_bias.repeat(8)
        for piece in pieces:
            active = _normalise(piece, mean, variance, eps, gamma, beta, out=buffer).relu_()
            results.append(unfold(F.conv3d(active, taps, bias, stride=2, padding=1)))
        del active, buffer
        return torch.cat(results), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, up_weight, gamma, beta, out_weight, mean, variance = ctx.saved_tensors
        pieces, ctx.pieces = ctx.pieces, None
        if pieces is None:
            raise RuntimeError("the generator's last block can go backward only once")
        deviation = (variance + ctx.eps).sqrt()
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)

        taps, buffer = folded_weight(out_weight), torch.empty_like(pieces[0])
        sources, arriving = (torch.split(tensor, len(pieces[0])) for tensor in (hidden, gradient))

        def through_output(piece: Tensor, d_out: Tensor) -> tuple[Tensor, Tensor]:
            """A piece's activation, in the buffer, and the gradient of what went into the ReLU."""
            active = _normalise(piece, mean, variance, ctx.eps, gamma, beta, out=buffer).relu_()
            d_active = _conv_backward(d_out, active, out_weight, stride=1, wanted=(True, False))[0]
            _aten.threshold_backward.grad_input(d_active, active, 0, grad_input=d_active)
            return active, d_active

        # BatchNorm's backward needs sums over the whole batch before it can begin. What they are sums of is computed
        # again afterwards: that takes a few per cent of the time, and keeping it would take a third of the memory.
        d_out_weight, d_gamma, d_beta = (torch.zeros_like(tensor, dtype=gamma.dtype) for tensor in (taps, gamma, beta))
        for piece, d_out in zip(pieces, arriving, strict=True):
            active, d_normalised = through_output(piece, d_out)
            d_out_weight += _conv_backward(fold(d_out), active, taps, stride=2, wanted=(False, True))[1]
            _, more_gamma, more_beta = _aten.native_batch_norm_backward(
                d_normalised, piece, gamma, None, None, mean, 1 / deviation, True, ctx.eps, [False, True, True]
            )
            d_gamma += more_gamma
            d_beta += more_beta
            del d_normalised

        # dx = gamma / deviation * (dy - (d_beta + x_hat * d_gamma) / count), then through the upsampling convolution.
        count = gradient.numel() // gradient.shape[1]
        slope, offset = (-gamma / (deviation * count) * total for total in (d_gamma, d_beta))
        taps = transposed_weight(up_weight).contiguous(memory_format=torch.channels_last_3d)
        d_taps = torch.zeros_like(taps, dtype=gamma.dtype)
        zero, d_hidden = torch.zeros_like(gamma), []
        for source, d_out in zip(sources, arriving, strict=True):
            piece = pieces.pop(0)
            d_upsampled = through_output(piece, d_out)[1]
            _normalise(d_upsampled, zero, variance, ctx.eps, gamma, zero, out=d_upsampled)
            d_upsampled += _normalise(piece, mean, variance, ctx.eps, slope, offset, out=buffer)
            d_source, more_taps = _conv_backward(d_upsampled, source, taps, stride=2, transposed=True)
            d_hidden.append(d_source)
            d_taps += more_taps
            del piece, d_upsampled
        return (
            torch.cat(d_hidden),
            transposed_weight_gradient(d_taps),
            zero,
            d_gamma,
            d_beta,
            folded_weight_gradient(d_out_weight),
            gradient.sum((0, 2, 3, 4), dtype=gamma.dtype),
            None,
        )


def _split(hidden: Tensor, taps: Tensor) -> tuple[Tensor, ...]:
    """Samples in groups whose upsampled tensors are about a piece."""
    sample_bytes = hidden[0].numel() // hidden.shape[1] * 8 * taps.shape[1] * hidden.element_size()
    device_type = _counted_on[-1] if _counted_on else hidden.device.type
    return torch.split(hidden, max(1, _PIECE_BYTES[device_type] // sample_bytes))


def _statistics(pieces: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel over all pieces, in the number format of ``like``."""
    unused = torch.zeros_like(like)
    moments = [torch.batch_norm_update_stats(piece, unused, unused, 0.0) for piece in pieces]
    shares = like.new_tensor([len(piece) for piece in pieces])[:, None]
    shares = shares / shares.sum()
    means, variances = (torch.stack(list(values)) for values in zip(*moments, strict=True))
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


def _normalise(
    x: Tensor, mean: Tensor, variance: Tensor, eps: float, scale: Tensor, shift: Tensor, *, out: Tensor
) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * scale + shift``, in float32 inside, into the first samples of ``out``."""
    nothing = mean.new_empty(0)
    result: Tensor = _aten.native_batch_norm.out(
        x, scale, shift, mean, variance, False, 0.0, eps, out=out[: len(x)], save_mean=nothing, save_invstd=nothing
    )[0]
    return result


def _conv_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    stride: int,
    transposed: bool = False,
    wanted: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor]:
    """Gradients of a convolution's input and weight; padding 1."""
    d_x, d_weight, _ = _aten.convolution_backward(
        gradient, x, weight, None, [stride] * 3, [1] * 3, [1] * 3, transposed, [0] * 3, 1, [*wanted, False]
    )
    return d_x, d_weight
