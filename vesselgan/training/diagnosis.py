"""Why a training's steps are bad: a last one is made again in a wider number format, and the answer names a remedy."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vesselgan.training.guard import Outcome

__all__ = ["WIDER", "diagnose"]

# What a format is checked against.
WIDER = {"bf16": "fp32", "fp16": "fp32", "tf32": "fp32", "fp32": "fp64"}


def diagnose(
    precision: str, batch: Sequence[Tensor], repeat: Callable[[], Tensor], *, rates: str, loss_scale: bool
) -> str:
    """One sentence with the reason and the remedy.

    ``batch`` is what the step was given, ``repeat()`` makes it again in ``WIDER[precision]`` from the same weights and
    random numbers and gives its Outcome, ``rates`` names the learning rates that one would lower. ``loss_scale`` tells
    that the gradients overflowed at a low loss scale.
    """
    wider = WIDER[precision]
    if not all(bool(part.isfinite().all()) for part in batch):
        return "the batch itself holds values that are not finite: python -m benchmark check-data looks at the data"
    try:
        bad = int(repeat()) > Outcome.LOSS_SCALE
    except torch.OutOfMemoryError:
        return f"there was no memory to try {wider}: lower the learning rates ({rates}) or choose a wider number format"
    if bad:
        return f"the same step is bad in {wider} too, so the training diverges: lower the learning rates ({rates})"
    if loss_scale:
        return f"the same step is right in {wider}, so float16's range is too small for this training: use bf16 or fp32"
    instead = {"fp32": "another device or PyTorch version", "fp16": "bf16 or fp32"}.get(precision, "fp32")
    return (
        f"the same step is right in {wider}, so it is the arithmetic of {precision} on this machine that fails: "
        f"python -m benchmark check-numerics names the operation; until then use {instead}"
    )
