"""A group of processes on this machine that train together."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["in_processes"]

PATIENCE_S = 20.0  # that the others have to end after the first


@contextmanager
def in_processes(count: int, device: str, work: Callable[..., None], *arguments: Any) -> Iterator[str]:
    """Be the first of so many processes; the others call ``work(device, *arguments)``, which must be importable.

    Yields this process's device: on CUDA each has one of its own, of those that this process sees. They meet in a
    file, so no port is taken. The others end with the first, however that ends.
    """
    if count == 1:
        yield device
        return
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="training-") as folder:
        meeting, threads = Path(folder) / "group", torch.get_num_threads()
        others = [
            context.Process(
                target=_follow,
                args=(meeting, rank, count, threads, _own(device, rank), work, arguments),
                daemon=True,
            )
            for rank in range(1, count)
        ]
        for other in others:
            other.start()
        try:
            _join(meeting, 0, count, device)
            yield _own(device, 0)
            for other in others:
                other.join(PATIENCE_S)
        finally:
            for other in others:
                other.kill()
            if dist.is_initialized():
                dist.destroy_process_group()


def _own(device: str, rank: int) -> str:
    return f"cuda:{rank}" if device == "cuda" else device


def _join(meeting: Path, rank: int, count: int, device: str) -> None:
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=count)


def _follow(
    meeting: Path,
    rank: int,
    count: int,
    threads: int,
    device: str,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(threads)
    _join(meeting, rank, count, device)
    work(device, *arguments)
    dist.destroy_process_group()
    os._exit(0)  # without what libraries do on the way out, which nobody waits for


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
