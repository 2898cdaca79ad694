"""Segmentation without learning: one global threshold, and a line filter with one. The bar for what was learned."""

from vesselgan.untrained.rules import METHODS, LabelledVolume, Method, UntrainedRule, fit, segment
from vesselgan.untrained.sato import default_scales_mm, vesselness

__all__ = [
    "METHODS",
    "LabelledVolume",
    "Method",
    "UntrainedRule",
    "default_scales_mm",
    "fit",
    "segment",
    "vesselness",
]
