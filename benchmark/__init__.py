"""The harness: a protocol file goes in, a verified answer comes out."""

from vesselgan import __version__

__all__ = ["__version__"]
