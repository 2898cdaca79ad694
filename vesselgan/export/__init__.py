"""Labelled patches -> a dataset folder that other tools read: nnU-Net raw, BIDS, or npz stacks."""

from vesselgan.export.bids import BidsLayout
from vesselgan.export.folder import MakePairs, Pairs, PairSource, write_dataset
from vesselgan.export.intensities import Intensities
from vesselgan.export.layouts import About, Layout, NnunetLayout, NpzLayout
from vesselgan.export.volume_bytes import VolumeEncoder

__all__ = [
    "About",
    "BidsLayout",
    "Intensities",
    "Layout",
    "MakePairs",
    "NnunetLayout",
    "NpzLayout",
    "PairSource",
    "Pairs",
    "VolumeEncoder",
    "write_dataset",
]
