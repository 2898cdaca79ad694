"""3D generative models of labelled vessel MRI: networks, training, data, synthesis and metrics.

Names load on first use, so that ``import vesselgan.metrics`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vesselgan.networks.critic import Critic
    from vesselgan.networks.generator import Generator
    from vesselgan.networks.unet import UNet
    from vesselgan.variants import VARIANTS

__version__ = "0.1.0"
__all__ = ["VARIANTS", "Critic", "Generator", "UNet", "__version__"]

_HOME = {
    "Critic": "vesselgan.networks.critic",
    "Generator": "vesselgan.networks.generator",
    "UNet": "vesselgan.networks.unet",
    "VARIANTS": "vesselgan.variants",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vesselgan' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
