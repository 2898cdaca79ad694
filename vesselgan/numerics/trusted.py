"""Computation on a machine that nobody has checked before: outside a run, where no stage has done it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from vesselgan.errors import InputError
from vesselgan.numerics.check import check_operations
from vesselgan.numerics.operations import OperationRecorder
from vesselgan.numerics.remedies import Remedied, find_remedies, remedied

__all__ = ["trusted"]


@contextmanager
def trusted(example: Callable[[], object], device: torch.device | str) -> Iterator[Sequence[Remedied]]:
    """Inside, the convolutions and products that ``example`` computes are right; yields those that were got round.

    ``example`` runs a network once, on as many samples at a time as will be. Its operations are compared with a wider
    format; a wrong one takes another way inside. Raises InputError where one is wrong in every way.
    """
    with OperationRecorder() as recorder, torch.no_grad():
        example()
    found = find_remedies(check_operations(recorder.operations, device), device)
    if beyond_help := [one.finding for one in found if one.way is None]:
        raise InputError(
            f"{beyond_help[0].format} is wrong on this machine with PyTorch {torch.__version__}: "
            f"{beyond_help[0].operation}; try another version, or another machine (check-numerics prints all)"
        )
    if not found:
        yield found
        return
    ways = dict.fromkeys(recorder.operations) | {one.finding.operation: one.way for one in found}
    with remedied(ways, device):
        yield found
