"""Two steps of a WGAN, and the gradients of a third, by the processes that torchrun started; or by one, without it.

    torchrun --standalone --nproc-per-node 2 data_parallel_step.py OUT NORM DTYPE BATCH_NORM

BATCH_NORM is `sync`, `local`, or `static` for what is refused: `sync` with DistributedDataParallel's `static_graph`.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from vesselgan.settings import WGANConfig
from vesselgan.training.data_parallel import DataParallelTrainer
from vesselgan.training.wgan import WGANTrainer

__all__ = ["SIZE", "gradients"]

SIZE = (32, 16, 16)


def gradients(norm: str, dtype: str, batch_norm: str | None) -> dict[str, torch.Tensor]:
    """By network and parameter, and the readings of the last whole step."""
    torch.set_num_threads(1)
    config = WGANConfig(patch_size=SIZE, steps=9, seed=3, filters=16, batch=4, norm=norm)
    rng = torch.Generator().manual_seed(0)
    real = (torch.rand(4, 2, *SIZE, generator=rng) * 2 - 1).to(getattr(torch, dtype))
    kind = getattr(torch, dtype)
    if batch_norm is None:
        trainer = WGANTrainer(config, "cpu", dtype=kind)
    else:
        wanted = "sync" if batch_norm == "static" else batch_norm
        trainer = DataParallelTrainer(replace(config, processes=2, batch_norm=wanted), "cpu", dtype=kind)
        real = trainer.share(real)
        if batch_norm == "static":
            trainer._learning_critic = DistributedDataParallel(
                trainer.critic, broadcast_buffers=False, static_graph=True
            )
    found = {}
    # In single precision the first one: Adam begins with the signs of gradients, also of those that are rounding.
    for _ in range(2 if dtype == "float64" else 0):
        found = {f"reading {name}": value.double() for name, value in trainer.step(real).items()}
    trainer.update_critic(real)
    found |= {f"critic {name}": each.grad.clone() for name, each in trainer.critic.named_parameters()}
    trainer.update_generator(len(real))
    found |= {f"generator {name}": each.grad.clone() for name, each in trainer.generator.named_parameters()}
    found |= {f"buffer {name}": each.clone() for name, each in trainer.generator.named_buffers()}
    return found


if __name__ == "__main__":
    out, norm, dtype, batch_norm = sys.argv[1:]
    dist.init_process_group("gloo")
    torch.save(gradients(norm, dtype, batch_norm), Path(out) / f"{os.environ['RANK']}.pt")
    dist.destroy_process_group()
