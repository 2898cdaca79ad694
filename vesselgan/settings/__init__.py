"""What decides a training, without torch: a protocol's profile, a stage's key and a trainer share these dataclasses."""

from vesselgan.settings.autoregressive import AutoregressiveConfig
from vesselgan.settings.options import CriticNorm, PrecisionName, fingerprint, from_options, stored
from vesselgan.settings.wgan import Privacy, WGANConfig, WGANOptions

__all__ = [
    "AutoregressiveConfig",
    "CriticNorm",
    "PrecisionName",
    "Privacy",
    "WGANConfig",
    "WGANOptions",
    "fingerprint",
    "from_options",
    "stored",
]
