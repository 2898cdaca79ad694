"""What decides a training, without torch: a protocol's profile, a stage's key and a trainer share these dataclasses."""

from vesselgan.settings.autoregressive import AutoregressiveConfig
from vesselgan.settings.options import CriticNorm, PrecisionName, fingerprint, from_options
from vesselgan.settings.wgan import Privacy, WGANConfig

__all__ = [
    "AutoregressiveConfig",
    "CriticNorm",
    "PrecisionName",
    "Privacy",
    "WGANConfig",
    "fingerprint",
    "from_options",
]
