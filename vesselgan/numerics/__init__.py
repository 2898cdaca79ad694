"""Does this machine's library compute what it is asked to? Kernels checked one by one, and ways around wrong ones.

Kernels have been wrong: oneDNN's bf16 convolution with AMX where the innermost output axis is 1 and its stride above 1
(pytorch/pytorch#169688: garbage, another at each call), cuDNN 9.10.2's bf16 conv3d (pytorch/pytorch#163539).
"""

from vesselgan.numerics.check import TOLERANCES, Finding, check_operations
from vesselgan.numerics.operations import Operation, OperationRecorder, TensorSpec
from vesselgan.numerics.remedies import Remedied, find_remedies, remedied
from vesselgan.numerics.trusted import trusted
from vesselgan.numerics.workloads import (
    extractor_operations,
    recorded_operations,
    unet_operations,
    wgan_operations,
)

__all__ = [
    "TOLERANCES",
    "Finding",
    "Operation",
    "OperationRecorder",
    "Remedied",
    "TensorSpec",
    "check_operations",
    "extractor_operations",
    "find_remedies",
    "recorded_operations",
    "remedied",
    "trusted",
    "unet_operations",
    "wgan_operations",
]
