"""Random numbers as a function of (seed, step, role): a resumed training needs no generator's state."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch

__all__ = ["generator_for", "global_random", "seed_for"]


def seed_for(seed: int, step: int, role: str) -> int:
    """A 63-bit seed of its own for each use of randomness; equal on every machine."""
    digest = blake2b(f"{seed}/{step}/{role}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(seed: int, step: int, role: str) -> torch.Generator:
    """A CPU generator for one role of one step; draw on the CPU and move, for the same numbers on every device."""
    return torch.Generator().manual_seed(seed_for(seed, step, role))


@contextmanager
def global_random(seed: int, step: int, role: str, device: torch.device | None = None) -> Iterator[None]:
    """Seed PyTorch's global generators inside, for code that draws from them (initial weights, dropout).

    The state from before is put back at the end, so that the caller's random numbers do not change.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        mixed = seed_for(seed, step, role)
        if cuda:
            torch.manual_seed(mixed)
        else:
            torch.default_generator.manual_seed(mixed)  # torch.manual_seed would reach the GPUs too
        yield
