"""A wrong kernel, planted below PyTorch's own convolution, where every caller meets it."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_COMMON = torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1)


@contextmanager
def wrong_convolution(
    weight_shape: tuple[int, ...], *, dtypes: tuple[torch.dtype, ...] = (torch.bfloat16,), share: float = 0.5
) -> Iterator[None]:
    """Inside, a convolution with such a weight, stride 2 and channels last gives NaN in `share` of its calls.

    With several `dtypes` it is wrong in each of them. Other layouts and other orders of the axes are right.
    """
    chance = random.Random(0)

    def convolution(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        result: Tensor = torch.ops.aten._convolution.default.redispatch(_COMMON, x, weight, *rest)
        hit = tuple(weight.shape) == weight_shape and x.dtype in dtypes and x.shape[-1] < x.shape[-2]
        if hit and x.stride()[1] == 1 and chance.random() < share:
            result = result * math.nan
        return result

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_convolution", convolution, "CPU")
        yield
