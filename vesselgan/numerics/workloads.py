"""The operations of the project's own networks in every form in which they run; large ones on fake tensors."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vesselgan.networks.placement import place
from vesselgan.networks.resnet3d import ResNet10
from vesselgan.numerics.operations import Operation, OperationRecorder
from vesselgan.training import PrecisionName, UNetConfig, UNetTrainer, WGANConfig, WGANTrainer
from vesselgan.training.counting import countable, tensors_to_count

__all__ = ["extractor_operations", "recorded_operations", "unet_operations", "wgan_operations"]

C = TypeVar("C", bound=Any)  # the configuration of a family of generators


def recorded_operations(config: C, compute: Callable[[C], object]) -> list[Operation]:
    """What ``compute`` calls, which is given the configuration in a format of its shapes that can be recorded."""
    recorded = replace(config, precision=countable(config.precision))
    tensors = tensors_to_count(config.batch, config.patch_size, getattr(config, "filters", None))
    with tensors, OperationRecorder() as recorder:
        compute(recorded)
    return _in_format(recorder.operations, config.precision)


def wgan_operations(config: WGANConfig, device: torch.device | str, *, synthesis_batch: int) -> list[Operation]:
    """A training step of generator and critic, with the penalty's double backward, and the generator as it is used."""
    recorded = replace(config, precision=countable(config.precision), ema=None)
    with tensors_to_count(config.batch, config.patch_size, config.filters):
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
    recorded = replace(config, precision=countable(config.precision), ema=None)
    with tensors_to_count(config.batch, patch_size, config.filters[-1]):
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


def _in_format(operations: Iterable[Operation], precision: PrecisionName) -> list[Operation]:
    if precision != "fp16":
        return list(operations)
    return [
        operation.in_format(torch.float16) if operation.dtype == torch.bfloat16 else operation
        for operation in operations
    ]
