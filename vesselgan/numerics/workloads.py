"""The operations of the project's own networks in every form in which they run; large ones on fake tensors."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vesselgan.networks.placement import place
from vesselgan.networks.resnet3d import ResNet10
from vesselgan.numerics.operations import Operation, OperationRecorder
from vesselgan.training import PrecisionName, UNetConfig, UNetTrainer, WGANConfig, WGANTrainer

__all__ = ["extractor_operations", "recorded_operations", "unet_operations", "wgan_operations"]

_LARGE = 1 << 24  # voxels of a batch times filters: there a step of a core takes a tenth of a second

# Recorded in a format of the same shapes: a GradScaler would have to read numbers that are not there.
_RECORDED_AS: dict[str, PrecisionName] = {"fp16": "bf16", "tf32": "fp32"}  # and a CPU has no TF32


def recorded_operations(
    precision: PrecisionName, compute: Callable[[PrecisionName], object], *, fake: bool = True
) -> list[Operation]:
    """What ``compute(precision)`` calls, by default on fake tensors; it is given a format of these shapes."""
    with FakeTensorMode() if fake else nullcontext(), OperationRecorder() as recorder:
        compute(_RECORDED_AS.get(precision, precision))
    return _in_format(recorder.operations, precision)


def wgan_operations(config: WGANConfig, device: torch.device | str, *, synthesis_batch: int) -> list[Operation]:
    """A training step of generator and critic, with the penalty's double backward, and the generator as it is used."""
    recorded = replace(config, precision=_RECORDED_AS.get(config.precision, config.precision), ema=None)
    with _tensors(config.batch, config.patch_size, config.filters):
        trainer = WGANTrainer(recorded, device)
        real = torch.zeros(config.batch, 2, *config.patch_size)
        with OperationRecorder() as recorder:
            trainer.step(real)
            for mode in (True, False):  # D7 generates in training mode
                trainer.generator.train(mode)
                with torch.no_grad(), trainer.precision.autocast():
                    trainer.generator(torch.zeros(synthesis_batch, config.latent, device=device))
    return _in_format(recorder.operations, config.precision)


def unet_operations(
    config: UNetConfig, device: torch.device | str, patch_size: Sequence[int], *, inference_batches: Iterable[int]
) -> list[Operation]:
    """A training step, and inference on so many tiles of the patch size at a time."""
    recorded = replace(config, precision=_RECORDED_AS.get(config.precision, config.precision), ema=None)
    with _tensors(config.batch, patch_size, config.filters[-1]):
        trainer = UNetTrainer(recorded, device)
        patches = torch.zeros(config.batch, 1, *patch_size)
        with OperationRecorder() as recorder:
            trainer.step(patches, patches)
            trainer.unet.eval()
            for batch in inference_batches:
                with torch.no_grad(), trainer.precision.autocast():
                    tiles = torch.zeros(batch, 1, *patch_size, device=device).contiguous(
                        memory_format=torch.channels_last_3d
                    )
                    trainer.unet(tiles)
    return _in_format(recorder.operations, config.precision)


def extractor_operations(
    device: torch.device | str, patch_size: Sequence[int], *, batches: Iterable[int], stages: int
) -> list[Operation]:
    """The first stages of the extractor's network, its stem being one, on so many patches at a time, in float32."""
    recorder = OperationRecorder()
    with FakeTensorMode(), torch.no_grad(), recorder:
        net = ResNet10().eval()
        place(net, device, torch.preserve_format)
        for batch in batches:
            deque(islice(net.stages(torch.zeros(batch, 1, *patch_size, device=device)), stages), maxlen=0)
    return recorder.operations


def _tensors(batch: int, patch_size: Sequence[int], filters: int) -> AbstractContextManager[object]:
    """Fake ones, which take as long for every size; real ones where these are the faster."""
    return FakeTensorMode() if batch * math.prod(patch_size) * filters > _LARGE else nullcontext()


def _in_format(operations: Iterable[Operation], precision: PrecisionName) -> list[Operation]:
    if precision != "fp16":
        return list(operations)
    return [
        operation.in_format(torch.float16) if operation.dtype == torch.bfloat16 else operation
        for operation in operations
    ]
