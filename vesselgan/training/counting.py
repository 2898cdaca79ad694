"""How a step is made that is only looked at, for the operations that it calls or the memory that it takes."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch._subclasses.fake_tensor import FakeTensorMode

from vesselgan.settings.options import PrecisionName

__all__ = ["countable", "tensors_to_count"]

_LARGE = 1 << 31  # voxels of a batch times filters squared: there a step of a core takes a fifth of a second


def tensors_to_count(batch: int, patch_size: Sequence[int], filters: object) -> AbstractContextManager[object]:
    """Around the making of trainer and step: fake tensors, which take as long for every size, or real ones if faster.

    ``filters`` is their number at the widest level; where it is no number, nobody knows how large the networks are.
    """
    is_small = isinstance(filters, int) and batch * math.prod(patch_size) * filters**2 <= _LARGE
    return nullcontext() if is_small else FakeTensorMode()


def countable(precision: PrecisionName) -> PrecisionName:
    """A format of equal shapes, bytes and products that any CPU can count.

    A GradScaler would have to read numbers that fake tensors lack, and a CPU has no TF32.
    """
    alike: dict[PrecisionName, PrecisionName] = {"fp16": "bf16", "tf32": "fp32"}
    return alike.get(precision, precision)
